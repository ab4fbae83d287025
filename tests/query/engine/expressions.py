"""Random predicates and values over the columns of a statement, in the SQL that DataFusion and DuckDB read alike."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

COMPARISONS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Column(NamedTuple):
    """A column: how SQL names it behind its table's alias, its kind, and whether it is a partition column."""

    name: str
    kind: str
    is_partition: bool


Scope = Sequence[tuple[str, Column]]

LITERALS = {
    "int": [*map(str, range(-4, 8)), "NULL"],
    "big": ["0", "7", "255", "18446744073709551615"],
    "float": ["0e0", "1.5e0", "-2.25e0", "7e0", "CAST('NaN' AS DOUBLE)", "CAST('Infinity' AS DOUBLE)", "NULL"],
    "str": ["'CA'", "'a:b'", "'..'", "'100%'", "'ü/日本'", "''", "'o''x'", "'zz'", "NULL"],
    "bool": ["TRUE", "FALSE", "NULL"],
    "date": ["DATE '2024-01-02'", "DATE '2024-02-29'", "DATE '1969-12-31'"],
    "ts": ["TIMESTAMP '2024-01-02 03:04:05'", "TIMESTAMP '1969-12-31 23:59:59'"],
    "tz": ["CAST('2024-01-02T03:04:05Z' AS TIMESTAMP WITH TIME ZONE)"],
    "dec": ["CAST('1.50' AS DECIMAL(9,2))", "CAST('-0.25' AS DECIMAL(9,2))", "CAST('0' AS DECIMAL(9,2))"],
}
KINDS = sorted(LITERALS)
WITHOUT_LITERALS = ("tz",)  # as values: the engines give a literal with a time zone other types
PATTERNS = ["C%", "%b", "_", "%", "", "a_b", "%%", "..%", "1__!%"]
_TYPES = {"int": "BIGINT", "float": "DOUBLE", "str": "VARCHAR", "bool": "BOOLEAN"}


@dataclass
class Expressions:
    """Writes parts of one statement.

    Args:
        rng: Draws everything.
        tables: The columns of `t` and `u`; each has a unique `id`.
        negative_zeros: The tables have some, which DataFusion's joins, lists and windows do not take for zeros.
    """

    rng: Random
    tables: Mapping[str, Sequence[Column]]
    negative_zeros: bool
    apart: dict[str, str] = field(default_factory=dict)
    aliases: int = 0

    def _where(self, scope: Scope, depth: int, *, subqueries: bool = True) -> str:
        draw = self.rng.random()
        if draw < 0.15:
            return ""
        if subqueries and draw < 0.25:
            return f" WHERE {self._membership(scope)} AND {self._predicate(scope, depth - 1, subqueries=False)}"
        where = f" WHERE {self._predicate(scope, depth, subqueries=subqueries)}"
        partition = [(alias, column) for alias, column in scope if column.is_partition]
        if draw < 0.5 and partition:  # which the catalog decides
            of_partition = self._comparison(self.rng.choice(partition)[1].kind, partition, 0)
            return f" WHERE {of_partition}" if draw < 0.35 else f"{where} AND {of_partition}"
        return where

    def _predicate(self, scope: Scope, depth: int, *, subqueries: bool = True) -> str:
        draw = self.rng.random()
        if depth and draw < 0.45:
            sides = [self._predicate(scope, depth - 1, subqueries=subqueries) for _ in range(2)]
            return f"({sides[0]} {self.rng.choice(['AND', 'OR'])} {sides[1]})"
        if depth and draw < 0.55:
            return f"NOT ({self._predicate(scope, depth - 1, subqueries=subqueries)})"
        if depth and draw < 0.60:
            condition, then = (self._predicate(scope, depth - 1, subqueries=False) for _ in range(2))
            return f"CASE WHEN {condition} THEN {then} ELSE {self._comparison(self._kind(), scope, 0)} END"
        if subqueries and draw < 0.70:
            return self._subquery(scope)
        return self._comparison(self._kind(), scope, min(depth, 1))

    def _comparison(self, kind: str, scope: Scope, depth: int) -> str:
        left = self._value(kind, scope, depth) if depth else self._of_column(kind, scope)
        maybe = self.rng.choice(["", "NOT "])
        right, other = (self._operand(kind, scope) for _ in range(2))
        forms = [
            f"{left} {self.rng.choice(['=', '<>', '<', '<=', '>', '>='])} {right}",
            f"{right} {self.rng.choice(['=', '<', '>='])} {left}",
            f"{left} {maybe}BETWEEN {right} AND {other}",
            f"{left} IS {maybe}NULL",
            f"({left} IS {maybe}DISTINCT FROM {right})",
        ]
        if not (kind == "float" and self.negative_zeros):
            forms.append(f"{left} {maybe}IN ({self._list(kind)})")
        if kind == "str":
            forms.append(f"{left} {maybe}LIKE '{self.rng.choice(PATTERNS)}'")
            forms.append(f"{left} {maybe}ILIKE '{self.rng.choice(PATTERNS)}'")
        if kind == "bool":
            forms += [left, f"{left} IS {maybe}TRUE"]
        return self.rng.choice(forms)

    def _list(self, kind: str) -> str:
        values = [self._literal(kind) for _ in range(self.rng.randint(1, 5))]
        if self.rng.random() < 0.3:
            values.append("NULL")
        return ", ".join(values)

    def _subquery(self, scope: Scope) -> str:
        draw = self.rng.random()
        if draw < 0.35:
            self.apart["duckdb"] = "NULLs of an IN subquery below OR or NOT: issues 25336 and 25347 of DataFusion"
            return self._membership(scope)
        table, inner = self._table()
        maybe = self.rng.choice(["", "NOT "])
        where = self._where(inner, 1, subqueries=False)
        if draw < 0.7:
            also = f" AND {self._predicate(inner, 1, subqueries=False)}" if self._half() else ""
            return f"{maybe}EXISTS (SELECT 1 FROM {table} WHERE {self._same_kind(scope, inner)}{also})"
        of_int = self._of_column("int", inner)
        function = self.rng.choice(["min", "max", "count"])
        if self._half():
            where = f" WHERE {self._same_kind(scope, inner)}"
        compared = f"{self._of_column('int', scope)} {self.rng.choice(['<', '=', '>'])}"
        return f"{compared} (SELECT {function}({of_int}) FROM {table}{where})"

    def _membership(self, scope: Scope) -> str:
        table, inner = self._table()
        kind, maybe = self._kind(), self.rng.choice(["", "NOT "])
        where = self._where(inner, 1, subqueries=False)
        if not any(column.kind == kind for _, column in scope):
            self.apart["duckdb"] = "NULLs of a subquery that a constant is looked for in: issue 25340 of DataFusion"
        return f"{self._of_column(kind, scope)} {maybe}IN (SELECT {self._of_column(kind, inner)} FROM {table}{where})"

    def _same_kind(self, left: Scope, right: Scope) -> str:
        without = {"struct", "float"} if self.negative_zeros else {"struct"}
        kinds = sorted({c.kind for _, c in left} & {c.kind for _, c in right} - without)
        kind = self.rng.choice(kinds)
        return f"{self._of_column(kind, left)} = {self._of_column(kind, right)}"

    def _items(self, scope: Scope, depth: int) -> str:
        columns = [named(self.rng.choice(scope)) for _ in range(self.rng.randint(1, 3))]
        return aliased([*columns, *(self._value(self._kind(), scope, depth) for _ in range(self.rng.randint(0, 2)))])

    def _plain_aggregate(self, scope: Scope, *, grouped: bool = False) -> str:
        column = self.rng.choice(scope)
        function = self.rng.choice(["count", "min", "max"])
        if column[1].kind in ("struct", "bool") or self.rng.random() < 0.2:
            return self.rng.choice(["count(*)", f"count({named(column)})"])
        return self._bound(function, named(column), column[1].kind, grouped=grouped)

    def _aggregate(self, scope: Scope, *, grouped: bool) -> str:
        kind = self._kind()
        value = self._value(kind, scope, 1)
        function = self.rng.choice(["count", "min", "max", "sum", "avg", "count(DISTINCT"])
        if function == "count(DISTINCT":
            if kind == "float":
                self.apart["duckdb"] = "DataFusion counts both zeros, and NaNs: its issue 16254"
            return f"count(DISTINCT {value})"
        if function == "sum" and kind in ("int", "float", "dec"):
            return f"sum({value})"
        if function == "avg" and kind in ("int", "float"):
            return f"avg({value})"
        if function in ("min", "max") and kind != "bool":
            only = f" FILTER (WHERE {self._comparison(self._kind(), scope, 0)})" if self.rng.random() < 0.2 else ""
            return self._bound(function, value, kind, grouped=grouped) + only
        return self.rng.choice(["count(*)", f"count({value})"])

    def _bound(self, function: str, value: str, kind: str, *, grouped: bool) -> str:
        if grouped and kind == "float" and function != "count":
            self.apart["memory"] = "DataFusion's bounds of floats in groups; see test_float_bounds.py"
        return f"{function}({value})"

    def _value(self, kind: str, scope: Scope, depth: int) -> str:
        draw = self.rng.random()
        if not depth or draw < 0.5:
            return self._operand(kind, scope) if draw < 0.1 else self._of_column(kind, scope)
        if kind == "tz" or draw < 0.65:
            return self._chosen(kind, scope, depth - 1)
        return self._computed(kind, scope, depth - 1)

    def _chosen(self, kind: str, scope: Scope, depth: int) -> str:
        left, right = (self._value(kind, scope, depth) for _ in range(2))
        if self._half():
            return f"coalesce({left}, {right})"
        return f"CASE WHEN {self._predicate(scope, 1, subqueries=False)} THEN {left} ELSE {right} END"

    def _computed(self, kind: str, scope: Scope, depth: int) -> str:
        of = {name: self._value(name, scope, depth) for name in ("int", "float", "str", "bool", "date", "ts", "dec")}
        forms = {
            "int": [
                f"({of['int']} {self.rng.choice(['+', '-', '*'])} {self._value('int', scope, 0)})",
                f"({of['int']} % {self.rng.randint(2, 5)})",
                f"abs({of['int']})",
                f"length({of['str']})",
                f"CAST({of['bool']} AS INTEGER)",
                f"extract({self.rng.choice(['year', 'month', 'day'])} FROM {of['date']})",
            ],
            # No new NaN: the engines order those of different signs differently.
            "float": [f"({of['float']} + 1.5e0)", f"({of['float']} * 2)", f"CAST({of['int']} AS DOUBLE)"],
            "str": [
                f"upper({of['str']})",
                f"({of['str']} || {self._value('str', scope, 0)})",
                f"substr({of['str']}, 1, {self.rng.randint(1, 3)})",
                f"CAST({of['int']} AS VARCHAR)",
            ],
            "bool": [f"({self._comparison(self._kind(), scope, 0)})"],
            "date": [f"CAST({of['ts']} AS DATE)"],
            "ts": [f"CAST({of['date']} AS TIMESTAMP)", f"date_trunc('day', {of['ts']})"],
            "dec": [f"({of['dec']} + {self._value('dec', scope, 0)})"],
            "big": [self._operand("big", scope)],
        }
        return self.rng.choice(forms[kind])

    def _operand(self, kind: str, scope: Scope) -> str:
        if kind in WITHOUT_LITERALS or self.rng.random() < 0.2:
            return self._of_column(kind, scope)
        return self._literal(kind)

    def _literal(self, kind: str) -> str:
        literal = self.rng.choice(LITERALS[kind])
        return literal if literal != "NULL" else f"CAST(NULL AS {_TYPES[kind]})"

    def _of_column(self, kind: str, scope: Scope) -> str:
        """Name a column of a kind; a literal where the scope has none."""
        found = [column for column in scope if column[1].kind == kind]
        return named(self.rng.choice(found)) if found else self.rng.choice(LITERALS[kind])

    def _kind(self) -> str:
        return self.rng.choice(KINDS)

    def _table(self, name: str | None = None) -> tuple[str, Scope]:
        table = name or self.rng.choice("ttu")
        self.aliases += 1
        alias = f"a{self.aliases}"
        return f"{{{table}}} AS {alias}", [(alias, column) for column in self.tables[table]]

    def _limited(self, sql: str, keys: Sequence[str]) -> tuple[str, bool]:
        if self._half():
            return sql, False
        order = ", ".join(f"{key} {self.rng.choice(['ASC', 'DESC'])} {self._nulls()}" for key in keys)
        offset = f" OFFSET {self.rng.randint(0, 3)}" if self.rng.random() < 0.3 else ""
        limit = f" LIMIT {self.rng.randint(0, 9)}" if not offset or self._half() else ""
        return f"{sql} ORDER BY {order}{limit}{offset}", True

    def _nulls(self) -> str:
        return self.rng.choice(["NULLS FIRST", "NULLS LAST"])

    def _half(self) -> bool:
        return self.rng.random() < 0.5


def named(column: tuple[str, Column]) -> str:
    return f"{column[0]}.{column[1].name}"


def aliased(items: Sequence[str]) -> str:
    return ", ".join(f"{item} AS c{number}" for number, item in enumerate(items))

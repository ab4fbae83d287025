"""Random statements over two tables, in the SQL that DataFusion and DuckDB read alike.

A statement names the tables `{t}` and `{u}`. Where one engine means something else, the statement leaves it out: by
what the statement is made of, never by its answer.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from tests.query.engine.expressions import Column, Expressions, Scope, aliased, named

RECURSIVE = "WITH RECURSIVE r AS (SELECT 0 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5)"
_DISTINCT = re.compile(r"(a\d+\.\w+) IS DISTINCT FROM|IS DISTINCT FROM (a\d+\.\w+)")
_CONSTANT_FIRST = re.compile(r"(?:['\d)]|TRUE|FALSE) (?:[=<>]|<>|<=|>=|(?:NOT )?IN \(|(?:NOT )?BETWEEN) ?(a\d+\.\w+)")
_IN_LIST = re.compile(r"(a\d+\.\w+(?:\['a'\])?) (?:NOT )?IN \((?!SELECT)")


class Statement(NamedTuple):
    """A statement, and who can answer it.

    Attributes:
        sql: The text; `{t}` and `{u}` stand for the tables.
        is_ordered: The order of its rows is total.
        apart: Why an engine cannot be compared, by engine.
    """

    sql: str
    is_ordered: bool
    apart: Mapping[str, str]


class Writer(Expressions):
    """Writes one statement."""

    def statement(self) -> Statement:
        """Write a statement of any shape."""
        shapes: list[tuple[int, Callable[[], tuple[str, bool]]]] = [
            (5, self._select),
            (4, self._totals),
            (4, self._groups),
            (2, self._distinct),
            (4, self._join),
            (1, self._sorted_join),
            (2, self._chain),
            (1, self._counted),
            (2, self._window),
            (2, self._set),
            (2, self._series),
            (1, self._nested),
        ]
        (shape,) = self.rng.choices([made for _, made in shapes], [weight for weight, _ in shapes])
        sql, is_ordered = shape()
        if "['a']" in sql and any(f"{side} JOIN" in sql for side in ("LEFT", "RIGHT", "FULL")):
            self.apart["duckdb"] = "fields of structs that an outer join makes NULL: issue 25120 of DataFusion"
        if any(lists > 1 for lists in Counter(_IN_LIST.findall(sql)).values()):
            self.apart["memory"] = (
                "DataFusion merges lists of one value and ignores NULL: `engine/logical_plan_faults.py`"
            )
            if "CASE" in sql or " ON " in sql:
                self.apart["duckdb"] = "there the engine leaves them to DataFusion"
        if " OR " in sql and any(len(re.findall(rf"{a or b}\b", sql)) > 1 for a, b in _DISTINCT.findall(sql)):
            self.apart["duckdb"] = "version 1.5.5 skips columns of NULLs for `x IS DISTINCT FROM 1 OR x = 1`"
        if re.search(r"date_trunc\([^()]*\) (?:<>|IS DISTINCT)", sql):
            self.apart["duckdb"] = "version 1.5.5 finds `date_trunc('day', NULL) <> '1969-12-31 23:59:59'` true"
        if any(len(re.findall(rf"{column}\b", sql)) > 1 for column in _CONSTANT_FIRST.findall(sql)):
            self.apart["memory"] = (
                "DataFusion takes `1 = x AND x = 1` for a contradiction; see `engine/logical_plan_faults.py`"
            )
        if all(word in sql for word in ("NOT", " IN (SELECT", " OR ")):
            self.apart["memory"] = "NULLs of an IN subquery, unless the engine knows that the OR is not needed"
        if "count(DISTINCT" in sql and re.search(r"\b(?:min|max)\(", sql):
            self.apart["memory"] = "DataFusion makes groups for it, whose extremes of floats may be none of the data"
        if "count(DISTINCT" in sql and re.search(r"(?<!IS )(?<!IS NOT )\bNULL\b", sql):
            self.apart["memory"] = "DataFusion counts a constant NULL as a value of rows in memory"
        return Statement(sql, is_ordered, self.apart)

    def _select(self) -> tuple[str, bool]:
        table, scope = self._table()
        sql = f"SELECT {self._items(scope, 2)} FROM {table}{self._where(scope, 3)}"
        return self._limited(sql, [f"{scope[0][0]}.id"])

    def _totals(self) -> tuple[str, bool]:
        table, scope = self._table()
        if self._half():  # what the catalog may answer
            partition = [(alias, column) for alias, column in scope if column.is_partition]
            where = self._where(partition, 2, subqueries=False) if partition else ""
            items = aliased([self._plain_aggregate(scope) for _ in range(self.rng.randint(1, 4))])
            return f"SELECT {items} FROM {table}{where}", False
        items = aliased([self._aggregate(scope, grouped=False) for _ in range(self.rng.randint(1, 4))])
        having = f" HAVING count(*) > {self.rng.randint(0, 3)}" if self._half() else ""
        return f"SELECT {items} FROM {table}{self._where(scope, 3)}{having}", False

    def _groups(self) -> tuple[str, bool]:
        table, scope = self._table()
        if self._half():
            scope_of_keys = [(alias, column) for alias, column in scope if column.is_partition] or scope
            keys = [named(self.rng.choice(scope_of_keys)) for _ in range(self.rng.randint(1, 2))]
            aggregates = [self._plain_aggregate(scope, grouped=True) for _ in range(self.rng.randint(0, 3))]
        else:
            keys = [self._value(self._kind(), scope, 1) for _ in range(self.rng.randint(1, 2))]
            aggregates = [self._aggregate(scope, grouped=True) for _ in range(self.rng.randint(1, 3))]
        where = self._where(scope, 2)
        numbers = ", ".join(str(n) for n in range(1, len(keys) + 1))
        having = f" HAVING {self.rng.choice(['count(*)', 'min(' + scope[0][0] + '.id)'])} > 1" if self._half() else ""
        return f"SELECT {aliased([*keys, *aggregates])} FROM {table}{where} GROUP BY {numbers}{having}", False

    def _distinct(self) -> tuple[str, bool]:
        table, scope = self._table()
        return f"SELECT DISTINCT {self._items(scope, 1)} FROM {table}{self._where(scope, 2)}", False

    def _join(self) -> tuple[str, bool]:
        (left, of_left), (right, of_right) = self._table("t"), self._table(self.rng.choice("tu"))
        scope = [*of_left, *of_right]
        how = self.rng.choice(["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
        equal = self._same_kind(of_left, of_right)
        if self.rng.random() < 0.3:
            equal += f" AND {self._comparison(self._kind(), of_right, 1)}"
        source = f"{left} {how} {right} ON {equal}"
        where = self._where(scope, 2, subqueries=False)
        if self._half():
            items = aliased([self._aggregate(scope, grouped=False) for _ in range(2)])
            return f"SELECT {items} FROM {source}{where}", False
        return self._limited(
            f"SELECT {self._items(scope, 1)} FROM {source}{where}", [f"{of_left[0][0]}.id", f"{of_right[0][0]}.id"]
        )

    def _sorted_join(self) -> tuple[str, bool]:
        """A join whose filter compares a partition column, by which the rows are sorted, with another column."""
        (left, of_left), (right, of_right) = self._table(self.rng.choice("tu")), self._table(self.rng.choice("tu"))
        pairs = [
            (named(one), named(other))
            for one in of_left
            for other in of_left
            if one[1].is_partition and one is not other and one[1].kind == other[1].kind
        ]
        if not pairs:
            return self._join()
        pair = self.rng.choice(pairs)
        ids = [f"{of_left[0][0]}.id", f"{of_right[0][0]}.id"]
        how, sign = self.rng.choice(["JOIN", "JOIN", "LEFT JOIN"]), self.rng.choice(["=", "<=", ">=", "<>"])
        source = f"{left} {how} {right} ON {self._same_kind(of_left, of_right)}"
        sql = f"SELECT {aliased([*pair, *ids])} FROM {source} WHERE {pair[0]} {sign} {pair[1]}"
        return self._limited(sql, [self.rng.choice(pair), *ids])

    def _chain(self) -> tuple[str, bool]:
        """Three tables, of which columns of one name go on together."""
        scopes: list[Scope] = []
        source = ""
        for name in ("t", self.rng.choice("tu"), self.rng.choice("tu")):
            table, scope = self._table(name)
            how = self.rng.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN"])
            source += f" {how} {table} ON {self._same_kind(self.rng.choice(scopes), scope)}" if scopes else table
            scopes.append(scope)
        ids = [f"{scope[0][0]}.id" for scope in scopes]
        items = [*ids, f"{ids[0]} + {ids[1]}", *(named(self.rng.choice(scope)) for scope in scopes)]
        where = self._where([column for scope in scopes for column in scope], 2, subqueries=False)
        self.rng.shuffle(ids)
        return self._limited(f"SELECT {', '.join(items)} FROM {source}{where}", ids)

    def _counted(self) -> tuple[str, bool]:
        """Rows without an order, of which only the number is certain, and that none comes twice."""
        table, scope = self._table()
        limit = f" LIMIT {self.rng.choice([0, 1, 3, 20, 70, 200, 1 << 33])}" if self._half() else ""
        offset = f" OFFSET {self.rng.choice([0, 1, 2, 5, 100])}" if not limit or self._half() else ""
        where = self._where(scope, 1) if self._half() else ""
        some = f"SELECT {scope[0][0]}.id AS id FROM {table}{where}{limit}{offset}"
        return f"SELECT count(*), count(DISTINCT q.id) FROM ({some}) AS q", False

    def _window(self) -> tuple[str, bool]:
        table, scope = self._table()
        alias = scope[0][0]
        without = {"struct", "float"} if self.negative_zeros else {"struct"}
        keys = [named(column) for column in scope if column[1].kind not in without]
        order = f"ORDER BY {self.rng.choice(keys)} {self._nulls()}, {alias}.id"
        over = f"OVER (PARTITION BY {self.rng.choice(keys)} {order})"
        of_int = self._value("int", scope, 1)
        functions = [
            "row_number()",
            "rank()",
            "count(*)",
            f"sum({of_int})",
            f"sum({of_int}) FILTER (WHERE {self._predicate(scope, 1, subqueries=False)})",
            f"max({of_int})",
            f"lag({named(self.rng.choice(scope))})",
            f"first_value({named(self.rng.choice(scope))})",
        ]
        chosen = self.rng.sample(functions, 2)
        if self.rng.random() < 0.2:
            value = named(self.rng.choice(scope))
            chosen[0] = f"{self.rng.choice(['first_value', 'last_value', 'lag', 'lead'])}({value}) IGNORE NULLS"
            self.apart["duckdb"] = "it writes IGNORE NULLS inside of the brackets"
        items = aliased([f"{alias}.id", *(f"{name} {over}" for name in chosen)])
        return f"SELECT {items} FROM {table}{self._where(scope, 2)}", False

    def _set(self) -> tuple[str, bool]:
        kinds = [self._kind() for _ in range(self.rng.randint(1, 2))]
        operator = self.rng.choice(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"])
        sides = []
        for _ in range(2):
            table, scope = self._table()
            items = aliased([self._of_column(kind, scope) for kind in kinds])
            sides.append(f"SELECT {items} FROM {table}{self._where(scope, 2)}")
        return f" {operator} ".join(sides), False

    def _series(self) -> tuple[str, bool]:
        table, scope = self._table()
        of_int = self._of_column("int", scope)
        how = self.rng.choice(["JOIN", "LEFT JOIN"])
        if self._half():
            source, start = "generate_series(0, 5) AS g(n)", ""
        else:
            source, start = "r AS g", f"{RECURSIVE} "
        items = aliased(["g.n", *(self._aggregate(scope, grouped=True) for _ in range(2))])
        condition = f" AND {self._predicate(scope, 1, subqueries=False)}" if self._half() else ""
        return f"{start}SELECT {items} FROM {source} {how} {table} ON {of_int} = g.n{condition} GROUP BY 1", False

    def _nested(self) -> tuple[str, bool]:
        table, scope = self._table()
        kind = self._kind()
        inner = (
            f"SELECT {self._value(kind, scope, 1)} AS k, {self._value('int', scope, 1)} AS v FROM {table}"
            f"{self._where(scope, 2)}"
        )
        outer = [("q", Column("k", kind, False)), ("q", Column("v", "int", False))]  # noqa: FBT003
        items = aliased(["q.k", self._aggregate(outer[1:], grouped=True)])
        where = self._where(outer, 2, subqueries=False)
        if self._half():
            return f"SELECT {items} FROM ({inner}) AS q{where} GROUP BY 1", False
        return f"WITH q AS ({inner}) SELECT {items} FROM q{where} GROUP BY 1", False

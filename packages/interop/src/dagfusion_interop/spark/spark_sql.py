"""Translates a statement from DataFusion's dialect to Spark's SQL. Pure.

DataFusion has planned the statement before, so its tables, columns and functions exist and its caller may read them.
The translation writes each token again, so that the server cannot read another statement than the one that was planned:
strings are escaped for Spark, quoted names stay names, and comments are left out, because Spark reads some of them as
hints. Tables get their names in the server's catalog, with the pinned version. A view becomes a common table
expression.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from dagfusion_client.errors import EngineChoiceError
from dagfusion_client.sql_text import SqlToken, TokenKind, mentioned_tables, tokens, with_select
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_interop.spark.refused_columns import check_columns, check_left_out, check_parameter, has_time, times
from dagfusion_interop.spark.sendable import check_sendable, check_string, has_ranks
from dagfusion_interop.spark.session_settings import check_independent
from dagfusion_interop.spark.shared_sql import null_orders, table_places
from dagfusion_interop.spark.spark_literals import literal, name, numbers_without_suffix, string
from dagfusion_interop.spark.sql_words import keyword

PIN = "@"  # between a schema and the version of one of its tables
_SIGNS = frozenset("(),.+-*/%<>=!|&:")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_NUMBER = re.compile(r"(?P<point>\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+(?P<exponent>[eE][+-]?\d+)?")
_TEXTS = frozenset({"VARCHAR", "TEXT"})  # without a length
_HEX = re.compile(r"'(?:[0-9A-Fa-f]{2})*'")
_ENGINES_CATALOG = "datafusion"
_HIDDEN_SCHEMA = "information_schema"
_IN_LOCAL = 'use engine="local"'
_REFUSED_VIEW = "the statement of this view may have other rows in Spark SQL: read the view with DagFusion"


@dataclass(frozen=True)
class SparkNames:
    """The names of the tables in the server's catalog.

    Attributes:
        catalog: The name of the catalog in the server; empty to write no catalog.
        pins: The pinned version of each table that a statement may name; empty for the current version.
        views: The views that a statement may name.
        columns: The columns of tables, at least of those in `pins`.
    """

    catalog: str
    pins: Mapping[TableName, str]
    views: Mapping[TableName, View] = field(default_factory=dict)
    columns: Mapping[TableName, pa.Schema] = field(default_factory=dict)

    @property
    def read(self) -> Mapping[TableName, pa.Schema]:
        """The columns of the tables in `pins`."""
        return {table: self.columns[table] for table in self.pins if table in self.columns}


class _Piece(NamedTuple):
    """A part of the translated statement, and whether there is a space before it."""

    text: str
    is_apart: bool


@dataclass
class _Found:
    """The findings of the translation in a statement and in the statements of the views that it reads.

    Attributes:
        times: The columns and parameters that are dates or times.
        names: All names, as DataFusion reads them.
        views: The statements of the views in Spark's SQL, by the last part of their names. A view is after the views
            that it reads.
    """

    times: set[str]
    names: set[str] = field(default_factory=set)
    views: dict[str, str] = field(default_factory=dict)


def named_tables(sql: str, tables: Mapping[TableName, View | None]) -> set[TableName]:
    """Return the tables that a statement names, itself or through views.

    Args:
        sql: The statement.
        tables: The tables and views that its caller may read; the values of tables are None.

    Raises:
        EngineChoiceError: The statement may read `information_schema`.
    """
    found: set[TableName] = set()
    texts = [sql]
    for text in texts:  # which grows
        if (pairs := mentioned_tables(text)) is None:
            raise EngineChoiceError(f"the Spark engine cannot be sent {_HIDDEN_SCHEMA}: {_IN_LOCAL}")
        for mentioned in {*pairs} & tables.keys() - found:
            found.add(mentioned)
            if (view := tables[mentioned]) is not None:
                texts.append(view.sql)
    return {table for table in found if tables[table] is None}


def spark_statement(sql: str, values: Mapping[str, pa.Scalar], names: SparkNames) -> str:
    """Return a statement in Spark's SQL, as it is sent to the server.

    Args:
        sql: One statement that DataFusion has planned.
        values: Its parameters by name; numbered parameters have the names `1`, `2`, ...
        names: The names of its tables in the server's catalog.

    Raises:
        EngineChoiceError: The statement cannot be sent.
    """
    found = _Found({name for schema in names.read.values() for name in times(schema)})
    for parameter, value in values.items():
        check_parameter(f"${parameter}", value.type)
        found.times |= {parameter} if has_time(value.type) else set()
    text = _Translation(sql, values, names, found).text()
    check_columns(names.read, found.names)
    if not found.views:
        return text
    expressions = ", ".join(f"{name(view)} AS ({statement})" for view, statement in found.views.items())
    return f"WITH {expressions} ({text})" if text[:4].upper() == "WITH" else f"WITH {expressions} {text}"


def spark_view(
    view: View, columns: Mapping[TableName, pa.Schema], left_out: Mapping[TableName, Mapping[str, str]]
) -> str:
    """Return a view's statement in Spark's SQL, or a statement that Spark refuses if the rows could differ.

    Without a Spark dialect, Spark would run the text of another dialect. Spark runs the statement with the settings of
    the reader's session, not with those of the service's sessions.

    Args:
        view: The view.
        columns: The columns of its tables, and of the views that it reads.
        left_out: The columns of its tables that Iceberg does not have: their names, and the reasons.
    """
    try:
        for table, reasons in left_out.items():
            check_left_out(table, reasons)
        text = spark_statement(view.sql, {}, SparkNames("", dict.fromkeys(view.tables, ""), {}, columns))
        check_independent(view, _tokens(with_select(view.sql)), columns)
    except EngineChoiceError:
        return f"SELECT {name(_REFUSED_VIEW)}"  # a column that does not exist
    return text


def _tokens(sql: str) -> list[SqlToken]:
    """Return the tokens of a statement without comments, and without the `;` at its end."""
    found = [token for token in tokens(sql) if token.kind is not TokenKind.comment]
    while found and found[-1].text == ";":
        found.pop()
    return found


class _Translation:
    """The translation of one statement, or of the statement of a view.

    Args:
        sql: The statement.
        values: The values of the parameters.
        names: The names of tables in the server's catalog.
        found: Receives what the translation finds.
    """

    def __init__(self, sql: str, values: Mapping[str, pa.Scalar], names: SparkNames, found: _Found) -> None:
        self._sql = with_select(sql)
        self._tokens = _tokens(self._sql)
        self._values, self._names, self._found = values, names, found
        found.names.update(token.name for token in self._tokens if token.name is not None)
        self._places = table_places(self._tokens)
        self._plain_numbers = numbers_without_suffix(self._tokens)

    def text(self) -> str:
        """Return the statement in Spark's SQL."""
        for table in {*(mentioned_tables(self._sql) or ())} & self._names.views.keys():
            self._found.times |= times(self._names.views[table].columns)
        check_sendable(self._tokens, self._found.times)
        return "".join(f" {piece.text}" if piece.is_apart else piece.text for piece in self._pieces()).strip()

    def _pieces(self) -> Iterator[_Piece]:
        at, orders = 0, null_orders(self._tokens)
        while at < len(self._tokens):
            if at in orders:
                yield _Piece(orders[at], is_apart=True)
            text, count = self._piece(at)
            yield _Piece(text, self._is_apart(at))
            at += count
        if at in orders:
            yield _Piece(orders[at], is_apart=True)

    def _piece(self, at: int) -> tuple[str, int]:
        """Return the translation of the token at an index, and the number of tokens that it covers."""
        token = self._tokens[at]
        match token.kind:
            case TokenKind.text:
                return self._string(at), 1
            case TokenKind.parameter:
                return self._value(token), 1
            case TokenKind.word | TokenKind.quoted:
                return self._word(at)
            case _:
                return self._number_or_sign(at)

    def _is_apart(self, at: int) -> bool:
        """Return True if there is space or a comment between a token and the one before it."""
        return at > 0 and self._tokens[at - 1].start + len(self._tokens[at - 1].text) < self._tokens[at].start

    def _string(self, at: int) -> str:
        token, before = self._tokens[at].text, keyword(self._tokens, at - 1)
        is_joined = at > 0 and self._tokens[at - 1].start + len(before) == self._tokens[at].start
        if before == "X" and is_joined:
            if _HEX.fullmatch(token) is None:
                raise EngineChoiceError(f"X{token[:100]} is not hexadecimal, as the Spark engine needs it")
            return token
        # Each engine reads prefixed strings in its own way, such as r'''...'''.
        if token[0] != "'" or (is_joined and before not in _SIGNS - {"&"}):
            raise EngineChoiceError(
                f"the Spark engine is sent strings in single quotes with no prefix, got {before}{token[:100]}: "
                f"{_IN_LOCAL}"
            )
        text = token[1:-1].replace("''", "'")
        check_string(text)
        return string(text)

    def _value(self, token: SqlToken) -> str:
        value = self._values.get(token.text[1:])
        if value is None:
            raise EngineChoiceError(f"parameter {token.text} has no value: pass one")
        if isinstance(plain := value.as_py() if pa.types.is_string(value.type) else None, str):
            check_string(plain)
        return literal(value)

    def _word(self, at: int) -> tuple[str, int]:
        if self._text(at - 1) != ".":
            skipped = 2 if self._is_catalog(at) else 0
            if (table := self._table(at + skipped)) is not None:
                return self._named(table, at + skipped), 3 + skipped
            is_qualified = self._text(at + 1) == "."
            if is_qualified and at in self._places:
                raise EngineChoiceError(f"the Spark engine has no table {self._text(at)[:100]}...: {_IN_LOCAL}")
            if is_qualified and self._tokens[at].name in (_HIDDEN_SCHEMA, self._names.catalog.lower()):
                raise EngineChoiceError(f"the Spark engine cannot be sent {self._text(at)[:100]}.: {_IN_LOCAL}")
            self._check_is_no_view(at)
        token = self._tokens[at]
        if (
            token.kind is TokenKind.quoted
            and at
            and not self._is_apart(at)
            and self._text(at - 1) not in _SIGNS - {"&"}
        ):
            raise EngineChoiceError(
                f"the Spark engine is sent no prefix of quotes, got {token.text[:100]}: {_IN_LOCAL}"
            )
        if token.kind is TokenKind.word and _PLAIN.fullmatch(token.text):
            is_type = keyword(self._tokens, at - 1) == "AS" and keyword(self._tokens, at - 4) == "CAST"
            return ("STRING" if is_type and token.text.upper() in _TEXTS else token.text), 1
        return name(token.name or ""), 1

    def _named(self, table: TableName, at: int) -> str:
        """Return the name to send for the table at an index."""
        if (view := self._names.views.get(table)) is not None:
            self._read_view(table, view)
            return name(table.table)
        pin = self._names.pins[table]
        own = f"{name(f'{table.schema}{PIN}{pin}' if pin else table.schema)}.{name(table.table)}"
        is_qualifier = self._text(at + 3) == "."
        return own if is_qualifier or not self._names.catalog else f"{name(self._names.catalog)}.{own}"

    def _read_view(self, table: TableName, view: View) -> None:
        translation = _Translation(view.sql, {}, self._names, self._found)
        if has_ranks(translation._tokens):
            raise EngineChoiceError(f"the view {table} ranks rows, so the Spark engine is not sent it: {_IN_LOCAL}")
        statement = translation.text()
        if self._found.views.setdefault(table.table, statement) != statement:
            raise EngineChoiceError(
                f"the statement reads two views with the name {table.table}, so it is not sent to the Spark engine: "
                f"{_IN_LOCAL}"
            )

    def _check_is_no_view(self, at: int) -> None:
        """Check that a common table expression does not have the name of a view."""
        found = self._tokens[at].name
        if not any(view.table == found for view in self._names.views):
            return
        after = [self._text(at + ahead).upper() for ahead in (1, 2)]
        if after[0] == "(" or (after[0] == "AS" and after[1] in ("(", "NOT", "MATERIALIZED")):
            raise EngineChoiceError(
                f"a common table expression has the name of the view {found}: rename it for the Spark engine, or "
                f"{_IN_LOCAL}"
            )

    def _is_catalog(self, at: int) -> bool:
        return self._tokens[at].name == _ENGINES_CATALOG and self._table(at + 2) is not None

    def _table(self, at: int) -> TableName | None:
        """Return the table or view whose qualified name begins at an index; None if there is none."""
        if at + 2 >= len(self._tokens) or self._text(at + 1) != ".":
            return None
        schema, table = self._tokens[at].name, self._tokens[at + 2].name
        if schema is None or table is None:
            return None
        found = TableName(schema, table)
        return found if found in self._names.pins or found in self._names.views else None

    def _number_or_sign(self, at: int) -> tuple[str, int]:
        token = self._tokens[at]
        number = _NUMBER.match(self._sql, token.start)
        if number is not None and (token.text != "." or not self._follows_name(at)):
            return self._number(number, at)
        if token.text not in _SIGNS:
            raise EngineChoiceError(f"the Spark engine cannot be sent {token.text[:100]!r}: {_IN_LOCAL}")
        return token.text, 1

    def _number(self, number: re.Match[str], at: int) -> tuple[str, int]:
        end = number.end()
        if (after := self._sql[end : end + 1]) and (after.isalnum() or after in "_$"):
            raise EngineChoiceError(f"the Spark engine cannot be sent {self._sql[number.start() : end + 1]!r}")
        after_it = (place for place in range(at, len(self._tokens)) if self._tokens[place].start >= end)
        count = next(after_it, len(self._tokens)) - at
        # 1.5 is a decimal in Spark and a double in DataFusion. 7 has 32 bits in Spark and 64 in DataFusion.
        if number["point"] or number["exponent"]:
            return f"{number[0]}D", count
        return (number[0] if at in self._plain_numbers else f"{number[0]}L"), count

    def _follows_name(self, at: int) -> bool:
        before = self._tokens[at - 1] if at else None
        if before is None or before.start + len(before.text) < self._tokens[at].start:
            return False
        return before.name is not None or before.text in (")", "]")

    def _text(self, at: int) -> str:
        return self._tokens[at].text if 0 <= at < len(self._tokens) else ""


def check_whole(warnings: Sequence[str]) -> None:
    """Check that a worker would read all objects that the server reads.

    Args:
        warnings: The warnings of the plan about objects that a worker leaves out.

    Raises:
        EngineChoiceError: A worker leaves out archived objects.
    """
    if warnings:
        raise EngineChoiceError(
            f"the Spark engine would read objects that a worker leaves out ({warnings[0]}): {_IN_LOCAL}"
        )


def without_pins(text: str, pins: Sequence[str]) -> str:
    """Return the text of an error with the names of tables that the caller knows, without pinned versions."""
    for pin in pins:
        text = text.replace(f"{PIN}{pin}", "")
    return text

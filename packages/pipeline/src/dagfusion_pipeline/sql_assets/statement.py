"""The SQL of an asset: one query, the tables and parameters that it names, and its version."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.scope import traverse_scope

from dagfusion_pipeline.errors import SqlError

DIALECT = "postgres"  # names without quotes are in lower case, as DataFusion reads them
PARAMETERS = ("partition_key", "window_end", "window_start")
_CHANGES = (exp.DML, exp.DDL, exp.Command, exp.Into, exp.Copy)
_HASH_DIGITS = 16


class Reference(NamedTuple):
    """A table's name as a statement has it: names without quotes are in lower case."""

    schema: str | None
    table: str

    def __str__(self) -> str:
        return self.table if self.schema is None else f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class Statement:
    """A query that parses.

    Attributes:
        sql: Its text.
        query: The text as a tree, in which names without quotes are in lower case.
        references: The tables that it names, in the order of the text.
        parameters: The names after `$`.
        version: A hash of its tokens, which spaces, comments and the case of keywords do not change.
    """

    sql: str
    query: exp.Expr
    references: tuple[Reference, ...]
    parameters: frozenset[str]
    version: str


def with_tables(statement: Statement, names: Mapping[Reference, object]) -> str:
    """Return the text of a statement with other names for its tables; all else stays as it is written."""
    text = statement.sql
    for table in reversed(tables_of(statement.query)):
        first = table.args.get("db") or table.this
        start, end = first.meta["start"], table.this.meta["end"] + 1
        text = f"{text[:start]}{names[reference_of(table, '')]}{text[end:]}"
    return text


def parse_statement(sql: str, asset: str) -> Statement:
    """Parse the SQL of an asset.

    Args:
        sql: The text.
        asset: The asset's key as text, for messages.

    Raises:
        SqlError: It does not parse, is not one query, names a table in three parts, or has an unknown parameter.
    """
    query = normalize_identifiers(_parsed(sql, asset), dialect=DIALECT)
    parameters = frozenset(node.name for node in query.find_all(exp.Parameter, exp.Placeholder))
    unknown = sorted(parameters - {*PARAMETERS})
    if unknown:
        listed = ", ".join(f"${name}" for name in PARAMETERS)
        raise SqlError(f"the SQL of asset {asset!r} has the unknown parameter ${unknown[0]}: it can have {listed}")
    references = tuple(dict.fromkeys(reference_of(table, asset) for table in tables_of(query)))
    return Statement(sql, query, references, parameters, _version(sql))


def tables_of(query: exp.Expr) -> list[exp.Table]:
    """Return the mentions of tables in a query, in the order of the text; names of CTEs are none."""
    mentions = {
        id(source): source
        for scope in traverse_scope(query)
        for source in scope.sources.values()
        if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier)
    }
    return sorted(mentions.values(), key=lambda table: table.this.meta.get("start", 0))


def reference_of(table: exp.Table, asset: str) -> Reference:
    """Return the name of a mention.

    Raises:
        SqlError: It has three parts.
    """
    if table.catalog:
        name = f"{table.catalog}.{table.db}.{table.name}"
        raise SqlError(
            f"the SQL of asset {asset!r} names the table {name}: a table has one or two"
            ' parts here, such as silver.orders or "Silver/orders"'
        )
    return Reference(table.db or None, table.name)


def _parsed(sql: str, asset: str) -> exp.Expr:
    try:
        statements = [statement for statement in sqlglot.parse(sql, dialect=DIALECT) if statement is not None]
    except ParseError as error:
        found = error.errors[0]
        near = f" near {found['highlight']!r}" if found.get("highlight") else ""
        where = f"line {found['line']}, column {found['col']}{near}"
        raise SqlError(f"the SQL of asset {asset!r} does not parse: syntax error at {where}") from error
    except SqlglotError as error:
        raise SqlError(f"the SQL of asset {asset!r} does not parse: {error}") from error
    if len(statements) != 1:
        raise SqlError(
            f"the SQL of asset {asset!r} must be one statement, got {len(statements)}: define an asset for each"
        )
    (query,) = statements
    change = query.find(*_CHANGES)
    if change is not None or not isinstance(query, exp.Query | exp.Values):
        kind = (change or query).key.upper()
        raise SqlError(
            f"the SQL of asset {asset!r} must be a query, got {kind}: write SELECT, and the IO manager stores the rows"
        )
    return query


def _version(sql: str) -> str:
    as_written = {TokenType.STRING, TokenType.IDENTIFIER}
    texts = [
        repr(token.text) if token.token_type in as_written else token.text.lower()
        for token in sqlglot.tokenize(sql, dialect=DIALECT)
    ]
    while texts and texts[-1] == ";":
        texts.pop()
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:_HASH_DIGITS]

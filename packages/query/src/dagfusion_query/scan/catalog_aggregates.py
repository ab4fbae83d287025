"""Answers aggregates from the catalog, so that no object is read: counts and bounds, grouped by partition columns.

The events have all values for `SELECT state, count(*), max(npi) ... GROUP BY state`. In the serialized logical plan,
the aggregate and the scan below it are replaced by the rows of the result. This needs filters and groups over partition
columns only, and an exact value of each aggregate for each file. Otherwise the plan is not changed.

    LogicalPlanNode {listing_scan 1, projection 3, aggregate 6, values 16, subquery_alias 21}
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from datafusion import DataFrame, Expr, SessionContext, lit
from datafusion import functions as f

from dagfusion_client.errors import UnsupportedTypeError
from dagfusion_client.sql_text import qualified, quoted
from dagfusion_query.catalog.partitioned_file import encode_scalar
from dagfusion_query.plan_messages import (
    AggregateNode,
    AggregateUDFExprNode,
    AliasNode,
    Column,
    LogicalExprNode,
    LogicalPlanNode,
    ProjectionNode,
    ScalarValue,
    SubqueryAliasNode,
    TableReference,
    ValuesNode,
)
from dagfusion_query.scan.prune import Pruner, is_over
from dagfusion_query.scan.pruning_tables import MAX, MIN, NULLS, ROWS
from dagfusion_query.wire import children, fields, message, uint

MAX_ROWS = 5_000  # beyond this, planning the rows takes longer than it saves

_PLAIN_CALL = [AggregateUDFExprNode.FUN_NAME, AggregateUDFExprNode.ARGS]  # all that a call can have besides changes it
_KNOWN = "known"  # a column of the result: whether every statistic that went into it is there


def spelled(reference: bytes) -> str:
    """Return an encoded TableReference as SQL: `"schema"."table"`, with as many parts as the query gave."""
    parts = [
        part.decode()
        for level in TableReference.LEVELS
        for name in children(reference, level)
        for part in _strings(name)
    ]
    return qualified(parts)


@dataclass(frozen=True)
class AggregateOverScan:
    """An aggregate node of a logical plan, right above a scan or above its aliases, as views have them; all encoded.

    Attributes:
        alias: The outermost.
    """

    scan: bytes
    alias: bytes | None
    groups: Sequence[bytes]
    aggregates: Sequence[bytes]


@dataclass(frozen=True)
class Mention:
    """A table as one scan of a query names it.

    Attributes:
        reference: The name, as an encoded TableReference.
        pruner: Its catalog.
    """

    reference: bytes
    pruner: Pruner

    @property
    def relation(self) -> str:
        """The name as SQL; the columns of the scan's filters carry it."""
        return spelled(self.reference)


def aggregate_over_scan(node: bytes) -> AggregateOverScan | None:
    """Parse a LogicalPlanNode; return None if it is not such an aggregate."""
    aggregates = children(node, LogicalPlanNode.AGGREGATE)
    if len(aggregates) != 1 or len(inputs := children(aggregates[0], AggregateNode.INPUT)) != 1:
        return None
    below, alias = inputs[0], None
    while aliases := children(below, LogicalPlanNode.SUBQUERY_ALIAS):
        alias = alias or next(iter(children(aliases[0], SubqueryAliasNode.ALIAS)), None)
        (below,) = children(aliases[0], SubqueryAliasNode.INPUT) or (b"",)
    scans = children(below, LogicalPlanNode.LISTING_SCAN)
    if len(scans) != 1:
        return None
    groups, calls = (children(aggregates[0], part) for part in (AggregateNode.GROUP_EXPR, AggregateNode.AGGR_EXPR))
    return AggregateOverScan(scans[0], alias, groups, calls)


def aggregate_plan(
    found: AggregateOverScan, filters: Sequence[Expr], table: Mention, context: SessionContext
) -> bytes | None:
    """Return the plan node that gives an aggregate's rows; None when the catalog does not know them.

    Args:
        found: The aggregate.
        filters: The scan's filters.
        table: The table that it scans.
        context: The session that the plan was made in.
    """
    pruner = table.pruner
    try:
        groups, calls = ([Expr.from_bytes(data, context) for data in of] for of in (found.groups, found.aggregates))
    except RuntimeError:  # nested too deep: the plan cannot be decoded either
        return None
    if not all(is_over(expr, pruner.partition) for expr in (*filters, *groups)):
        return None
    names = [str(expr.schema_name()) for expr in calls]
    columns = [_aggregate(data, name, pruner) for data, name in zip(found.aggregates, names, strict=True)]
    aggregates = [column for column in columns if column is not None]
    if len(aggregates) < len(columns):
        return None
    frame = pruner.filtered(filters, table.relation)
    frame = frame.filter(Expr.column(ROWS) > lit(0))
    rows = _rows(_aliased(frame, found.alias), groups, aggregates)
    if rows is None:
        return None
    qualifier = found.alias or table.reference
    return _values(rows, [_group_name(expr, qualifier) for expr in groups] + [_Name(a.name, None) for a in aggregates])


@dataclass(frozen=True)
class _Aggregate:
    """An aggregate over files that stands for one over rows, and whether a file's part in it is known."""

    name: str
    over_files: Expr
    is_known: Expr


@dataclass(frozen=True)
class _Name:
    """A column's name, and the encoded TableReference that qualifies it."""

    name: str
    qualifier: bytes | None


def _aggregate(encoded: bytes, name: str, pruner: Pruner) -> _Aggregate | None:
    """Return what gives an aggregate from the catalog's columns; None when they cannot.

    Only `count(<literal>)` and `count`, `min` and `max` of a plain column can: no DISTINCT, FILTER or ORDER BY, and no
    expression.
    """
    function, argument = _call(encoded) or ("", b"")
    if function not in ("count", "min", "max"):
        return None
    always = lit(True)  # noqa: FBT003  # a literal
    count = f.coalesce(f.sum(Expr.column(ROWS)), lit(0))
    literals = children(argument, LogicalExprNode.LITERAL)
    if literals:
        is_count = function == "count" and not children(literals[0], ScalarValue.NULL)
        return _Aggregate(name, count, always) if is_count else None
    columns = [
        column.decode()
        for encoded_column in children(argument, LogicalExprNode.COLUMN)
        for column in children(encoded_column, Column.NAME)
    ]
    if len(columns) != 1:
        return None
    return _of_column(function, columns[0], name, pruner, _Aggregate(name, count, always))


def _of_column(function: str, column: str, name: str, pruner: Pruner, count: _Aggregate) -> _Aggregate | None:
    if column in pruner.partition:
        value = Expr.column(quoted(column))
        return count if function == "count" else _Aggregate(name, getattr(f, function)(value), count.is_known)
    number = pruner.statistics.get(column)
    if number is None:
        return None
    nulls = Expr.column(f"{NULLS}{number}")
    if function == "count":
        return _Aggregate(name, f.coalesce(f.sum(Expr.column(ROWS) - nulls), lit(0)), nulls.is_not_null())
    bound = Expr.column(f"{MIN if function == 'min' else MAX}{number}")
    is_known = bound.is_not_null() | (nulls.is_not_null() & (nulls == Expr.column(ROWS)))
    return _Aggregate(name, getattr(f, function)(bound), is_known)


def _call(encoded: bytes) -> tuple[str, bytes] | None:
    """Return a function and its only argument, encoded; None when there is anything else to the call."""
    calls = children(encoded, LogicalExprNode.AGGREGATE_UDF)
    if len(calls) != 1 or sorted(field.number for field in fields(calls[0])) != _PLAIN_CALL:
        return None
    (function,), (argument,) = (children(calls[0], part) for part in _PLAIN_CALL)
    return function.decode(), argument


def _rows(frame: DataFrame, groups: list[Expr], aggregates: list[_Aggregate]) -> pa.Table | None:
    is_known = lit(True)  # noqa: FBT003  # a literal
    for column in aggregates:
        is_known = is_known & column.is_known
    over_files = [column.over_files.alias(f"a{i}") for i, column in enumerate(aggregates)]
    group_columns = [expr.alias(f"g{i}") for i, expr in enumerate(groups)]
    answered = frame.aggregate(group_columns, [*over_files, f.bool_and(f.coalesce(is_known, lit(False))).alias(_KNOWN)])  # noqa: FBT003
    table = answered.limit(MAX_ROWS + 1).to_arrow_table()
    if not 0 < table.num_rows <= MAX_ROWS or False in table[_KNOWN].to_pylist():
        return None
    return table.drop_columns([_KNOWN])


def _values(rows: pa.Table, names: Sequence[_Name]) -> bytes | None:
    """Encode rows as a Projection over Values, whose columns have the aggregate's names."""
    try:
        cells = b"".join(
            message(ValuesNode.VALUES_LIST, message(LogicalExprNode.LITERAL, cell)) for cell in _cells(rows)
        )
    except UnsupportedTypeError:
        return None
    values = message(LogicalPlanNode.VALUES, uint(ValuesNode.N_COLS, rows.num_columns) + cells)
    columns = b"".join(message(ProjectionNode.EXPR, _renamed(f"column{i}", name)) for i, name in enumerate(names, 1))
    return message(LogicalPlanNode.PROJECTION, message(ProjectionNode.INPUT, values) + columns)


def _cells(rows: pa.Table) -> Iterator[bytes]:
    """Yield the encoded values, row by row."""
    columns = [[encode_scalar(v.as_py(), column.type, v) for v in column] for column in rows.columns]
    for row in zip(*columns, strict=True):
        yield from row


def _renamed(column: str, name: _Name) -> bytes:
    """Encode `column AS name`."""
    source = message(AliasNode.EXPR, message(LogicalExprNode.COLUMN, message(Column.NAME, column.encode())))
    relation = b"" if name.qualifier is None else message(AliasNode.RELATION, name.qualifier)
    return message(LogicalExprNode.ALIAS, source + message(AliasNode.ALIAS, name.name.encode()) + relation)


def _aliased(frame: DataFrame, alias: bytes | None) -> DataFrame:
    return frame if alias is None else frame.alias(spelled(alias))


def _group_name(expr: Expr, qualifier: bytes) -> _Name:
    if expr.variant_name() == "Column":
        return _Name(expr.to_variant().name(), qualifier)
    return _Name(str(expr.schema_name()), None)


def _strings(name: bytes) -> list[bytes]:
    return [field.value for field in fields(name) if isinstance(field.value, bytes)]

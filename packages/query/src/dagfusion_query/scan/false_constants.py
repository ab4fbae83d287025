"""Columns that DataFusion 55 takes for constants although they have several values, and the workarounds.

A sort by a constant is removed, and a window by one has one partition and one rank: rows are in the wrong order, a
limit keeps other rows, and window functions have wrong values.

**Filters.** From `CAST(time AS DATE) = DATE '2024-01-01'` the physical plan concludes that `time` is midnight, and from
`x / 2 = 1` that `x` is 2, by inverses of operations that have none (apache/datafusion#25523 and #25232). Only a filter
whose parts are all known to the analysis is analyzed, so it gets a part that is not: `column IS NOT NULL`, which is
true where the comparison is. DataFusion drops that if the column is never NULL, and moves it below a window without the
comparison if that has another column. A volatile condition is neither dropped nor moved.

**Rows that are filled with NULL.** What is constant in an input of an outer join is taken for constant in the output,
where it is NULL in rows without a match. So the filters of such an input get a volatile condition, and its constant
columns are volatile expressions. ROLLUP, CUBE and GROUPING SETS keep the constants of their input, and that two columns
are equal, so all columns of the sets are volatile expressions.
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import count

from datafusion import Expr, LogicalPlan, SessionContext, lit
from datafusion import functions as f

from dagfusion_query.plan_messages import (
    AggregateNode,
    AliasNode,
    Column,
    ColumnRelation,
    GroupingSetsNode,
    JoinNode,
    LogicalExprNode,
    LogicalPlanNode,
    ProjectionNode,
)
from dagfusion_query.scan.plan_faults import FILTER, encoded_filter, filter_parts, joined, unmoved
from dagfusion_query.scan.prune import is_constant
from dagfusion_query.wire import Field, children, fields, message, rewrite

_COMPARISONS = {"=", "<", "<=", ">", ">="}
_NOT_INVERTIBLE = {"+", "-", "*", "/"}  # of numbers that are rounded, or overflow
_COMPUTES = re.compile(r"CAST\(| [-+*/] ")
_STRICT_OPERATORS = _COMPARISONS | _NOT_INVERTIBLE | {"!=", "%"}  # NULL if an operand is
_ANALYZED = {"Alias", "BinaryExpr", "Cast", "Column", "Literal", "Negative"}
_FILLED_INPUTS = {
    "Left Join:": {JoinNode.RIGHT},
    "Right Join:": {JoinNode.LEFT},
    "Full Join:": {JoinNode.LEFT, JoinNode.RIGHT},
}
_GROUPING_SETS = re.compile(r"Aggregate: groupBy=\[\[(?:ROLLUP|CUBE|GROUPING SETS) ")
_ANYTHING = b""


def without_false_constants(logical: bytes, text: str, context: SessionContext) -> bytes:
    """Return an encoded plan from which DataFusion takes no column with several values for a constant.

    Args:
        logical: The encoded plan, which is optimized.
        text: The plan as text, which may be that of before its joins were ordered.
        context: The session that it was planned in.
    """
    if any(join in text for join in _FILLED_INPUTS):
        logical = rewrite(logical, _ANYTHING, partial(_outer_join, context=context))
    if _GROUPING_SETS.search(text):
        logical = rewrite(logical, _ANYTHING, partial(_grouping_sets, context=context))
    return _without_analyzed_filters(logical, context) if _COMPUTES.search(text) else logical


def _outer_join(node: bytes, context: SessionContext) -> bytes | None:
    """Return an encoded outer join without constants in what it fills with NULL; None for any other message."""
    if (join := _only(node, LogicalPlanNode.JOIN)) is None:
        return None
    text = _text(node, context)
    filled = next((inputs for kind, inputs in _FILLED_INPUTS.items() if text.startswith(kind)), None)
    if filled is None:
        return None
    return message(LogicalPlanNode.JOIN, b"".join(_part_of_join(part, filled, context) for part in fields(join)))


def _part_of_join(part: Field, filled: set[int], context: SessionContext) -> bytes:
    if not isinstance(part.value, bytes):
        return part.raw
    if part.number not in filled:  # the other input, or an expression
        return message(part.number, rewrite(part.value, _ANYTHING, partial(_outer_join, context=context)))
    plan = rewrite(part.value, FILTER, partial(_volatile_filter, context=context))
    return message(part.number, rewrite(plan, _ANYTHING, partial(_volatile_projection, context=context)))


def _grouping_sets(node: bytes, context: SessionContext) -> bytes | None:
    """Return encoded groups of several sets, whose columns are volatile; None for any other message."""
    aggregate = _only(node, LogicalPlanNode.AGGREGATE)
    if aggregate is None or not _GROUPING_SETS.match(_text(node, context)):
        return None
    parts = [
        message(part.number, _volatile_sets(part.value, context))
        if part.number == AggregateNode.GROUP_EXPR and isinstance(part.value, bytes)
        else message(part.number, rewrite(part.value, _ANYTHING, partial(_grouping_sets, context=context)))
        if part.number == AggregateNode.INPUT and isinstance(part.value, bytes)
        else part.raw
        for part in fields(aggregate)
    ]
    return message(LogicalPlanNode.AGGREGATE, b"".join(parts))


def _volatile_sets(expr: bytes, context: SessionContext) -> bytes:
    """Return encoded sets of groups, whose columns are volatile, and differ even if they are known to be equal."""
    numbers: dict[bytes, int] = {}

    def volatile(columns: bytes) -> bytes:
        found = children(columns, GroupingSetsNode.EXPR)
        columns_of = (_volatile(column, context, numbers.setdefault(column, len(numbers))) for column in found)
        return b"".join(message(GroupingSetsNode.EXPR, column) for column in columns_of)

    for number in (LogicalExprNode.CUBE, LogicalExprNode.ROLLUP):
        for columns in children(expr, number):
            return message(number, volatile(columns))
    (lists,) = children(expr, LogicalExprNode.GROUPING_SETS)
    sets = children(lists, GroupingSetsNode.EXPR)
    changed = b"".join(message(GroupingSetsNode.EXPR, volatile(columns)) for columns in sets)
    return message(LogicalExprNode.GROUPING_SETS, changed)


def _only(node: bytes, number: int) -> bytes | None:
    """Return the one field of a message, if it is a message and has this number."""
    try:
        found = [*fields(node)]
    except ValueError:
        return None
    value = found[0].value if len(found) == 1 and found[0].number == number else None
    return value if isinstance(value, bytes) else None


def _text(node: bytes, context: SessionContext) -> str:
    """Return the operator of an encoded plan as text; an empty one if the message is no plan."""
    try:
        return str(LogicalPlan.from_bytes(context, node).display())
    except Exception:  # noqa: BLE001  # it has no class
        return ""


def _volatile_filter(node: bytes, context: SessionContext) -> bytes | None:
    if (parts := filter_parts(node)) is None or not _text(node, context):
        return None
    below, condition = parts
    return encoded_filter(rewrite(below, FILTER, partial(_volatile_filter, context=context)), unmoved(condition))


def _volatile_projection(node: bytes, context: SessionContext) -> bytes | None:
    projection = _only(node, LogicalPlanNode.PROJECTION)
    if projection is None or not _text(node, context):
        return None
    return message(
        LogicalPlanNode.PROJECTION, b"".join(_part_of_projection(part, context) for part in fields(projection))
    )


def _part_of_projection(part: Field, context: SessionContext) -> bytes:
    if isinstance(part.value, bytes) and part.number == ProjectionNode.EXPR:
        return message(part.number, _volatile_column(part.value, context))
    if isinstance(part.value, bytes) and part.number == ProjectionNode.INPUT:
        return message(part.number, rewrite(part.value, _ANYTHING, partial(_volatile_projection, context=context)))
    return part.raw


def _volatile_column(column: bytes, context: SessionContext) -> bytes:
    """Return an encoded column of a projection, which is volatile if it was constant."""
    (value,) = [*(children(alias, AliasNode.EXPR)[0] for alias in children(column, LogicalExprNode.ALIAS))] or [column]
    try:
        return _volatile(column, context) if is_constant(Expr.from_bytes(value, context)) else column
    except Exception:  # noqa: BLE001  # it has no class; a subquery, which is not decoded here, is no constant
        return column


def _volatile(column: bytes, context: SessionContext, number: int = 0) -> bytes:
    """Return an encoded expression with the value and the name of this one, about which DataFusion knows nothing.

    Args:
        column: The expression.
        context: The session that its plan was made in.
        number: Expressions with several numbers differ.
    """
    value, name = column, b""
    for alias in children(column, LogicalExprNode.ALIAS):
        (value,) = children(alias, AliasNode.EXPR)
        name = b"".join(part.raw for part in fields(alias) if part.number != AliasNode.EXPR)
    expr = Expr.from_bytes(value, context)
    volatile = bytes(f.when(f.random() < lit(2.0 + number), expr).end().to_bytes())
    return message(LogicalExprNode.ALIAS, message(AliasNode.EXPR, volatile) + (name or _name(value, expr)))


def _name(value: bytes, expr: Expr) -> bytes:
    """Return the fields of an alias that has the name of an encoded expression, and of its table if it is a column."""
    for column in children(value, LogicalExprNode.COLUMN):
        (name,) = children(column, Column.NAME)
        tables = [children(relation, ColumnRelation.RELATION)[0] for relation in children(column, Column.RELATION)]
        names = [table.split(b".") for table in tables]
        relations = [message(len(parts), b"".join(map(message, count(1), parts))) for parts in names]
        return message(AliasNode.ALIAS, name) + b"".join(message(AliasNode.RELATION, one) for one in relations)
    return message(AliasNode.ALIAS, str(expr.schema_name()).encode())


def _without_analyzed_filters(logical: bytes, context: SessionContext) -> bytes:
    """Return an encoded plan in which no filter with a cast or arithmetic is analyzed."""

    def change(node: bytes) -> bytes | None:
        if (parts := filter_parts(node)) is None or not _text(node, context):
            return None
        below, condition = (rewrite(part, FILTER, change) for part in parts)  # the condition may have subqueries
        return encoded_filter(below, _not_analyzed(condition, below, context))

    return rewrite(logical, FILTER, change)


def _not_analyzed(condition: bytes, below: bytes, context: SessionContext) -> bytes:
    try:
        comparisons = [*_inexact_comparisons(Expr.from_bytes(condition, context))]
    except Exception as error:  # noqa: BLE001  # it has no class
        return condition if "subquery" in str(error) else unmoved(condition)  # one with a subquery is not analyzed
    if not comparisons:
        return condition
    plan = context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, below))
    never_null = {field.name for field in plan.schema() if not field.nullable}  # or a column of the same name is not
    columns: dict[str, Expr] = {}
    for comparison in comparisons:
        if not _is_null_without(comparison, never_null):
            return unmoved(condition)
        columns |= {str(part.canonical_name()): part for part in _parts(comparison) if _is_column(part)}
    return joined(b"And", [condition, *(bytes(column.is_not_null().to_bytes()) for column in columns.values())])


def _inexact_comparisons(condition: Expr) -> Iterator[Expr]:
    """Yield the comparisons from which DataFusion may infer wrong values of a column, if the condition is analyzed."""
    if _operator(condition) == "AND":
        for operand in condition.rex_call_operands():
            yield from _inexact_comparisons(operand)
        return
    if condition.variant_name() == "Between" and condition.to_variant().negated():
        return
    _, *parts = _parts(condition)
    kinds, operators = {part.variant_name() for part in parts}, {_operator(part) for part in parts}
    is_inexact = "Cast" in kinds | {condition.variant_name()} or operators & _NOT_INVERTIBLE
    if condition.variant_name() in ("Between", "BinaryExpr", "Cast") and kinds <= _ANALYZED and is_inexact:
        yield condition


def _is_null_without(comparison: Expr, never_null: set[str]) -> bool:
    """Return True if a comparison is NULL where one of its columns is, and any of them may be NULL."""
    parts = [*_parts(comparison)]
    names = {part.to_variant().name() for part in parts if _is_column(part)}
    return {_operator(part) or "=" for part in parts} <= _STRICT_OPERATORS and bool(names) and not names & never_null


def _parts(expr: Expr) -> Iterator[Expr]:
    """Yield an expression and all parts of it."""
    yield expr
    if expr.variant_name() not in ("Column", "Literal"):
        for operand in expr.rex_call_operands():
            yield from _parts(operand)


def _is_column(part: Expr) -> bool:
    return str(part.variant_name()) == "Column"


def _operator(part: Expr) -> str | None:
    return str(part.to_variant().op()) if part.variant_name() == "BinaryExpr" else None

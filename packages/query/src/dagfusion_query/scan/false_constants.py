"""Columns that DataFusion 55 takes for constants although they have several values, and the workarounds.

A sort by a constant is removed, and a window by one has one partition and one rank: rows are in the wrong order, a
limit keeps other rows, and window functions have wrong values.

**Filters.** From `CAST(time AS DATE) = DATE '2024-01-01'` the physical plan concludes that `time` is midnight, and from
`x / 2 = 1` that `x` is 2, by inverses of operations that have none (apache/datafusion#25523 and #25232). Only a filter
whose parts are all known to the analysis is analyzed, so it gets a part that is not: `column IS NOT NULL`, which is
true where the comparison is. DataFusion drops that if the column is never NULL, and moves it below a window without the
comparison if that has another column. A volatile condition is neither dropped nor moved.

**Rows that are filled with NULL.** What is constant in an input of an outer join is taken for constant in the output,
where it is NULL in rows without a match. ROLLUP, CUBE and GROUPING SETS keep the constants of their input as well, and
that two columns are equal. So the columns that a join fills, above it, and those of the sets are volatile expressions,
`CASE WHEN random() < 2 THEN column END`, of which DataFusion knows nothing.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count
from typing import NamedTuple

from datafusion import DataFrame, Expr, LogicalPlan, SessionContext, lit
from datafusion import functions as f

from dagfusion_query.plan_messages import (
    AggregateNode,
    AliasNode,
    Column,
    ColumnRelation,
    JoinNode,
    LogicalExprNode,
    LogicalPlanNode,
    ProjectionNode,
)
from dagfusion_query.scan.plan_faults import (
    FILTER,
    JOIN,
    encoded_filter,
    filter_parts,
    in_grouping_sets,
    joined,
    unmoved,
)
from dagfusion_query.wire import LENGTH, children, fields, message, rewrite, varint

_COMPARISONS = {"=", "<", "<=", ">", ">="}
_NOT_INVERTIBLE = {"+", "-", "*", "/"}  # of numbers that are rounded, or overflow
_COMPUTES = re.compile(r"CAST\(| [-+*/] ")
_STRICT_OPERATORS = _COMPARISONS | _NOT_INVERTIBLE | {"!=", "%"}  # NULL if an operand is
_ANALYZED = {"Alias", "BinaryExpr", "Cast", "Column", "Literal", "Negative"}
_OUTER_JOIN = re.compile(r"(?:Left|Right|Full) Join:")
_INPUTS = (JoinNode.LEFT, JoinNode.RIGHT)
_FILLED_INPUTS = {1: {JoinNode.RIGHT}, 2: {JoinNode.LEFT}, 3: {*_INPUTS}}  # by type of join
_GROUPING_SETS = re.compile(r"Aggregate: groupBy=\[\[(?:ROLLUP|CUBE|GROUPING SETS) ")
_AGGREGATE, _PROJECTION = (
    varint(number << 3 | LENGTH) for number in (LogicalPlanNode.AGGREGATE, LogicalPlanNode.PROJECTION)
)


def without_false_constants(logical: bytes, text: str, context: SessionContext) -> bytes:
    """Return an encoded plan from which DataFusion takes no column with several values for a constant.

    Args:
        logical: The encoded plan, which is optimized.
        text: The plan as text, which may be that of before its joins were ordered.
        context: The session that it was planned in.
    """
    if _OUTER_JOIN.search(text):
        logical = rewrite(logical, JOIN, partial(_volatile_above_join, context=context))
    if _GROUPING_SETS.search(text):
        logical = rewrite(logical, _AGGREGATE, partial(_volatile_groups, context=context))
    return _without_analyzed_filters(logical, context) if _COMPUTES.search(text) else logical


def _volatile_above_join(node: bytes, context: SessionContext) -> bytes | None:
    """Return an encoded outer join below a projection of volatile columns; None for any other message.

    Where a projection is above the join already, its columns are volatile.
    """
    if not node.startswith((JOIN, _PROJECTION)):
        return None
    projections = children(node, LogicalPlanNode.PROJECTION) if _only(node, LogicalPlanNode.PROJECTION) else []
    join = children(projections[0], ProjectionNode.INPUT)[:1] if projections else [node]
    if not join or _filled_inputs(join[0]) is None or not _is_plan(node, context):
        return None
    plan, is_filled = _FilledPlan.of_join(join[0], context)
    columns = _columns(plan, context)
    preserved = {column for column, filled in zip(columns, is_filled, strict=True) if not filled}
    if projections:
        above = partial(rewrite, marker=JOIN, change=partial(_volatile_above_join, context=context))
        columns = [above(column) for column in children(projections[0], ProjectionNode.EXPR)]
    columns = [column if column in preserved else _volatile(column, context) for column in columns]
    parts = message(ProjectionNode.INPUT, plan) + b"".join(message(ProjectionNode.EXPR, column) for column in columns)
    return message(LogicalPlanNode.PROJECTION, parts)


class _FilledPlan(NamedTuple):
    """An encoded plan below which all is rewritten, and for each of its columns whether outer joins may fill it."""

    plan: bytes
    is_filled: Sequence[bool]

    @staticmethod
    def of_join(node: bytes, context: SessionContext) -> "_FilledPlan":
        """Rewrite what is below an outer join; those that are directly below it get no projection."""
        (join,) = children(node, LogicalPlanNode.JOIN)
        inputs = {number: _FilledPlan.of_input(children(join, number)[0], context) for number in _INPUTS}
        for number in _filled_inputs(node) or ():
            plan, columns = inputs[number]
            inputs[number] = _FilledPlan(plan, [True] * len(columns))
        parts = [
            message(part.number, inputs[part.number].plan)
            if part.number in inputs
            else message(part.number, rewrite(part.value, JOIN, partial(_volatile_above_join, context=context)))
            if isinstance(part.value, bytes)
            else part.raw
            for part in fields(join)
        ]
        is_filled = [filled for number in _INPUTS for filled in inputs[number].is_filled]
        return _FilledPlan(message(LogicalPlanNode.JOIN, b"".join(parts)), is_filled)

    @staticmethod
    def of_input(plan: bytes, context: SessionContext) -> "_FilledPlan":
        """Rewrite an input of an outer join."""
        if _filled_inputs(plan) is not None:
            return _FilledPlan.of_join(plan, context)
        changed = rewrite(plan, JOIN, partial(_volatile_above_join, context=context))
        return _FilledPlan(changed, [False] * len(_frame(changed, context).schema()))


def _filled_inputs(node: bytes) -> set[int] | None:
    """Return the inputs that an encoded outer join fills with NULL; None for any other message."""
    if (join := _only(node, LogicalPlanNode.JOIN)) is None:
        return None
    try:
        kind = next((part.value for part in fields(join) if part.number == JoinNode.TYPE), 0)
        is_join = bool(children(join, JoinNode.LEFT) and children(join, JoinNode.RIGHT))
    except ValueError:
        return None
    return _FILLED_INPUTS.get(kind) if is_join and isinstance(kind, int) else None


def _columns(plan: bytes, context: SessionContext) -> Sequence[bytes]:
    """Return the columns of an encoded plan as encoded expressions, with their tables."""
    frame = _frame(plan, context)
    names = frame.schema().names
    other = "_" * (1 + max(map(len, names), default=0))
    projected = bytes(frame.with_column(other, lit(1)).logical_plan().to_bytes())  # DataFusion makes the expressions
    (projection,) = children(projected, LogicalPlanNode.PROJECTION)
    return children(projection, ProjectionNode.EXPR)[: len(names)]


def _frame(plan: bytes, context: SessionContext) -> DataFrame:
    return context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, plan))


def _is_plan(node: bytes, context: SessionContext) -> bool:
    try:
        LogicalPlan.from_bytes(context, node)
    except Exception:  # noqa: BLE001  # it has no class; this is a message of another kind
        return False
    return True


def _volatile_groups(node: bytes, context: SessionContext) -> bytes | None:
    """Return an encoded aggregate over volatile columns, if it has several sets of groups; None for other messages."""
    aggregate = _only(node, LogicalPlanNode.AGGREGATE) if node.startswith(_AGGREGATE) else None
    if aggregate is None or not _is_plan(node, context):
        return None
    numbers: dict[bytes, int] = {}  # of columns: two that differ are not taken for equal

    def volatile(column: bytes) -> bytes:
        return _volatile(column, context, numbers.setdefault(column, len(numbers)))

    inside = partial(rewrite, marker=_AGGREGATE, change=partial(_volatile_groups, context=context))
    groups = [in_grouping_sets(inside(group), volatile) for group in children(aggregate, AggregateNode.GROUP_EXPR)]
    if len(groups) != 1 or groups[0] is None:
        return None
    parts = [
        part.raw
        if not isinstance(part.value, bytes)
        else message(part.number, groups[0] if part.number == AggregateNode.GROUP_EXPR else inside(part.value))
        for part in fields(aggregate)
    ]
    return message(LogicalPlanNode.AGGREGATE, b"".join(parts))


def _only(node: bytes, number: int) -> bytes | None:
    """Return the one field of a message, if it is a message and has this number."""
    try:
        found = [*fields(node)]
    except ValueError:
        return None
    value = found[0].value if len(found) == 1 and found[0].number == number else None
    return value if isinstance(value, bytes) else None


def _volatile(column: bytes, context: SessionContext, number: int = 0) -> bytes:
    """Return an encoded expression with the value and the name of this one, about which DataFusion knows nothing.

    Args:
        column: The expression.
        context: The session that its plan was made in.
        number: Two expressions with different numbers are not taken for equal.
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
        name = b"".join(children(column, Column.NAME))  # an empty one is left out
        tables = [children(relation, ColumnRelation.RELATION)[0] for relation in children(column, Column.RELATION)]
        names = [table.split(b".") for table in tables]
        relations = [message(len(parts), b"".join(map(message, count(1), parts))) for parts in names]
        return message(AliasNode.ALIAS, name) + b"".join(message(AliasNode.RELATION, one) for one in relations)
    return message(AliasNode.ALIAS, str(expr.schema_name()).encode())


def _without_analyzed_filters(logical: bytes, context: SessionContext) -> bytes:
    """Return an encoded plan in which no filter with a cast or arithmetic is analyzed."""

    def change(node: bytes) -> bytes | None:
        if (parts := filter_parts(node)) is None or not _is_plan(node, context):
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
    fields_below = _frame(below, context).schema()
    never_null = {field.name for field in fields_below if not field.nullable}  # one of that name: another may be NULL
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

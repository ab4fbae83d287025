"""Faults of DataFusion 55 in aggregates, and their workarounds.

**Minima and maxima of floats in groups.** `min` and `max` start from the largest and smallest finite number, and
compare NaN with nothing: {inf} has the minimum 1.797e308, and the result with a NaN depends on the order of the rows
(apache/datafusion#24432). Without groups they are right: -0.0 is less than 0.0, and NaN is greater than infinity.
`first_value(x ORDER BY x)` has that order in groups too. It takes two to five times as long, so other types keep their
functions.

**Sums and distinct counts of constants without groups.** If all calls of an aggregate follow from statistics, it reads
no row. The statistics of a constant in a projection are wrong if it is NULL or there are no rows: the distinct count is
1 instead of 0, and the sum is 0 instead of NULL. If one call has a FILTER, all are computed from rows.
"""

from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa
from datafusion import Expr, LogicalPlan, SessionContext

from dagfusion_query.plan_messages import (
    AggregateNode,
    AggregateUDFExprNode,
    AliasNode,
    LogicalExprNode,
    LogicalPlanNode,
    ProjectionNode,
    SortExprNode,
)
from dagfusion_query.wire import LENGTH, change_children, children, flag, message, rewrite, uint, varint, with_children

_ASCENDING = {b"min": uint(SortExprNode.ASC, 1), b"max": b""}
_FROM_STATISTICS = (b"sum", b"count")
_CONSTANT = varint(LogicalExprNode.LITERAL << 3 | LENGTH)


def exact_aggregates(logical: bytes, context: SessionContext) -> bytes:
    """Return an encoded logical plan whose aggregates are right.

    Args:
        logical: The plan; its columns keep their names.
        context: The session that it was planned in.
    """
    for name in _ASCENDING:
        logical = _with_calls(logical, name, partial(_exact_bounds, name=name, context=context))
    for name in _FROM_STATISTICS:
        logical = _with_calls(logical, name, partial(_computed_from_rows, name=name, context=context))
    return logical


def _with_calls(logical: bytes, name: bytes, change: Callable[[bytes], Sequence[bytes] | None]) -> bytes:
    """Return an encoded plan in which the aggregates that call a function have other calls.

    Args:
        logical: The plan.
        name: The function.
        change: Returns the calls of an encoded aggregate, in their order; None leaves them.
    """
    marker = message(AggregateUDFExprNode.FUN_NAME, name)

    def changed(node: bytes) -> bytes | None:
        aggregates = children(node, LogicalPlanNode.AGGREGATE)
        if len(aggregates) != 1 or len(inputs := children(aggregates[0], AggregateNode.INPUT)) != 1:
            return None
        if (calls := change(node)) is None:
            return None
        parts = {AggregateNode.INPUT: [rewrite(inputs[0], marker, changed)], AggregateNode.AGGR_EXPR: calls}
        return message(LogicalPlanNode.AGGREGATE, with_children(aggregates[0], parts))

    return rewrite(logical, marker, changed)


def _exact_bounds(node: bytes, name: bytes, context: SessionContext) -> Sequence[bytes] | None:
    (aggregate,) = children(node, LogicalPlanNode.AGGREGATE)
    calls = children(aggregate, AggregateNode.AGGR_EXPR)
    if not calls or not children(aggregate, AggregateNode.GROUP_EXPR):
        return None
    floats = zip(calls, _are_floats(node, len(calls), context), strict=True)
    return [
        _replaced(call, name, context, partial(_first, name=name)) if is_float else call for call, is_float in floats
    ]


def _are_floats(node: bytes, count: int, context: SessionContext) -> Sequence[bool]:
    """Return for each of an aggregate's last columns whether it is of floats."""
    schema = context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, node)).schema()
    return [pa.types.is_floating(kind) for kind in schema.types[-count:]]


def _first(function: bytes, name: bytes) -> bytes:
    """Return the first value in the order of a minimum or maximum."""
    (argument,) = children(function, AggregateUDFExprNode.ARGS)
    first = message(AggregateUDFExprNode.FUN_NAME, b"first_value") + message(AggregateUDFExprNode.ARGS, argument)
    first += b"".join(
        message(AggregateUDFExprNode.FILTER, condition) for condition in children(function, AggregateUDFExprNode.FILTER)
    )
    return first + message(AggregateUDFExprNode.ORDER_BY, message(SortExprNode.EXPR, argument) + _ASCENDING[name])


def _computed_from_rows(node: bytes, name: bytes, context: SessionContext) -> Sequence[bytes] | None:
    (aggregate,) = children(node, LogicalPlanNode.AGGREGATE)
    if children(aggregate, AggregateNode.GROUP_EXPR):
        return None
    (below,) = children(aggregate, AggregateNode.INPUT)
    if not _projects_a_constant(below):
        return None
    calls = children(aggregate, AggregateNode.AGGR_EXPR)
    if any(children(function, AggregateUDFExprNode.FILTER) for call in calls for function in _functions(call)):
        return None
    for number, call in enumerate(calls):
        # Not more than one: with several of the same, DataFusion fails to eliminate the common expression.
        if (filtered := _replaced(call, name, context, partial(_filtered, context=context))) != call:
            return [*calls[:number], filtered, *calls[number + 1 :]]
    return None


def _projects_a_constant(plan: bytes) -> bool:
    """Return True if a projection in an encoded plan may have a constant. Other messages that look like it count."""
    found = False

    def look(node: bytes) -> None:
        nonlocal found
        found = found or any(
            _is_constant(expr)
            for projection in children(node, LogicalPlanNode.PROJECTION)
            for expr in children(projection, ProjectionNode.EXPR)
        )

    rewrite(plan, _CONSTANT, look)
    return found


def _is_constant(expr: bytes) -> bool:
    return bool(children(expr, LogicalExprNode.LITERAL)) or any(
        _is_constant(inner)
        for alias in children(expr, LogicalExprNode.ALIAS)
        for inner in children(alias, AliasNode.EXPR)
    )


def _functions(call: bytes) -> list[bytes]:
    """Return the function of a call, also below its alias."""
    below = [inner for alias in children(call, LogicalExprNode.ALIAS) for inner in children(alias, AliasNode.EXPR)]
    return children(call, LogicalExprNode.AGGREGATE_UDF) + [
        function for inner in below for function in _functions(inner)
    ]


def _filtered(function: bytes, context: SessionContext) -> bytes | None:
    """Return a sum or distinct count with a FILTER that leaves out NULL, as it does without one; None for any other."""
    is_count = children(function, AggregateUDFExprNode.FUN_NAME) == [b"count"]
    arguments = children(function, AggregateUDFExprNode.ARGS)
    if len(arguments) != 1 or (is_count and not flag(function, AggregateUDFExprNode.DISTINCT)):
        return None
    condition = bytes(Expr.from_bytes(arguments[0], context).is_not_null().to_bytes())
    return function + message(AggregateUDFExprNode.FILTER, condition)


def _replaced(call: bytes, name: bytes, context: SessionContext, change: Callable[[bytes], bytes | None]) -> bytes:
    """Return a call with another function under its name; the call as it is if it is of another function."""
    functions = children(call, LogicalExprNode.AGGREGATE_UDF)
    if not functions:
        return change_children(
            call,
            LogicalExprNode.ALIAS,
            lambda alias: change_children(alias, AliasNode.EXPR, lambda inner: _replaced(inner, name, context, change)),
        )
    if children(functions[0], AggregateUDFExprNode.FUN_NAME) != [name] or (new := change(functions[0])) is None:
        return call
    column = str(Expr.from_bytes(call, context).schema_name())
    return message(
        LogicalExprNode.ALIAS,
        message(AliasNode.EXPR, message(LogicalExprNode.AGGREGATE_UDF, new))
        + message(AliasNode.ALIAS, column.encode()),
    )

"""Minima and maxima of floats in groups, by DataFusion's own order of floats.

In groups, `min` and `max` of DataFusion 55 start from the largest and smallest finite number, and compare NaN with
nothing: {inf} has the minimum 1.797e308, and what becomes of a NaN depends on the order of the rows
(apache/datafusion#24432). Without groups they are right: -0.0 is less than 0.0, and NaN is greater than infinity.
`first_value(x ORDER BY x)` has that order in groups too. It takes two to five times as long, so other types keep their
functions.
"""

from collections.abc import Sequence

import pyarrow as pa
from datafusion import Expr, LogicalPlan, SessionContext

from dagfusion_query.plan_messages import (
    AggregateNode,
    AggregateUDFExprNode,
    AliasNode,
    LogicalExprNode,
    LogicalPlanNode,
    SortExprNode,
)
from dagfusion_query.wire import children, fields, message, rewrite, uint

_ASCENDING = {b"min": uint(SortExprNode.ASC, 1), b"max": b""}


def exact_float_bounds(logical: bytes, context: SessionContext) -> bytes:
    """Return an encoded logical plan whose groups have the right minima and maxima of floats.

    Args:
        logical: The plan; its columns keep their names.
        context: The session that it was planned in.
    """
    for name in _ASCENDING:
        logical = _with_exact(logical, name, context)
    return logical


def _with_exact(logical: bytes, name: bytes, context: SessionContext) -> bytes:
    """Replace one of the two functions."""
    marker = message(AggregateUDFExprNode.FUN_NAME, name)

    def change(node: bytes) -> bytes | None:
        calls = _grouped_calls(node)
        if not calls:
            return None
        floats = zip(calls, _are_floats(node, len(calls), context), strict=True)
        changed = [_ordered(call, name, context) if is_float else call for call, is_float in floats]
        (aggregate,) = children(node, LogicalPlanNode.AGGREGATE)
        (below,) = children(aggregate, AggregateNode.INPUT)
        groups = b"".join(
            field.raw
            for field in fields(aggregate)
            if field.number not in (AggregateNode.INPUT, AggregateNode.AGGR_EXPR)
        )
        parts = message(AggregateNode.INPUT, rewrite(below, marker, change)) + groups
        return message(
            LogicalPlanNode.AGGREGATE, parts + b"".join(message(AggregateNode.AGGR_EXPR, call) for call in changed)
        )

    return rewrite(logical, marker, change)


def _grouped_calls(node: bytes) -> Sequence[bytes]:
    """Return the aggregate expressions of an encoded node; none if it is no aggregate, or one without groups."""
    aggregates = children(node, LogicalPlanNode.AGGREGATE)
    if (
        len(aggregates) != 1
        or len(children(aggregates[0], AggregateNode.INPUT)) != 1
        or not children(aggregates[0], AggregateNode.GROUP_EXPR)
    ):
        return []
    return children(aggregates[0], AggregateNode.AGGR_EXPR)


def _are_floats(node: bytes, count: int, context: SessionContext) -> Sequence[bool]:
    """Return for each of an aggregate's last columns whether it is of floats."""
    schema = context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, node)).schema()
    return [pa.types.is_floating(kind) for kind in schema.types[-count:]]


def _ordered(call: bytes, name: bytes, context: SessionContext) -> bytes:
    """Return the first value in a call's order; the call as it is if it is of another function."""
    functions = children(call, LogicalExprNode.AGGREGATE_UDF)
    if not functions:
        return b"".join(
            message(LogicalExprNode.ALIAS, _renamed(field.value, name, context))
            if field.number == LogicalExprNode.ALIAS and isinstance(field.value, bytes)
            else field.raw
            for field in fields(call)
        )
    if children(functions[0], AggregateUDFExprNode.FUN_NAME) != [name]:
        return call
    (argument,) = children(functions[0], AggregateUDFExprNode.ARGS)
    first = message(AggregateUDFExprNode.FUN_NAME, b"first_value") + message(AggregateUDFExprNode.ARGS, argument)
    first += b"".join(
        message(AggregateUDFExprNode.FILTER, condition)
        for condition in children(functions[0], AggregateUDFExprNode.FILTER)
    )
    first += message(AggregateUDFExprNode.ORDER_BY, message(SortExprNode.EXPR, argument) + _ASCENDING[name])
    column = str(Expr.from_bytes(call, context).schema_name())
    return message(
        LogicalExprNode.ALIAS,
        message(AliasNode.EXPR, message(LogicalExprNode.AGGREGATE_UDF, first))
        + message(AliasNode.ALIAS, column.encode()),
    )


def _renamed(alias: bytes, name: bytes, context: SessionContext) -> bytes:
    """Return an alias of a call, whose name stays."""
    return b"".join(
        message(AliasNode.EXPR, _ordered(field.value, name, context))
        if field.number == AliasNode.EXPR and isinstance(field.value, bytes)
        else field.raw
        for field in fields(alias)
    )

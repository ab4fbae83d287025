"""Faults of DataFusion 55 in aggregates, and their workarounds.

**Minima and maxima of floats in groups.** `min` and `max` start from the largest and smallest finite number, and
compare NaN with nothing: {inf} has the minimum 1.797e308, and the result with a NaN depends on the order of the rows
(apache/datafusion#24432). Without groups they are right: -0.0 is less than 0.0, and NaN is greater than infinity.
`first_value(x ORDER BY x)` has that order in groups too. It takes two to five times as long, so other types keep their
functions.

**Aggregates without groups that follow from statistics.** If the statistics of its input give all results of an
aggregate, it reads no row. There are two faults:

- The statistics of a constant in a projection are wrong if it is NULL or there are no rows. The distinct count is 1
  instead of 0, and the sum is 0 instead of NULL. An argument that is an expression has no statistics.
- An aggregate with a FILTER has the results of the next aggregate below it that has no groups and no FILTER, if those
  follow from statistics. So each of them gets a FILTER that keeps all rows.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa
from datafusion import Expr, LogicalPlan, SessionContext, functions, lit

from dagfusion_query.plan_messages import (
    AggregateNode,
    AggregateUDFExprNode,
    AliasNode,
    LogicalExprNode,
    LogicalPlanNode,
    SortExprNode,
)
from dagfusion_query.wire import (
    LENGTH,
    change_children,
    children,
    fields,
    flag,
    message,
    rewrite,
    uint,
    varint,
    with_children,
)

_ASCENDING = {b"min": uint(SortExprNode.ASC, 1), b"max": b""}
_UNGROUPED = "groupBy=[[]]"
_FROM_STATISTICS = re.compile(r"\bsum\(|\(DISTINCT |FILTER \(WHERE")
_CALL = varint(LogicalExprNode.AGGREGATE_UDF << 3 | LENGTH)


def exact_aggregates(logical: bytes, text: str, context: SessionContext) -> bytes:
    """Return an encoded logical plan whose aggregates are right.

    Args:
        logical: The plan; its columns keep their names.
        text: The plan as text, in which names and literals may look like aggregates, which costs only time.
        context: The session that it was planned in.
    """
    for name in _ASCENDING:
        logical = _with_exact_bounds(logical, name, context)
    if _UNGROUPED in text and _FROM_STATISTICS.search(text):
        logical = _from_rows(logical, context)
    return logical


def _with_exact_bounds(logical: bytes, name: bytes, context: SessionContext) -> bytes:
    """Return an encoded plan in which aggregates with groups have other calls for the bounds of floats.

    Args:
        logical: The plan.
        name: The function, `min` or `max`.
        context: The session that it was planned in.
    """
    marker = message(AggregateUDFExprNode.FUN_NAME, name)

    def changed(node: bytes) -> bytes | None:
        if (aggregate := _aggregate(node)) is None:
            return None
        calls = children(aggregate, AggregateNode.AGGR_EXPR)
        if not calls or not children(aggregate, AggregateNode.GROUP_EXPR):
            return None
        first = partial(_first, name=name)
        floats = zip(calls, _are_floats(node, len(calls), context), strict=True)
        exact = [_replaced(call, name, context, first) if is_float else call for call, is_float in floats]
        return _with_parts(aggregate, rewrite(_input(aggregate), marker, changed), exact)

    return rewrite(logical, marker, changed)


def _aggregate(node: bytes) -> bytes | None:
    """Return the aggregate of an encoded plan; None for any other message."""
    aggregates = children(node, LogicalPlanNode.AGGREGATE)
    if len(aggregates) != 1 or len([*fields(node)]) != 1 or len(children(aggregates[0], AggregateNode.INPUT)) != 1:
        return None
    return aggregates[0]


def _input(aggregate: bytes) -> bytes:
    (below,) = children(aggregate, AggregateNode.INPUT)
    return below


def _with_parts(aggregate: bytes, below: bytes, calls: Sequence[bytes]) -> bytes:
    """Return the encoded plan of an aggregate with another input and other calls."""
    parts = {AggregateNode.INPUT: [below], AggregateNode.AGGR_EXPR: calls}
    return message(LogicalPlanNode.AGGREGATE, with_children(aggregate, parts))


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


def _from_rows(logical: bytes, context: SessionContext, *, below_filter: bool = False) -> bytes:
    """Return an encoded plan whose aggregates without groups follow from statistics only if those are right."""

    def changed(node: bytes) -> bytes | None:
        if (aggregate := _aggregate(node)) is None:
            return None
        below, calls = _input(aggregate), children(aggregate, AggregateNode.AGGR_EXPR)
        has_groups = bool(children(aggregate, AggregateNode.GROUP_EXPR))
        is_filtered = not has_groups and any(map(_has_filter, calls))
        if not has_groups and not is_filtered:
            if below_filter:
                calls = [_changed(calls[0], context, _filtered), *calls[1:]] if calls else calls
            elif any(map(_is_of_values, calls)) and _projects_a_constant(LogicalPlan.from_bytes(context, below)):
                calls = _with_one_unknown(calls, context)
        return _with_parts(aggregate, _from_rows(below, context, below_filter=below_filter or is_filtered), calls)

    return rewrite(logical, _CALL, changed)


def _function(call: bytes) -> bytes:
    """Return the function of a call, also below its aliases."""
    for alias in children(call, LogicalExprNode.ALIAS):
        for inner in children(alias, AliasNode.EXPR):
            return _function(inner)
    return b"".join(children(call, LogicalExprNode.AGGREGATE_UDF))


def _has_filter(call: bytes) -> bool:
    return bool(children(_function(call), AggregateUDFExprNode.FILTER))


def _is_of_values(call: bytes) -> bool:
    """Return True for a sum or a distinct count of one argument."""
    function = _function(call)
    name = children(function, AggregateUDFExprNode.FUN_NAME)
    is_distinct = flag(function, AggregateUDFExprNode.DISTINCT)
    has_one_argument = len(children(function, AggregateUDFExprNode.ARGS)) == 1
    return has_one_argument and (name == [b"sum"] or (name == [b"count"] and is_distinct))


def _projects_a_constant(plan: LogicalPlan) -> bool:
    """Return True if a projection in a plan has a constant."""
    if plan.display().startswith("Projection:") and any(map(_is_constant, plan.to_variant().projections())):
        return True
    return any(map(_projects_a_constant, plan.inputs()))


def _is_constant(expr: Expr) -> bool:
    if expr.variant_name() == "Alias":
        return _is_constant(expr.to_variant().expr())
    return bool(expr.variant_name() == "Literal")


def _with_one_unknown(calls: Sequence[bytes], context: SessionContext) -> list[bytes]:
    """Return calls of which the first sum or distinct count does not follow from statistics."""
    number = next(number for number, call in enumerate(calls) if _is_of_values(call))
    return [*calls[:number], _changed(calls[number], context, partial(_unknown, context=context)), *calls[number + 1 :]]


def _unknown(function: bytes, context: SessionContext) -> bytes:
    """Return a function whose arguments are expressions that always have the values of its arguments."""
    always = functions.random() >= lit(0.0)

    def guarded(argument: bytes) -> bytes:
        return bytes(functions.when(always, Expr.from_bytes(argument, context)).end().to_bytes())

    return change_children(function, AggregateUDFExprNode.ARGS, guarded)


def _filtered(function: bytes) -> bytes:
    return function + message(AggregateUDFExprNode.FILTER, bytes(lit(value=True).to_bytes()))


def _changed(call: bytes, context: SessionContext, change: Callable[[bytes], bytes]) -> bytes:
    """Return a call with a change of its function, under its name."""
    (name,) = children(_function(call), AggregateUDFExprNode.FUN_NAME)
    return _replaced(call, name, context, change)


def _replaced(call: bytes, name: bytes, context: SessionContext, change: Callable[[bytes], bytes]) -> bytes:
    """Return a call with another function under its name; the call as it is if it is of another function."""
    found = children(call, LogicalExprNode.AGGREGATE_UDF)
    if not found:
        return change_children(
            call,
            LogicalExprNode.ALIAS,
            lambda alias: change_children(alias, AliasNode.EXPR, lambda inner: _replaced(inner, name, context, change)),
        )
    if children(found[0], AggregateUDFExprNode.FUN_NAME) != [name]:
        return call
    column = str(Expr.from_bytes(call, context).schema_name())
    return message(
        LogicalExprNode.ALIAS,
        message(AliasNode.EXPR, message(LogicalExprNode.AGGREGATE_UDF, change(found[0])))
        + message(AliasNode.ALIAS, column.encode()),
    )

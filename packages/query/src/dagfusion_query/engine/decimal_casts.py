"""Casts of decimals that DataFusion 55 drops from comparisons, and the workaround.

`CAST(price AS BIGINT) = 1` becomes `price = 1.00`, which is false for a price of 1.54 (apache/datafusion#23095). So a
cast that loses digits is the argument of a function that returns it: `nullif(CAST(price AS BIGINT), NULL)`.
"""

import re
from functools import partial

import pyarrow as pa
from datafusion import DataFrame, Expr, LogicalPlan, SessionContext, lit
from datafusion import functions as f

from dagfusion_query.plan_messages import (
    AggregateNode,
    AliasNode,
    JoinNode,
    LogicalExprNode,
    LogicalPlanNode,
    ProjectionNode,
    SelectionNode,
)
from dagfusion_query.wire import Field, children, fields, message, rewrite

_NARROWER = re.compile(r"(?:\bas|::)\s*(?:decimal|numeric|dec\b|(?:tiny|small|big)?int|unsigned)", re.IGNORECASE)
_ANYTHING = b""
# By kind of operator: the fields of its inputs and of its expressions, and whether these are columns of its output.
_OPERATORS = {
    LogicalPlanNode.SELECTION: ({SelectionNode.INPUT}, {SelectionNode.EXPR}, False),
    LogicalPlanNode.PROJECTION: ({ProjectionNode.INPUT}, {ProjectionNode.EXPR}, True),
    LogicalPlanNode.AGGREGATE: ({AggregateNode.INPUT}, {AggregateNode.GROUP_EXPR, AggregateNode.AGGR_EXPR}, True),
    LogicalPlanNode.JOIN: ({JoinNode.LEFT, JoinNode.RIGHT}, {JoinNode.FILTER}, False),
}


def may_lose_digits(sql: str) -> bool:
    """Return True if a statement may cast a decimal to an integer, or to a decimal with fewer digits."""
    return _NARROWER.search(sql) is not None


def keep_narrowing_casts(plan: bytes, context: SessionContext) -> bytes:
    """Return an encoded plan whose casts of decimals that lose digits are not dropped from comparisons.

    Args:
        plan: The encoded plan, which is analyzed, and not optimized.
        context: A session that can decode it.
    """
    return rewrite(plan, _ANYTHING, partial(_operator, context=context))


def _operator(node: bytes, context: SessionContext) -> bytes | None:
    """Return an encoded operator whose casts are kept; None for any other message."""
    try:
        ((number, _, _, _),) = fields(node)
        inputs, expressions, are_columns = _OPERATORS[number]
        (operator,) = children(node, number)
        below = node if number == LogicalPlanNode.JOIN else children(operator, *inputs)[0]
        frame = context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, below))
    except Exception:  # noqa: BLE001  # DataFusion's errors have no class; this is a message of another kind
        return None

    def part_with_casts(part: Field) -> bytes:
        if not isinstance(part.value, bytes) or part.number not in inputs | expressions:
            return part.raw
        if part.number in inputs:
            return message(part.number, keep_narrowing_casts(part.value, context))
        kept = rewrite(part.value, _ANYTHING, partial(_cast, frame=frame, context=context))
        is_unnamed = are_columns and kept != part.value and not children(part.value, LogicalExprNode.ALIAS)
        return message(part.number, _named_as(part.value, kept, context) if is_unnamed else kept)

    return message(number, b"".join(map(part_with_casts, fields(operator))))


def _cast(node: bytes, frame: DataFrame, context: SessionContext) -> bytes | None:
    """Return an encoded cast that is kept, if it may lose digits of a decimal; None for any other message."""
    if not any(children(node, number) for number in (LogicalExprNode.CAST, LogicalExprNode.TRY_CAST)):
        return None
    try:
        expr = Expr.from_bytes(node, context)
        source, target = (frame.select(one).schema().field(0).type for one in (*expr.rex_call_operands(), expr))
    except Exception:  # noqa: BLE001  # likewise
        return None
    if not pa.types.is_decimal(source) or not (pa.types.is_decimal(target) or pa.types.is_integer(target)):
        return None
    digits = target.scale if pa.types.is_decimal(target) else 0
    return bytes(f.nullif(expr, lit(None)).to_bytes()) if digits < source.scale else None


def _named_as(expr: bytes, changed: bytes, context: SessionContext) -> bytes:
    name = str(Expr.from_bytes(expr, context).schema_name()).encode()
    return message(LogicalExprNode.ALIAS, message(AliasNode.EXPR, changed) + message(AliasNode.ALIAS, name))

"""Casts of decimals and integers that DataFusion 55 drops from comparisons, and the workaround.

`CAST(price AS BIGINT) = 1` becomes `price = 1.00`, which is false for a price of 1.54 (apache/datafusion#23095). Where
`TRY_CAST` has no value, a comparison becomes one of the number (#24702). So a cast that loses digits, or is tried, is
the argument of a function that returns it: `nullif(CAST(price AS BIGINT), NULL)`.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

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
    WindowNode,
)
from dagfusion_query.scan.plan_faults import in_grouping_sets
from dagfusion_query.wire import LENGTH, Field, children, fields, message, rewrite, varint

_ANYTHING = b""


class _Operator(NamedTuple):
    """The fields of an operator's inputs and expressions, and whether the expressions are columns of its output."""

    inputs: frozenset[int]
    expressions: frozenset[int]
    are_columns: bool = True


_OPERATORS = {
    LogicalPlanNode.SELECTION: _Operator(
        frozenset({SelectionNode.INPUT}), frozenset({SelectionNode.EXPR}), are_columns=False
    ),
    LogicalPlanNode.PROJECTION: _Operator(frozenset({ProjectionNode.INPUT}), frozenset({ProjectionNode.EXPR})),
    LogicalPlanNode.AGGREGATE: _Operator(
        frozenset({AggregateNode.INPUT}), frozenset({AggregateNode.GROUP_EXPR, AggregateNode.AGGR_EXPR})
    ),
    LogicalPlanNode.WINDOW: _Operator(frozenset({WindowNode.INPUT}), frozenset({WindowNode.EXPR})),
    LogicalPlanNode.JOIN: _Operator(
        frozenset({JoinNode.LEFT, JoinNode.RIGHT}), frozenset({JoinNode.FILTER}), are_columns=False
    ),
}
_MARKS = tuple(varint(number << 3 | LENGTH) for number in _OPERATORS)
_CASTS = tuple(varint(number << 3 | LENGTH) for number in (LogicalExprNode.CAST, LogicalExprNode.TRY_CAST))


def keep_narrowing_casts(plan: bytes, context: SessionContext) -> bytes:
    """Return an encoded plan whose casts of decimals that lose digits are not dropped from comparisons.

    Args:
        plan: The encoded plan, which is analyzed, and not optimized.
        context: A session that can decode it.
    """
    return rewrite(plan, _ANYTHING, partial(_with_casts, context=context))


def _with_casts(node: bytes, context: SessionContext) -> bytes | None:
    """Return an encoded operator whose casts are kept; None for any other message."""
    if not node.startswith(_MARKS):
        return None
    try:
        ((number, _, _, _),) = fields(node)
        (operator,) = children(node, number)
        kind = _OPERATORS[number]
        parts = [*fields(operator)]
        frame = context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, _input(node, parts, kind)))
    except Exception:  # noqa: BLE001  # DataFusion's errors have no class; this is a message of another kind
        return None

    def changed(part: Field) -> bytes:
        if not isinstance(part.value, bytes) or part.number not in kind.inputs | kind.expressions:
            return part.raw
        if part.number in kind.inputs:
            return message(part.number, keep_narrowing_casts(part.value, context))
        kept = partial(_kept, frame=frame, context=context, is_column=kind.are_columns)
        sets = in_grouping_sets(part.value, kept)
        return message(part.number, kept(part.value) if sets is None else sets)

    return message(number, b"".join(map(changed, parts)))


def _input(node: bytes, parts: Sequence[Field], kind: _Operator) -> bytes:
    """Return an encoded plan that has the columns of all inputs; a join is the inner one, which lacks none."""
    if children(node, LogicalPlanNode.JOIN):
        both = (part.raw for part in parts if part.number not in (JoinNode.TYPE, JoinNode.FILTER))
        return message(LogicalPlanNode.JOIN, b"".join(both))
    return next(part.value for part in parts if part.number in kind.inputs and isinstance(part.value, bytes))


def _kept(expr: bytes, frame: DataFrame, context: SessionContext, *, is_column: bool) -> bytes:
    """Return an encoded expression whose casts are kept, with the same name if it is a column of an operator."""
    kept = rewrite(expr, _ANYTHING, partial(_cast, frame=frame, context=context))
    if kept == expr or not is_column or children(expr, LogicalExprNode.ALIAS):
        return kept
    name = str(Expr.from_bytes(expr, context).schema_name()).encode()
    return message(LogicalExprNode.ALIAS, message(AliasNode.EXPR, kept) + message(AliasNode.ALIAS, name))


def _cast(node: bytes, frame: DataFrame, context: SessionContext) -> bytes | None:
    """Return an encoded cast that is kept, if it may lose digits of a decimal; None for any other message."""
    if not node.startswith(_CASTS):
        return None
    try:
        expr = Expr.from_bytes(node, context)
        source, target = (frame.select(one).schema().field(0).type for one in (*expr.rex_call_operands(), expr))
    except Exception:  # noqa: BLE001  # likewise
        return None
    if not _is_exact(source) or not _is_exact(target) or source.equals(target):
        return None
    is_lossy = _scale(target) < _scale(source) or bool(children(node, LogicalExprNode.TRY_CAST))
    return bytes(f.nullif(expr, lit(None)).to_bytes()) if is_lossy else None


def _is_exact(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind))


def _scale(kind: pa.DataType) -> int:
    """Return the digits after the point."""
    return int(kind.scale) if pa.types.is_decimal(kind) else 0

"""Constants that are read in the type of what they are compared with: timestamps without seconds, decimal numbers.

DataFusion casts a constant when a column is compared with it. Two of its casts are refined here. Text without seconds
is a timestamp, also as Dagster writes the keys of hourly partitions, `2024-03-10-03:00`. A number with a point is a
double in SQL's text, and the nearest double of 0.1 is not 0.1: as a decimal it is the number that was written. (The
engine's option `parse_float_as_decimal` would make all such numbers decimals: then `1 / 3.0` is 0.3333.)

The plan is taken after DataFusion's analysis, which makes each cast explicit, and before a constant is computed. Lists
that DataFusion would merge wrongly are kept apart in the same pass: see `in_lists`.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache

import pyarrow as pa
from datafusion import DataFrame, Expr, LogicalPlan, SessionContext

from dagfusion_query.catalog.entry import encode_scalar
from dagfusion_query.engine.in_lists import keep_lists_apart, may_merge_lists
from dagfusion_query.plan_messages import AliasNode, ArrowType, CastNode, LogicalExprNode, ScalarValue
from dagfusion_query.scan.lossy import keep_unlimited
from dagfusion_query.wire import children, fields, message, rewrite

_STRINGS = (ScalarValue.UTF8, ScalarValue.LARGE_UTF8, ScalarValue.UTF8_VIEW)
_DECIMALS = (ArrowType.DECIMAL128, ArrowType.DECIMAL256, ArrowType.DECIMAL32, ArrowType.DECIMAL64)
_PRECISION = 38  # of decimal128
_DECIMAL_MARKS = tuple(message(number, b"")[:-1] for number in _DECIMALS)

# Analysis makes casts explicit. These rules turn subqueries, which do not serialize, into joins, which do.
_RULES = {
    "decorrelate_lateral_join",
    "decorrelate_predicate_subquery",
    "rewrite_set_comparison",
    "scalar_subquery_to_join",
}
_MINUTE = re.compile(rb"\d{4}-\d\d-\d\d[ Tt-]\d\d:\d\d")
_WRITTEN = re.compile(r"(?<![\w.])(?:\d+\.|\.\d|\d+[eE])|" + _MINUTE.pattern.decode())
_TEXT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?P<between>[ Tt-])(?P<minute>\d\d:\d\d)(?P<second>:\d\d(?:\.\d+)?)?"
    r"(?P<offset> ?(?:[Zz]|[+-]\d\d:?\d\d))?"
)


def may_change(sql: str, values: Mapping[str, pa.Scalar]) -> bool:
    """Return True if `read_in_context` may change a statement or the type of a parameter."""
    return (
        _WRITTEN.search(sql) is not None
        or may_merge_lists(sql)
        or any(pa.types.is_floating(value.type) or pa.types.is_string(value.type) for value in values.values())
    )


def read_in_context(frame: DataFrame, context: SessionContext) -> DataFrame:
    """Return a statement whose constants have the types of what they are compared with.

    Args:
        frame: A statement that is not optimized.
        context: The session that it was planned in.

    Returns:
        The same frame if there is nothing to change, or if its plan does not serialize.
    """
    try:
        analyzed = _analysis().create_dataframe_from_logical_plan(frame.logical_plan()).optimized_logical_plan()
        plan = keep_unlimited(analyzed.to_bytes())
        changed = _changed(plan)
        if changed == plan:
            return frame
        return context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, changed))
    except Exception:  # noqa: BLE001  # DataFusion's errors have no class. What is wrong with the statement is raised
        return frame  # when it is optimized; one that only does not serialize runs as it was written.


def _changed(plan: bytes) -> bytes:
    plan = keep_lists_apart(plan)
    for mark in set(_MINUTE.findall(plan)):
        plan = rewrite(plan, mark, lambda node: _recast(node, (ArrowType.TIMESTAMP,), _timestamp))
    for mark in _DECIMAL_MARKS:
        plan = rewrite(plan, mark, lambda node: _recast(node, _DECIMALS, _decimal))
    return plan


def timestamp_text(text: str) -> str | None:
    """Return a timestamp as DataFusion reads it; None if `text` is none, or is one already.

    >>> timestamp_text("2024-03-10-03:00")
    '2024-03-10 03:00:00'
    """
    found = _TEXT.fullmatch(text)
    if found is None or (found["second"] and found["between"] != "-"):
        return None
    return f"{found['date']} {found['minute']}{found['second'] or ':00'}{found['offset'] or ''}"


@cache
def _analysis() -> SessionContext:
    """Return a session whose plans are analyzed, and not optimized."""
    context = SessionContext()
    steps = [row["plan_type"] for row in context.sql("EXPLAIN VERBOSE SELECT 1").to_pylist()]
    optimizer = steps[steps.index("analyzed_logical_plan") + 1 : steps.index("logical_plan")]
    for rule in {step.removeprefix("logical_plan after ") for step in optimizer} - _RULES:
        context.remove_optimizer_rule(rule)
    return context


def _recast(node: bytes, kinds: tuple[int, ...], change: Callable[[bytes], bytes | None]) -> bytes | None:
    """Change the constant of a cast to one of these types; None if the message is no such cast.

    The new constant has the old one's name, which other nodes of the plan may refer to.
    """
    cast = _only(node, LogicalExprNode.CAST)
    operand, kind = _only(cast, CastNode.EXPR), _only(cast, CastNode.ARROW_TYPE)
    if not any(children(kind, number) for number in kinds):
        return None
    if (changed := change(_only(operand, LogicalExprNode.LITERAL))) is None:
        return None
    name = str(Expr.from_bytes(operand, _analysis()).schema_name())
    alias = message(AliasNode.EXPR, message(LogicalExprNode.LITERAL, changed)) + message(AliasNode.ALIAS, name.encode())
    rest = b"".join(field.raw for field in fields(cast) if field.number != CastNode.EXPR)
    return message(LogicalExprNode.CAST, message(CastNode.EXPR, message(LogicalExprNode.ALIAS, alias)) + rest)


def _only(node: bytes, number: int) -> bytes:
    """Return the sub-message of a field that occurs once; an empty one if it does not."""
    found = children(node, number)
    return found[0] if len(found) == 1 else b""


def _timestamp(literal: bytes) -> bytes | None:
    for number in _STRINGS:
        for text in children(literal, number):
            changed = timestamp_text(text.decode())
            return None if changed is None else message(number, changed.encode())
    return None


def _decimal(literal: bytes) -> bytes | None:
    """Return a double as the number that was written: the shortest one that is read as this double."""
    for bits in children(literal, ScalarValue.FLOAT64):
        (number,) = struct.unpack("<d", bits)
        written = Decimal(repr(number)) if math.isfinite(number) else Decimal("1e999")
        _, digits, exponent = written.as_tuple()
        scale = max(0, -int(exponent))
        precision = max(len(digits) + max(0, int(exponent)), scale, 1)
        if precision <= _PRECISION:
            return encode_scalar(written, pa.decimal128(precision, scale))
    return None

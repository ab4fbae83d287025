"""Constants and lists that DataFusion 55 would read wrongly in the logical plan, and their workarounds.

DataFusion casts a constant when a column is compared with it. Two of its casts are refined here. Text without seconds
is a timestamp, also as Dagster writes the keys of hourly partitions, `2024-03-10-03:00`. A number with a point is a
double in SQL's text, and the nearest double of 0.1 is not 0.1: as a decimal it is the number that was written. (The
engine's option `parse_float_as_decimal` would make all such numbers decimals: then `1 / 3.0` is 0.3333.)

A comparison has its constant last. DataFusion pushes `x = 3` and `3 = x` down together as a contradiction, and of
`x <= 3` and `3 > x` only the first (apache/datafusion#24763, fixed after 55). It puts constants last itself, but not in
the conditions of joins, and not if it has to compute them: `DATE '2024-01-01' = x`.

The simplification merges two lists of one value, and ignores NULL in three cases (apache/datafusion#24258, fixed after
55). `x = 1 OR x = 2` is a list as well. Such lists are kept apart:

    x NOT IN (1, 2) OR x NOT IN (3, 4)       becomes true, also where x is NULL
    x IN (1, 2) AND x NOT IN (5, NULL)       becomes x IN (1, 2), and is never true
    NOT (x IN (1, 2) AND x IN (3, 4))        becomes true, also where x is NULL

The plan is taken after DataFusion's analysis, which makes each cast explicit, and before a constant is computed.
"""

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import pyarrow as pa
from datafusion import DataFrame, Expr, LogicalPlan, SessionContext

from dagfusion_client.sql_text import (
    MINUTE,
    may_begin_with_constant,
    may_have_point_or_minute,
    may_lose_digits,
    may_negate_lists,
)
from dagfusion_query.catalog.partitioned_file import encode_scalar
from dagfusion_query.engine.decimal_casts import keep_narrowing_casts
from dagfusion_query.plan_messages import (
    AliasNode,
    ArrowType,
    BetweenNode,
    BinaryExprNode,
    CastNode,
    InListNode,
    JoinNode,
    LogicalExprNode,
    LogicalPlanNode,
    NotNode,
    ScalarValue,
)
from dagfusion_query.scan.plan_faults import (
    FILTER,
    JOIN,
    encoded_filter,
    filter_parts,
    filtered_join,
    joined,
    keep_unlimited,
    unmoved,
)
from dagfusion_query.scan.prune import is_constant
from dagfusion_query.wire import LENGTH, Field, children, fields, flag, message, rewrite, varint

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
_MINUTE = re.compile(MINUTE.encode())
_TEXT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?P<between>[ Tt-])(?P<minute>\d\d:\d\d)(?P<second>:\d\d(?:\.\d+)?)?"
    r"(?P<offset> ?(?:[Zz]|[+-]\d\d:?\d\d))?"
)
_TURNED = {b"Eq": b"Eq", b"NotEq": b"NotEq", b"Lt": b"Gt", b"LtEq": b"GtEq", b"Gt": b"Lt", b"GtEq": b"LtEq"}
_ANYTHING = b""
_MARK = "LeftMark Join"
_AND, _OR, _EQUAL = b"And", b"Or", b"Eq"
_BINARY = varint(LogicalExprNode.BINARY << 3 | LENGTH)


def may_change(sql: str, values: Mapping[str, pa.Scalar]) -> bool:
    """Return True if `read_in_context` may change a statement or the type of a parameter."""
    return (
        may_have_point_or_minute(sql)
        or may_negate_lists(sql)
        or may_begin_with_constant(sql)
        or may_lose_digits(sql)
        or any(pa.types.is_floating(value.type) or pa.types.is_string(value.type) for value in values.values())
    )


def read_in_context(frame: DataFrame, context: SessionContext, sql: str) -> DataFrame:
    """Return a statement whose constants have the types of what they are compared with.

    Args:
        frame: A statement that is not optimized.
        context: The session that it was planned in.
        sql: Its text, and that of the views that it names.

    Returns:
        The same frame if there is nothing to change, if its plan does not serialize, or if the change would let
        more joins ignore NULLs.
    """
    try:
        analyzed = _analysis().create_dataframe_from_logical_plan(frame.logical_plan()).optimized_logical_plan()
        plan = keep_unlimited(analyzed.to_bytes())
        changed = _changed(plan)
        changed = keep_narrowing_casts(changed, context) if may_lose_digits(sql) else changed
        if changed == plan:
            return frame
        read = context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, changed))
        return frame if _MARK in analyzed.display_indent() and _has_more_marks(read, frame) else read
    except Exception:  # noqa: BLE001  # DataFusion's errors have no class. What is wrong with the statement is raised
        return frame  # when it is optimized; one that only does not serialize runs as it was written.


def _has_more_marks(read: DataFrame, frame: DataFrame) -> bool:
    """Return True if a statement has more of the joins that ignore NULLs (apache/datafusion#25347) than another one.

    Subqueries become joins before the statement is simplified here. `NOT (x IN (SELECT ...) OR 1 > 2)` becomes such a
    join then, and a join that does not ignore NULLs otherwise.
    """
    marks, others = (one.optimized_logical_plan().display_indent().count(_MARK) for one in (read, frame))
    return marks > others


def timestamp_text(text: str) -> str | None:
    """Return a timestamp as DataFusion reads it; None if `text` is none, or is one already.

    >>> timestamp_text("2024-03-10-03:00")
    '2024-03-10 03:00:00'
    """
    found = _TEXT.fullmatch(text)
    if found is None or (found["second"] and found["between"] != "-"):
        return None
    return f"{found['date']} {found['minute']}{found['second'] or ':00'}{found['offset'] or ''}"


def put_constants_last(plan: bytes) -> bytes:
    """Return an encoded plan in whose filters, and conditions of joins, no comparison begins with a constant."""
    for marker, change in ((FILTER, _filter_with_constants_last), (JOIN, _join_with_constants_last)):
        plan = rewrite(plan, marker, change)
    return plan


def _changed(plan: bytes) -> bytes:
    plan = put_constants_last(keep_lists_apart(plan))
    for mark in set(_MINUTE.findall(plan)):
        plan = rewrite(plan, mark, lambda node: _recast(node, (ArrowType.TIMESTAMP,), _timestamp))
    for mark in _DECIMAL_MARKS:
        plan = rewrite(plan, mark, lambda node: _recast(node, _DECIMALS, _decimal))
    return plan


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


def _filter_with_constants_last(node: bytes) -> bytes | None:
    if (parts := filter_parts(node)) is None:
        return None
    below, condition = parts
    return encoded_filter(rewrite(below, FILTER, _filter_with_constants_last), _with_constants_last(condition))


def _join_with_constants_last(node: bytes) -> bytes | None:
    if (parts := filtered_join(node)) is None:
        return None
    kind = next((part.value for part in parts if part.number == JoinNode.TYPE), 0)
    if not isinstance(kind, int) or kind > JoinNode.LAST_OUTER:  # made of a subquery, whose filters are not moved
        return None
    return message(LogicalPlanNode.JOIN, b"".join(map(_part_with_constants_last, parts)))


def _part_with_constants_last(part: Field) -> bytes:
    if isinstance(part.value, bytes) and part.number in (JoinNode.LEFT, JoinNode.RIGHT):
        return message(part.number, rewrite(part.value, JOIN, _join_with_constants_last))
    if isinstance(part.value, bytes) and part.number == JoinNode.FILTER:
        return message(part.number, _with_constants_last(part.value))
    return part.raw


def _with_constants_last(condition: bytes) -> bytes:
    return rewrite(condition, _ANYTHING, _with_constant_last)


def _with_constant_last(expr: bytes) -> bytes | None:
    """Return a comparison of a constant, which comes last then; None for any other message."""
    try:
        (kind,) = fields(expr)
    except ValueError:
        return None
    if not isinstance(kind.value, bytes):
        return None
    match kind.number:
        case LogicalExprNode.BINARY:
            return _turned(kind.value)
        case LogicalExprNode.IN_LIST:
            return _compared_with_one(kind.value)
        case LogicalExprNode.BETWEEN:
            return _compared_with_two(kind.value)
    return None


def _turned(binary: bytes) -> bytes | None:
    operands, operators = children(binary, BinaryExprNode.OPERANDS), children(binary, BinaryExprNode.OP)
    turned = _TURNED.get(operators[0]) if len(operators) == 1 else None
    if turned is None or len(operands) != 2 or not _begins_with_constant(*operands):  # noqa: PLR2004
        return None
    return joined(turned, operands[::-1])


def _compared_with_one(in_list: bytes) -> bytes | None:
    values, listed = children(in_list, InListNode.EXPR), children(in_list, InListNode.LIST)
    if len(values) != 1 or len(listed) != 1 or not _begins_with_constant(values[0], listed[0]):
        return None
    return joined(b"NotEq" if flag(in_list, InListNode.NEGATED) else b"Eq", [listed[0], values[0]])


def _compared_with_two(between: bytes) -> bytes | None:
    values, lows, highs = (
        children(between, number) for number in (BetweenNode.EXPR, BetweenNode.LOW, BetweenNode.HIGH)
    )
    if not len(values) == len(lows) == len(highs) == 1 or not _begins_with_constant(values[0], lows[0], highs[0]):
        return None
    (value,), (low,), (high,) = values, lows, highs
    if flag(between, BetweenNode.NEGATED):
        return joined(b"Or", [joined(b"Gt", [low, value]), joined(b"Lt", [high, value])])
    return joined(b"And", [joined(b"LtEq", [low, value]), joined(b"GtEq", [high, value])])


def _begins_with_constant(first: bytes, *rest: bytes) -> bool:
    return _is_constant(first) and not all(map(_is_constant, rest))


def _is_constant(expr: bytes) -> bool:
    return is_constant(Expr.from_bytes(expr, _analysis()))


class _List(NamedTuple):
    """A comparison of a value with a list of values."""

    value: bytes
    negated: bool


def keep_lists_apart(plan: bytes) -> bytes:
    """Return an encoded plan in whose filters no two lists can be merged wrongly."""
    return rewrite(plan, FILTER, _filter_apart)


def _filter_apart(node: bytes) -> bytes | None:
    if (parts := filter_parts(node)) is None:
        return None
    below, condition = parts
    return encoded_filter(keep_lists_apart(below), _apart(condition))


def _apart(expr: bytes) -> bytes:
    for inner in children(expr, LogicalExprNode.NOT):
        return message(LogicalExprNode.NOT, message(NotNode.EXPR, _apart(*children(inner, NotNode.EXPR))))
    for operator in (_AND, _OR):
        operands = [*_operands(expr, operator)]
        if len(operands) > 1:
            changed = [*_kept_apart([_apart(operand) for operand in operands], operator)]
            return expr if changed == operands else joined(operator, changed)
    inside = rewrite(expr, _BINARY, _binary_apart)  # such as the conditions of CASE
    return keep_lists_apart(inside)  # and subqueries


def _binary_apart(node: bytes) -> bytes | None:
    is_joined = any(len([*_operands(node, operator)]) > 1 for operator in (_AND, _OR))
    return _apart(node) if is_joined and len([*fields(node)]) == 1 else None


def _kept_apart(operands: Sequence[bytes], operator: bytes) -> Iterator[bytes]:
    seen: set[_List] = set()
    for operand in operands:
        found = _list(operand)
        if found is not None and _merges(found, seen, operator):
            yield unmoved(operand)
            continue
        yield operand
        if found is not None:
            seen.add(found)


def _merges(found: _List, seen: set[_List], operator: bytes) -> bool:
    """Return True if a list is merged with one before it and that is not a plain union of values."""
    if operator == _OR:
        return found.negated and found in seen
    return _List(found.value, negated=False) in seen or (not found.negated and _List(found.value, negated=True) in seen)


def _list(expr: bytes) -> _List | None:
    """Return what a condition compares with a list; None if it is no such condition."""
    for inner in children(expr, LogicalExprNode.NOT):
        found = _list(*children(inner, NotNode.EXPR))
        return found and _List(found.value, not found.negated)
    for node in children(expr, LogicalExprNode.IN_LIST):
        (value,) = children(node, InListNode.EXPR)
        return _List(value, flag(node, InListNode.NEGATED))
    sides = [{*_operands(comparison, _EQUAL)} for comparison in _operands(expr, _OR)]
    common = set.intersection(*sides) if len(sides) > 1 else set()
    return _List(common.pop(), negated=False) if common else None


def _operands(expr: bytes, operator: bytes) -> Iterator[bytes]:
    """Yield the operands between which an operator stands, through nested expressions of it."""
    binaries = children(expr, LogicalExprNode.BINARY)
    if len(binaries) != 1 or children(binaries[0], BinaryExprNode.OP) != [operator]:
        yield expr
        return
    for operand in children(binaries[0], BinaryExprNode.OPERANDS):
        yield from _operands(operand, operator)

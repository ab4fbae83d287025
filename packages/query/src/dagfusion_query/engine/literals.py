"""Constants and lists that DataFusion 55 would read or merge wrongly in the logical plan.

DataFusion casts a constant when a column is compared with it. Two of its casts are refined here. Text without seconds
is a timestamp, also as Dagster writes the keys of hourly partitions, `2024-03-10-03:00`. A number with a point is a
double in SQL's text, and the nearest double of 0.1 is not 0.1: as a decimal it is the number that was written. (The
engine's option `parse_float_as_decimal` would make all such numbers decimals: then `1 / 3.0` is 0.3333.)

The simplification merges two lists of one value, and ignores NULL in three cases (apache/datafusion#24258, fixed after
55). `x = 1 OR x = 2` is a list as well. Such lists are kept apart in the same pass:

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

from dagfusion_query.catalog.entry import encode_scalar
from dagfusion_query.plan_messages import (
    AliasNode,
    ArrowType,
    BinaryExprNode,
    CastNode,
    InListNode,
    LogicalExprNode,
    LogicalPlanNode,
    NotNode,
    ScalarValue,
    SelectionNode,
)
from dagfusion_query.scan.plan_faults import joined, keep_unlimited, unmoved
from dagfusion_query.wire import LENGTH, children, fields, message, rewrite, varint

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
_AND, _OR, _EQUAL = b"And", b"Or", b"Eq"
_SELECTION = varint(LogicalPlanNode.SELECTION << 3 | LENGTH)
_BINARY = varint(LogicalExprNode.BINARY << 3 | LENGTH)
_NEGATED = re.compile(r"\bNOT\b(?!\s+(?:NULL|I?LIKE|BETWEEN|EXISTS|DISTINCT|TRUE|FALSE|UNKNOWN)\b)", re.IGNORECASE)
_PART_OF_LISTS = re.compile(r"\b(?:IN|OR)\b", re.IGNORECASE)


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


def timestamp_text(text: str) -> str | None:
    """Return a timestamp as DataFusion reads it; None if `text` is none, or is one already.

    >>> timestamp_text("2024-03-10-03:00")
    '2024-03-10 03:00:00'
    """
    found = _TEXT.fullmatch(text)
    if found is None or (found["second"] and found["between"] != "-"):
        return None
    return f"{found['date']} {found['minute']}{found['second'] or ':00'}{found['offset'] or ''}"


class _List(NamedTuple):
    """A comparison of a value with a list of values."""

    value: bytes
    negated: bool


def may_merge_lists(sql: str) -> bool:
    """Return True if a statement may have lists that `keep_lists_apart` changes."""
    return _NEGATED.search(sql) is not None and len(_PART_OF_LISTS.findall(sql)) > 1


def keep_lists_apart(plan: bytes) -> bytes:
    """Return an encoded plan in whose filters no two lists can be merged wrongly."""
    return rewrite(plan, _SELECTION, _filter_apart)


def _changed(plan: bytes) -> bytes:
    plan = keep_lists_apart(plan)
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


def _filter_apart(node: bytes) -> bytes | None:
    filters = [found for found in children(node, LogicalPlanNode.SELECTION) if _is_filter(found)]
    if len(filters) != 1 or len([*fields(node)]) != 1:
        return None
    (below,) = children(filters[0], SelectionNode.INPUT)
    (condition,) = children(filters[0], SelectionNode.EXPR)
    parts = message(SelectionNode.INPUT, keep_lists_apart(below)) + message(SelectionNode.EXPR, _apart(condition))
    return message(LogicalPlanNode.SELECTION, parts)


def _is_filter(node: bytes) -> bool:
    try:
        return [(field.number, field.wire) for field in fields(node)] == [
            (SelectionNode.INPUT, LENGTH),
            (SelectionNode.EXPR, LENGTH),
        ]
    except ValueError:
        return False


def _apart(expr: bytes) -> bytes:
    for inner in children(expr, LogicalExprNode.NOT):
        return message(LogicalExprNode.NOT, message(NotNode.EXPR, _apart(*children(inner, NotNode.EXPR))))
    for operator in (_AND, _OR):
        operands = [*_operands(expr, operator)]
        if len(operands) > 1:
            kept = [*_kept_apart([_apart(operand) for operand in operands], operator)]
            return expr if kept == operands else joined(operator, kept)
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
        return _List(value, any(field.number == InListNode.NEGATED and field.value for field in fields(node)))
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

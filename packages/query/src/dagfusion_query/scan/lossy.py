"""What is lost when DataFusion 55 encodes a plan, and how a statement is kept from it.

- A physical window function loses its FILTER and its IGNORE NULLS.
- Limits and offsets are 32 bits wide in some operators and scans.
- A logical limit without a row count is encoded as the greatest 64-bit number, and decoded as that, to which an
  offset is added later. The first so many rows of an order are in the wrong order then. A negative number is none.
"""

import re

from datafusion import LogicalPlan

from dagfusion_query.plan_messages import LimitNode, SortNode
from dagfusion_query.wire import LENGTH, VARINT, Field, fields, message, rewrite, uint

_GREATEST = (1 << 63) - 1
_UNLIMITED = uint(LimitNode.FETCH, _GREATEST)
_NONE = uint(LimitNode.FETCH, -1)
_LIMIT = {(LimitNode.INPUT, LENGTH), (LimitNode.FETCH, VARINT)}
_OPTIONAL = {(LimitNode.SKIP, VARINT)}
_SORT = {(SortNode.INPUT, LENGTH), (SortNode.EXPR, LENGTH), (SortNode.FETCH, VARINT)}
_LOST = re.compile(r"WindowAggr: .*(?:FILTER \(WHERE|IGNORE NULLS)|(?:skip|fetch)=\d{10}", re.DOTALL)


def lost_in_physical_plan(optimized: LogicalPlan) -> str | None:
    """Return the part of a plan that its encoded physical plan would lack; None if there is none.

    The plan's text is looked at, so a name or a literal may count, which costs only time.
    """
    found = _LOST.search(optimized.display_indent())
    return found and found[0][-40:]


def keep_unlimited(logical: bytes) -> bytes:
    """Return a logical plan whose limits without a row count are decoded as such."""
    return rewrite(logical, _UNLIMITED, _unlimited) if _UNLIMITED in logical else logical


def _unlimited(node: bytes) -> bytes | None:
    try:
        found = list(fields(node))
    except ValueError:
        return None
    kinds = {(field.number, field.wire) for field in found}
    is_greatest = any(field.number == LimitNode.FETCH and field.value == _GREATEST for field in found)
    if not is_greatest or not (_LIMIT <= kinds <= _LIMIT | _OPTIONAL or kinds == _SORT):
        return None
    return b"".join(_NONE if field.number == LimitNode.FETCH else _below(field) for field in found)


def _below(field: Field) -> bytes:
    if field.number == LimitNode.INPUT and isinstance(field.value, bytes):
        return message(LimitNode.INPUT, keep_unlimited(field.value))
    return field.raw

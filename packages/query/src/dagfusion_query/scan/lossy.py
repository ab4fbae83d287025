"""What is lost when DataFusion 55 encodes a plan, and how a statement is kept from it.

- A physical window function loses its FILTER and its IGNORE NULLS.
- Limits and offsets are 32 bits wide in some operators and scans.
- A logical limit without a row count is encoded as the greatest 64-bit number, and decoded as that, to which an
  offset is added later. A negative number is decoded as none.
"""

import re

from datafusion import LogicalPlan

from dagfusion_query.plan_messages import LimitNode
from dagfusion_query.wire import LENGTH, VARINT, children, fields, message, rewrite, uint

_GREATEST = (1 << 63) - 1
_UNLIMITED = uint(LimitNode.FETCH, _GREATEST)
_NONE = uint(LimitNode.FETCH, -1)
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
        found = {field.number: field for field in fields(node)}
    except ValueError:
        return None
    wires = {number: field.wire for number, field in found.items()}
    if (
        wires.get(LimitNode.INPUT) != LENGTH
        or wires.get(LimitNode.FETCH) != VARINT
        or found[LimitNode.FETCH].value != _GREATEST
    ):
        return None
    if not wires.keys() <= {LimitNode.INPUT, LimitNode.SKIP, LimitNode.FETCH}:
        return None
    (below,) = children(node, LimitNode.INPUT)
    skip = found[LimitNode.SKIP].raw if LimitNode.SKIP in found else b""
    return message(LimitNode.INPUT, keep_unlimited(below)) + skip + _NONE

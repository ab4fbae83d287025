"""Keep a condition as it is where one of DataFusion 55's rules would move or merge it wrongly.

`condition OR random() < 0` has the value of the condition, NULL included: the addition is always false. No rule moves a
volatile condition, or merges it with another one.
"""

from datafusion import functions as f
from datafusion import lit

from dagfusion_query.plan_messages import BinaryExprNode, LogicalExprNode
from dagfusion_query.wire import message

_NEVER = bytes((f.random() < lit(0.0)).to_bytes())


def unmoved(condition: bytes) -> bytes:
    """Return an encoded condition that has the value of this one and stays where it is."""
    return joined(b"Or", [condition, _NEVER])


def joined(operator: bytes, operands: list[bytes]) -> bytes:
    """Return an encoded expression of operands between which one operator stands."""
    parts = b"".join(message(BinaryExprNode.OPERANDS, operand) for operand in operands)
    return message(LogicalExprNode.BINARY, parts + message(BinaryExprNode.OP, operator))

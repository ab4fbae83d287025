"""Lists that DataFusion 55 would merge wrongly, and their workaround.

The simplification merges two lists of one value, and ignores NULL in three cases (apache/datafusion#24258, fixed after
55). `x = 1 OR x = 2` is a list as well. Such lists are kept apart:

    x NOT IN (1, 2) OR x NOT IN (3, 4)       becomes true, also where x is NULL
    x IN (1, 2) AND x NOT IN (5, NULL)       becomes x IN (1, 2), and is never true
    NOT (x IN (1, 2) AND x IN (3, 4))        becomes true, also where x is NULL
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dagfusion_query.plan_messages import BinaryExprNode, InListNode, LogicalExprNode, NotNode
from dagfusion_query.scan.plan_faults import FILTER, encoded_filter, filter_parts, joined, unmoved
from dagfusion_query.wire import LENGTH, children, fields, flag, message, rewrite, varint

_AND, _OR, _EQUAL = b"And", b"Or", b"Eq"
_BINARY = varint(LogicalExprNode.BINARY << 3 | LENGTH)


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

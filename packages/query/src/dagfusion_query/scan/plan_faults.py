"""Faults of DataFusion 55 in plans, and their workarounds.

**Filters that reach the wrong column.** The physical filter pushdown finds columns by name. Where a join's output has
two columns of one name, a filter on one of them can reach the other side of the join (apache/datafusion#25296 and
#21246, fixed after 55 by #25259). There are two kinds of such filters:

- A filter of the statement. A filter operator below the join takes it over, and the one above the join is removed: the
  result has other rows. `keep_filters_in_place` prevents this, also for the filters of an input that planning derives
  from the condition of a join: `a.x > 1 OR c.z = 2` has `a.x > 1 OR ...` for the input of `a`.
- A filter that is made at run time, by a join or the first rows of an order. It reaches scans only, where it skips row
  groups and pages. Scans of such plans have no filter: they read more, and the rows are filtered above all the same.

**What an encoded plan loses.**

- A physical window function loses its FILTER and its IGNORE NULLS, and `GROUPING SETS (())` loses its one set.
- Limits and offsets are 32 bits wide in some operators and scans.
- A logical limit without a row count is encoded as the greatest 64-bit number, and decoded as that, to which an offset
  is added later. The first rows of an order are in the wrong order then. A negative number is no limit.
- At most a hundred messages in one another are decoded. A deeper plan is encoded all the same, so `is_decoded` tries.

**Conditions that are moved or merged.** `condition OR random() < 0` has the value of the condition, NULL included: the
addition is always false. No rule moves a volatile condition, or merges it with another one. See also
`engine.logical_plan_faults`, `aggregate_faults` and `false_constants`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from datafusion import ExecutionPlan, LogicalPlan, SessionContext, lit
from datafusion import functions as f

from dagfusion_query.plan_messages import (
    BinaryExprNode,
    CoalescePartitionsExecNode,
    GroupingSetsNode,
    JoinNode,
    LimitNode,
    LogicalExprNode,
    LogicalPlanNode,
    PhysicalPlanNode,
    SelectionNode,
    SortNode,
)
from dagfusion_query.wire import (
    LENGTH,
    VARINT,
    Field,
    change_children,
    children,
    fields,
    message,
    rewrite,
    uint,
    varint,
)

_GREATEST = (1 << 63) - 1
_UNLIMITED = uint(LimitNode.FETCH, _GREATEST)
_NONE = uint(LimitNode.FETCH, -1)
_LIMIT = {(LimitNode.INPUT, LENGTH), (LimitNode.FETCH, VARINT)}
_OPTIONAL = {(LimitNode.SKIP, VARINT)}
_SORT = {(SortNode.INPUT, LENGTH), (SortNode.EXPR, LENGTH), (SortNode.FETCH, VARINT)}
_LOST = re.compile(
    r"WindowAggr: .*(?:FILTER \(WHERE|IGNORE NULLS)|(?:skip|fetch)=\d{10}|GROUPING SETS \((?:\(\)(?:, )?)+\)", re.DOTALL
)
_NEVER = bytes((f.random() < lit(0.0)).to_bytes())
_PASSIVE = ("Projection:", "SubqueryAlias:", "Limit:", "Union", "TableScan:", "Sort:")
_TOP_K = "fetch="
FILTER = varint(LogicalPlanNode.SELECTION << 3 | LENGTH)
JOIN = varint(LogicalPlanNode.JOIN << 3 | LENGTH)
_FILTERED_JOIN = {JoinNode.LEFT, JoinNode.RIGHT, JoinNode.FILTER}
MORE_OPERATORS = 11  # as deep as the merge, the union and the row filter that splicing puts above a scan
_MOST_MESSAGES = 100  # in one another, which DataFusion decodes
_MARGIN = 2 * MORE_OPERATORS + 16  # for these, and for what `false_constants` adds


def may_be_deep(logical: str) -> bool:
    """Return True if the encoded physical plan may be nested about as deep as can be decoded, by the logical plan.

    An operator becomes at most four, each of two messages. An expression in another one has a bracket or a space.
    """
    lines = [line.lstrip() for line in logical.splitlines()]
    deepest = max((line.count("(") + line.count(" ") for line in lines), default=0)
    return 8 * len(lines) + 2 * deepest + _MARGIN > _MOST_MESSAGES


def is_decoded(physical: bytes, context: SessionContext, operators: int = 0) -> bool:
    """Return True if an encoded plan is decoded, also with so many more operators: its nesting has a limit."""
    for _ in range(operators):
        physical = message(PhysicalPlanNode.MERGE, message(CoalescePartitionsExecNode.INPUT, physical))
    try:
        ExecutionPlan.from_bytes(context, physical)
    except Exception:  # noqa: BLE001  # it has no class
        return False
    return True


def lost_in_physical_plan(text: str) -> str | None:
    """Return the part of a plan that its encoded physical plan would lack; None if there is none.

    Args:
        text: The optimized logical plan. A name or a literal in it may count, which costs only time.
    """
    found = _LOST.search(text)
    return found and found[0][-40:]


def keep_unlimited(logical: bytes) -> bytes:
    """Return a logical plan whose limits without a row count are decoded as such."""
    return rewrite(logical, _UNLIMITED, _unlimited) if _UNLIMITED in logical else logical


def unmoved(condition: bytes) -> bytes:
    """Return an encoded condition that has the value of this one and stays where it is."""
    return joined(b"Or", [condition, _NEVER])


def joined(operator: bytes, operands: list[bytes]) -> bytes:
    """Return an encoded expression of operands between which one operator stands."""
    parts = b"".join(message(BinaryExprNode.OPERANDS, operand) for operand in operands)
    return message(LogicalExprNode.BINARY, parts + message(BinaryExprNode.OP, operator))


def filter_parts(node: bytes) -> tuple[bytes, bytes] | None:
    """Return the input and the condition of an encoded filter; None for any other message."""
    try:
        (only,) = fields(node)
        below, condition = fields(only.value if isinstance(only.value, bytes) else b"")
    except ValueError:
        return None
    numbers = (only.number, below.number, condition.number)
    if numbers != (LogicalPlanNode.SELECTION, SelectionNode.INPUT, SelectionNode.EXPR):
        return None
    if not (isinstance(below.value, bytes) and isinstance(condition.value, bytes)):
        return None
    return below.value, condition.value


def filtered_join(node: bytes) -> Sequence[Field] | None:
    """Return the fields of an encoded join that has a condition beside its keys; None for any other message."""
    joins = children(node, LogicalPlanNode.JOIN)
    if len(joins) != 1 or len([*fields(node)]) != 1:
        return None
    parts = [*fields(joins[0])]
    return parts if {part.number for part in parts} >= _FILTERED_JOIN else None


def in_grouping_sets(group: bytes, change: Callable[[bytes], bytes]) -> bytes | None:
    """Return an encoded ROLLUP, CUBE or GROUPING SETS with a change to each expression; None for any other group."""
    each = partial(change_children, number=GroupingSetsNode.EXPR, change=change)
    for number in (LogicalExprNode.CUBE, LogicalExprNode.ROLLUP):
        for columns in children(group, number):
            return message(number, each(columns))
    for sets in children(group, LogicalExprNode.GROUPING_SETS):
        return message(LogicalExprNode.GROUPING_SETS, change_children(sets, GroupingSetsNode.EXPR, each))
    return None


def encoded_filter(below: bytes, condition: bytes) -> bytes:
    """Return an encoded filter of an input."""
    parts = message(SelectionNode.INPUT, below) + message(SelectionNode.EXPR, condition)
    return message(LogicalPlanNode.SELECTION, parts)


def may_misplace_filters(optimized: LogicalPlan, text: str, context: SessionContext) -> bool:
    """Return True if a filter may reach an operator whose output has two columns of one name.

    Filters come from WHERE and HAVING, and at run time from joins, aggregates and the first rows of an order. A plan
    with a join and a scalar subquery counts as well, because a plan's inputs do not include its subqueries.

    Args:
        optimized: The optimized logical plan.
        text: The same as text.
        context: The session that it was planned in.
    """
    if "Join" not in text:
        return False
    return "Subquery:" in text or _reaches_same_names(optimized, context, filtered=False)


def keep_filters_in_place(logical: bytes, context: SessionContext) -> bytes:
    """Return an encoded plan in which a filter stays above the operators whose output has two columns of one name."""

    def reaches(node: bytes) -> bool | None:
        try:
            plan = LogicalPlan.from_bytes(context, node)
        except Exception:  # noqa: BLE001  # DataFusion's errors have no class; this is a message of another kind
            return None
        return _reaches_same_names(plan, context, filtered=True)

    def keep_filter(node: bytes) -> bytes | None:
        if (parts := filter_parts(node)) is None or (reached := reaches(parts[0])) is None:
            return None
        below, condition = (rewrite(part, FILTER, keep_filter) for part in parts)
        return encoded_filter(below, unmoved(condition) if reached else condition)

    def keep_condition(node: bytes) -> bytes | None:
        if (parts := filtered_join(node)) is None or not any(map(reaches, _inputs(parts))):
            return None
        return message(
            LogicalPlanNode.JOIN,
            b"".join(
                message(part.number, unmoved(part.value) if part.number == JoinNode.FILTER else below(part.value))
                if isinstance(part.value, bytes) and part.number in _FILTERED_JOIN
                else part.raw
                for part in parts
            ),
        )

    def below(node: bytes) -> bytes:
        return rewrite(node, JOIN, keep_condition)

    return below(rewrite(logical, FILTER, keep_filter))


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


def _reaches_same_names(node: LogicalPlan, context: SessionContext, *, filtered: bool) -> bool:
    if filtered and _has_same_names(node, context):
        return True
    filtered = filtered or _filters(node.display())
    return any(_reaches_same_names(child, context, filtered=filtered) for child in node.inputs())


def _filters(operator: str) -> bool:
    return not operator.startswith(_PASSIVE) or (operator.startswith("Sort:") and _TOP_K in operator)


def _inputs(join: Sequence[Field]) -> Iterator[bytes]:
    for part in join:
        if part.number in (JoinNode.LEFT, JoinNode.RIGHT) and isinstance(part.value, bytes):
            yield part.value


def _has_same_names(node: LogicalPlan, context: SessionContext) -> bool:
    names = context.create_dataframe_from_logical_plan(node).schema().names
    return len(set(names)) < len(names)

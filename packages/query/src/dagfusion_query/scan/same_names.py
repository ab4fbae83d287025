"""Keep DataFusion 55 from pushing a filter to the wrong column.

Its physical filter pushdown finds columns by name. Where a join's output has two columns of one name, a filter on one
of them can reach the other side of the join (apache/datafusion#25296 and #21246, mended after 55 by #25259). There are
two kinds of such filters:

- A filter of the statement. A filter operator below the join takes it over, and the one above the join is removed: the
  answer has other rows. `keep_filters_in_place` prevents this.
- A filter that is made at run time, by a join or the first rows of an order. It reaches scans only, where it skips row
  groups and pages. Scans of such plans have no filter: they read more, and the rows are filtered above all the same.
"""

from datafusion import LogicalPlan, SessionContext

from dagfusion_query.plan_messages import LogicalPlanNode, SelectionNode
from dagfusion_query.scan.unmoved import unmoved
from dagfusion_query.wire import LENGTH, fields, message, rewrite, varint

_PASSIVE = ("Projection:", "SubqueryAlias:", "Limit:", "Union", "TableScan:", "Sort:")
_TOP_K = "fetch="
_SELECTION = varint(LogicalPlanNode.SELECTION << 3 | LENGTH)


def may_misplace_filters(optimized: LogicalPlan, context: SessionContext) -> bool:
    """Return True if a filter may reach an operator whose output has two columns of one name.

    Filters come from WHERE and HAVING, and at run time from joins, aggregates and the first rows of an order. A plan
    with a join and a scalar subquery counts as well, because a plan's inputs do not include its subqueries.
    """
    text = optimized.display_indent()
    if "Join" not in text:
        return False
    return "Subquery:" in text or _reaches_same_names(optimized, context, filtered=False)


def _reaches_same_names(node: LogicalPlan, context: SessionContext, *, filtered: bool) -> bool:
    if filtered and _has_same_names(node, context):
        return True
    filtered = filtered or _filters(node.display())
    return any(_reaches_same_names(child, context, filtered=filtered) for child in node.inputs())


def _filters(operator: str) -> bool:
    return not operator.startswith(_PASSIVE) or (operator.startswith("Sort:") and _TOP_K in operator)


def _has_same_names(node: LogicalPlan, context: SessionContext) -> bool:
    names = context.create_dataframe_from_logical_plan(node).schema().names
    return len(set(names)) < len(names)


def keep_filters_in_place(logical: bytes, context: SessionContext) -> bytes:
    """Return an encoded plan in which a filter stays above the operators whose output has two columns of one name."""

    def change(node: bytes) -> bytes | None:
        if (parts := _filter_parts(node)) is None:
            return None
        below, condition = (rewrite(part, _SELECTION, change) for part in parts)
        try:
            plan = LogicalPlan.from_bytes(context, parts[0])
        except Exception:  # noqa: BLE001  # DataFusion's errors have no class; this is a message of another kind
            return None
        if _reaches_same_names(plan, context, filtered=True):
            condition = unmoved(condition)
        selection = message(SelectionNode.INPUT, below) + message(SelectionNode.EXPR, condition)
        return message(LogicalPlanNode.SELECTION, selection)

    return rewrite(logical, _SELECTION, change)


def _filter_parts(node: bytes) -> tuple[bytes, bytes] | None:
    """Return the input and the condition of an encoded filter; None if the node is none."""
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

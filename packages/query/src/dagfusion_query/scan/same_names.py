"""Find the plans in which DataFusion 55 may push a filter to the wrong column.

Its physical filter pushdown finds columns by name. Where a join's output has two columns of one name, a filter on one
of them can reach the scan of the other (apache/datafusion#25296 and #21246, mended after 55 by #25259). Such a filter
only skips row groups and pages: without it a scan reads more, and the rows are filtered above all the same.
"""

from datafusion import LogicalPlan, SessionContext

_PASSIVE = ("Projection:", "SubqueryAlias:", "Limit:", "Union", "TableScan:", "Sort:")
_TOP_K = "fetch="


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

"""Keeps the rows of some partitions of a row group: the filters that pruning decided, over the rows of large objects.

A decided filter names partition columns only, which are columns of a large object. DataFusion plans the filters over
the partition values of the row groups, the plan is encoded and decoded, and the decoded one must keep exactly the
partitions that pruning keeps. Only then is it put above a scan:

    FilterExec {input: DataSourceExec {projection: [partition columns, columns of the scan]}, projection}
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from datafusion import ExecutionPlan, Expr

from dagfusion_query.plan_messages import FilterExecNode, PhysicalPlanNode
from dagfusion_query.scan.large_objects import LargeRead
from dagfusion_query.scan.listing_tables import ScanLayout
from dagfusion_query.scan.prune import column_names
from dagfusion_query.scan.pruning_tables import FILE, context_over
from dagfusion_query.wire import children, fields, message, varint, with_children

_MOST_COMPARISONS = 8
_COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"})
_OF_VALUES = frozenset({"Between", "InList", "IsNotNull", "IsNull"})
_OF_CONDITION = frozenset({"IsFalse", "IsNotFalse", "IsNotTrue", "IsNotUnknown", "IsTrue", "IsUnknown", "Not"})
_VALUES = frozenset({"Column", "Literal"})


@dataclass(frozen=True)
class RowFilter:
    """A filter of rows.

    Attributes:
        columns: The partition columns that it reads, which come first in its input.
        node: The encoded FilterExecNode, without its input.
    """

    columns: Sequence[str]
    node: bytes

    def over(self, scan: bytes, count: int) -> bytes:
        """Return the plan node that filters a scan's rows.

        Args:
            scan: The encoded plan node of the scan. Its first columns are those of the filter.
            count: The number of its other columns, which are the result's.
        """
        changed = {FilterExecNode.INPUT: [scan], FilterExecNode.PROJECTION: [_every(count, len(self.columns))]}
        return message(PhysicalPlanNode.FILTER, with_children(self.node, changed))


def is_for_rows(filters: Sequence[Expr]) -> bool:
    """Return True if filters may be evaluated for each row: a few comparisons of columns with values.

    Pruning evaluates a filter once for each partition. Another expression may be slow for rows. It may also fail for
    some: which operands of AND and OR are evaluated for a row depends on the other rows of its batch.
    """
    return sum(map(_comparisons, filters)) <= _MOST_COMPARISONS


def row_filter(
    filters: Sequence[Expr], relation: str, layout: ScanLayout, files: pa.Table, read: LargeRead
) -> RowFilter | None:
    """Return the filter of rows that some filters are; None if it may not be exact when it is decoded.

    Args:
        filters: Filters of partition columns.
        relation: The table as the query spells it; the filters' columns carry it.
        layout: The scan's name and partition columns.
        files: The catalog in that layout; see `scan_files`.
        read: What is read of large objects. The filters keep its files and no others.
    """
    try:
        used = {name for expr in filters for name in column_names(expr)}
        columns = [name for name in layout.partition_schema.names if name in used]
        numbers = pa.concat_arrays([read.files, read.others])
        values = dict(zip(layout.partition_schema.names, files["partition"].take(numbers).flatten(), strict=True))
        arrays = {name: values[name] for name in columns} | {FILE: pa.chunked_array([numbers])}
        context = context_over(layout.name, pa.table(arrays).combine_chunks())
        frame = context.table(relation)
        for expr in filters:
            frame = frame.filter(expr)
        encoded = frame.execution_plan().to_bytes()
        decoded = ExecutionPlan.from_bytes(context, encoded)
        left = [batch.to_pyarrow().column(len(columns)) for batch in context.execute(decoded, 0)]
    except Exception:  # noqa: BLE001  # it has no class; without a filter, the statement reads small objects
        return None
    node = _filter_of(encoded, len(arrays))
    is_exact = pa.concat_arrays([pa.array([], pa.int64()), *left]).equals(read.files)
    return RowFilter(columns, node) if node is not None and is_exact else None


def _comparisons(expr: Expr) -> float:
    """Return the number of comparisons and negations in a condition; infinity if there is anything else."""
    kind = expr.variant_name()
    if kind in _VALUES:
        return 1
    operands = expr.rex_call_operands()
    if kind in _OF_CONDITION or (kind == "BinaryExpr" and expr.rex_call_operator() in ("AND", "OR")):
        return (kind in _OF_CONDITION) + sum(map(_comparisons, operands))
    is_comparison = kind in _OF_VALUES or (kind == "BinaryExpr" and expr.rex_call_operator() in _COMPARISONS)
    return 1 if is_comparison and all(operand.variant_name() in _VALUES for operand in operands) else math.inf


def _every(count: int, first: int = 0) -> bytes:
    """Return the encoded numbers of so many columns."""
    return b"".join(map(varint, range(first, first + count)))


def _filter_of(plan: bytes, count: int) -> bytes | None:
    """Return the filter of a plan that is a filter of a table of `count` columns; None for other plans."""
    found = list(fields(plan))
    nodes = children(plan, PhysicalPlanNode.FILTER)
    if len(found) != 1 or len(nodes) != 1 or children(nodes[0], FilterExecNode.PROJECTION) != [_every(count)]:
        return None
    below = [[field.number for field in fields(node)] for node in children(nodes[0], FilterExecNode.INPUT)]
    return with_children(nodes[0], {FilterExecNode.INPUT: []}) if below == [[PhysicalPlanNode.MEMORY_SCAN]] else None

"""The order of a join's inputs, by the rows that the catalog has of them.

DataFusion reads the left input of a join first, keeps it in memory, and reads the right one past it. It would swap them
by the statistics of its scans, but a plan is made over witness files, which have none. So the smaller input is put on
the left in the logical plan.

The estimate knows rows of scans after pruning, and no distinct values. It takes a join by equality for one along a key:
the result has the rows of the larger input, less what filters leave of either. That is right for a star and a
snowflake. Filters and groups leave a fifth, as DataFusion assumes of filters.

A small table on the left is best read as a whole by all partitions of a plan: the right input need not be distributed
by hash then. DataFusion decides that by the statistics of a scan, which are those of its witnesses. Such a plan is made
in a session that collects them: a small table has witnesses of one row, others of many. Their columns have no value, so
DataFusion has no estimate of a join, and takes no joined input for a small one.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from datafusion import LogicalPlan

from dagfusion_client.sql_text import is_plain_column
from dagfusion_query.plan_messages import (
    AggregateNode,
    Column,
    ColumnRelation,
    JoinNode,
    LimitNode,
    ListingTableScanNode,
    LogicalExprNode,
    LogicalPlanNode,
    ProjectionNode,
    SelectionNode,
    SortNode,
    SubqueryAliasNode,
    UnionNode,
    ValuesNode,
    WindowNode,
)
from dagfusion_query.wire import children, fields, message, uint, with_children

SMALL_ROWS = 128 << 10  # of a table that is read as a whole: DataFusion's own limit
LEFT_BY_A_FILTER = 0.2
_INNER, _LEFT, _RIGHT, _FULL, _LEFT_SEMI, _LEFT_ANTI, _RIGHT_SEMI, _RIGHT_ANTI = range(8)
_MIRRORED = {
    _INNER: _INNER,
    _FULL: _FULL,
    _LEFT: _RIGHT,
    _RIGHT: _LEFT,
    _LEFT_SEMI: _RIGHT_SEMI,
    _RIGHT_SEMI: _LEFT_SEMI,
    _LEFT_ANTI: _RIGHT_ANTI,
    _RIGHT_ANTI: _LEFT_ANTI,
}
_ONE_SIDED = {_LEFT_SEMI: 0, _LEFT_ANTI: 0, _RIGHT_SEMI: 1, _RIGHT_ANTI: 1}  # which input the rows are of
# The input of each kind of node that has one, and gives its columns in its order.
_PASSES = {
    LogicalPlanNode.SELECTION: SelectionNode.INPUT,
    LogicalPlanNode.LIMIT: LimitNode.INPUT,
    LogicalPlanNode.SORT: SortNode.INPUT,
    LogicalPlanNode.WINDOW: WindowNode.INPUT,
    LogicalPlanNode.SUBQUERY_ALIAS: SubqueryAliasNode.INPUT,
}
# The input of each kind that names the columns that it takes.
_NAMES = {LogicalPlanNode.PROJECTION: ProjectionNode.INPUT, LogicalPlanNode.AGGREGATE: AggregateNode.INPUT}
_REDUCING = {LogicalPlanNode.SELECTION, LogicalPlanNode.AGGREGATE}
_FETCHES = {LogicalPlanNode.LIMIT: LimitNode.FETCH, LogicalPlanNode.SORT: SortNode.FETCH}
_ALL = (1 << 63) - 1  # a limit that is none; negative ones, as unsigned numbers, are greater
_JOIN = LogicalPlanNode.JOIN

RowsOf = Callable[[bytes], "int | None"]


class _Rows(NamedTuple):
    """An estimate: rows without filters, and the share that filters leave."""

    base: float
    share: float = 1.0

    @property
    def left(self) -> float:
        return self.base * self.share

    def less(self) -> "_Rows":
        return _Rows(self.base, self.share * LEFT_BY_A_FILTER)


class _Planned(NamedTuple):
    """An encoded node with its joins in order, and the estimate of its rows; None if it is not known."""

    node: bytes
    rows: _Rows | None


def result_columns(optimized: LogicalPlan) -> Sequence[str]:
    """Return the qualified columns of a plan's result; none if they have to be in the order that the plan gives."""
    try:
        return list(optimized.to_variant().schema().field_names())
    except Exception:  # noqa: BLE001  # a node that Python has no class for, or whose class has no schema
        return []


def small_side_first(logical: bytes, rows_of: RowsOf, columns: Sequence[str]) -> bytes:
    """Return an encoded logical plan whose joins have the smaller input on the left.

    Args:
        logical: The plan.
        rows_of: The rows of the scan of a path, after pruning; None for a path that is not known.
        columns: The qualified columns of the result, which keep their order.
    """
    ordered = _Joins(rows_of).planned(logical, is_free=False).node
    if not columns or not all(map(is_plain_column, columns)):
        return ordered
    free = _Joins(rows_of).planned(logical, is_free=True).node
    return ordered if free == ordered else _project(free, columns)


class _Joins:
    """Walks down a plan and orders its joins.

    `is_free` is whether the order of a node's columns may change: it may below a node that names the columns it takes.
    """

    def __init__(self, rows_of: RowsOf) -> None:
        self._rows_of = rows_of

    def planned(self, node: bytes, *, is_free: bool) -> _Planned:
        found = _only(node)
        if found is None:
            return _Planned(node, None)
        kind, body = found
        if kind == _JOIN:
            return self._join(body, is_free=is_free)
        if kind == LogicalPlanNode.UNION:
            return self._union(body)
        number = _NAMES.get(kind) or _PASSES.get(kind)
        inputs = [] if number is None else children(body, number)
        if number is None or len(inputs) != 1:
            return _Planned(node, self._leaf(kind, body))
        below = self.planned(inputs[0], is_free=is_free or kind in _NAMES)
        if below.node != inputs[0]:
            node = message(kind, with_children(body, {number: [below.node]}))
        return _Planned(node, None if below.rows is None else _passed(kind, body, below.rows))

    def _leaf(self, kind: int, body: bytes) -> _Rows | None:
        if kind == LogicalPlanNode.VALUES:
            return _Rows(_values(body))
        paths = children(body, ListingTableScanNode.PATHS) if kind == LogicalPlanNode.LISTING_SCAN else []
        rows = self._rows_of(paths[0]) if len(paths) == 1 else None
        return None if rows is None else _Rows(rows)

    def _join(self, body: bytes, *, is_free: bool) -> _Planned:
        kind = _number(body, JoinNode.TYPE) or 0
        sides = [children(body, number)[0] for number in (JoinNode.LEFT, JoinNode.RIGHT)]
        # A semi or anti join has the columns of one input only.
        left, right = (
            self.planned(side, is_free=is_free or _ONE_SIDED.get(kind, number) != number)
            for number, side in enumerate(sides)
        )
        if left.rows is None or right.rows is None:
            body = with_children(body, {JoinNode.LEFT: [left.node], JoinNode.RIGHT: [right.node]})
            return _Planned(message(_JOIN, body), None)
        rows = _joined(kind, left.rows, right.rows, is_equal=bool(children(body, JoinNode.LEFT_ON)))
        may_swap = (is_free or kind in _ONE_SIDED) and kind in _MIRRORED and not _number(body, JoinNode.NULL_AWARE)
        if may_swap and left.rows.left > right.rows.left:
            body, (left, right) = _mirrored(body, kind), (right, left)
        body = with_children(body, {JoinNode.LEFT: [left.node], JoinNode.RIGHT: [right.node]})
        return _Planned(message(_JOIN, body), rows)

    def _union(self, body: bytes) -> _Planned:
        inputs = [self.planned(node, is_free=False) for node in children(body, UnionNode.INPUTS)]
        estimates = [one.rows.left for one in inputs if one.rows is not None]
        node = message(LogicalPlanNode.UNION, with_children(body, {UnionNode.INPUTS: [one.node for one in inputs]}))
        return _Planned(node, _Rows(sum(estimates)) if len(estimates) == len(inputs) else None)


def _passed(kind: int, body: bytes, rows: _Rows) -> _Rows:
    if kind in _FETCHES and (fetch := _number(body, _FETCHES[kind]) or 0) < _ALL:
        return min(rows, _Rows(fetch), key=lambda one: one.left)
    if kind == LogicalPlanNode.AGGREGATE and not children(body, AggregateNode.GROUP_EXPR):
        return _Rows(1)
    return rows.less() if kind in _REDUCING else rows


def _joined(kind: int, left: _Rows, right: _Rows, *, is_equal: bool) -> _Rows:
    """Return the rows of a join: of one along a key, where it is by equality."""
    if kind in _ONE_SIDED:
        return (left, right)[_ONE_SIDED[kind]]
    if not is_equal:
        return _Rows(left.base * right.base, left.share * right.share)
    inner = _Rows(max(left.base, right.base), left.share * right.share)
    outer = [rows for rows, kinds in ((left, (_LEFT, _FULL)), (right, (_RIGHT, _FULL))) if kind in kinds]
    return max([inner, *outer], key=lambda rows: rows.left)


def _mirrored(body: bytes, kind: int) -> bytes:
    """Return a join with its keys and its type the other way round."""
    left, right = children(body, JoinNode.LEFT_ON), children(body, JoinNode.RIGHT_ON)
    kinds = {JoinNode.LEFT_ON: right, JoinNode.RIGHT_ON: left}
    rest = b"".join(field.raw for field in fields(body) if field.number not in {*kinds, JoinNode.TYPE})
    keys = b"".join(message(number, key) for number, keys in kinds.items() for key in keys)
    return rest + keys + uint(JoinNode.TYPE, _MIRRORED[kind])


def _project(node: bytes, columns: Sequence[str]) -> bytes:
    names = (column.rpartition(".") for column in columns)
    exprs = (
        message(Column.NAME, name.encode()) + message(Column.RELATION, message(ColumnRelation.RELATION, table.encode()))
        for table, _, name in names
    )
    listed = b"".join(message(ProjectionNode.EXPR, message(LogicalExprNode.COLUMN, expr)) for expr in exprs)
    return message(LogicalPlanNode.PROJECTION, message(ProjectionNode.INPUT, node) + listed)


def _only(node: bytes) -> tuple[int, bytes] | None:
    """Return the kind and the message of an encoded node."""
    found = list(fields(node))
    if len(found) != 1 or not isinstance(found[0].value, bytes):
        return None
    return found[0].number, found[0].value


def _number(body: bytes, number: int) -> int | None:
    return next((f.value for f in fields(body) if f.number == number and isinstance(f.value, int)), None)


def _values(body: bytes) -> int:
    return len(children(body, ValuesNode.VALUES_LIST)) // max(1, _number(body, ValuesNode.N_COLS) or 1)

"""Splices pruned files into a DataFusion plan, which reads exactly those with its own Parquet scan and without a LIST.

A query is planned over template folders. Then the witness files of a template are replaced by the real ones, in the
serialized physical plan. Three messages are rewritten and everything else is copied byte for byte, so plan nodes that
this code does not know are kept:

    logical   ListingTableScanNode {paths, filters, table_name}
    physical  see `parquet_scan`

`plan_messages` has the field numbers.
"""

import re
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from datafusion import ExecutionPlan, Expr, LogicalPlan, SessionContext

from dagfusion_contract.naming import TableName
from dagfusion_query.plan_messages import CoalescePartitionsExecNode, ListingTableScanNode, PhysicalPlanNode
from dagfusion_query.scan.aggregate_faults import exact_aggregates
from dagfusion_query.scan.catalog_aggregates import Mention, aggregate_over_scan, aggregate_plan
from dagfusion_query.scan.copied_objects import CopiedScan, CopyPolicy, ScanReads
from dagfusion_query.scan.false_constants import without_false_constants
from dagfusion_query.scan.join_order import SMALL_ROWS, result_columns, small_side_first
from dagfusion_query.scan.listing_tables import folder_url
from dagfusion_query.scan.parquet_scan import Breadth, FilesToRead, ParquetScan, rewrite_scan
from dagfusion_query.scan.plan_faults import (
    MORE_OPERATORS,
    is_decoded,
    keep_filters_in_place,
    keep_unlimited,
    lost_in_physical_plan,
    may_be_deep,
    may_misplace_filters,
)
from dagfusion_query.scan.table_scan import MANY, Filter, Scan, ScannedTable, prune_scan
from dagfusion_query.wire import children, fields, message, rewrite

_LIMITED = re.compile(r"LimitExec|limit=|^(?!.*TopK).*fetch=", re.MULTILINE)


class NotSpliceable(Exception):  # noqa: N818
    """This plan cannot be spliced; it has to run another way. Never seen outside the engine."""


@dataclass(frozen=True)
class Spliced:
    """A physical plan over real files.

    Attributes:
        plan: The plan as bytes.
        answered: The scans that the catalog answered.
        reads: The other scans, and where each reads its objects.
        without_copies: Plans the query again, to read all objects in their stores.
        without_large: Plans the query again, to read no large object; None where it reads none.
        stores: The environments and URLs of the stores that it reads from.
    """

    plan: bytes
    answered: Sequence[Scan]
    reads: Sequence[ScanReads]
    stores: frozenset[tuple[str, str]]
    without_copies: "Callable[[], Spliced]" = field(repr=False)
    without_large: "Callable[[], Spliced] | None" = field(default=None, repr=False)

    @property
    def scans(self) -> Sequence[Scan]:
        """The scans of the statement."""
        return [*self.answered, *(read.scan for read in self.reads)]

    @property
    def copied(self) -> Sequence[CopiedScan]:
        """The scans that read local copies, which have to be there before the plan runs."""
        return [copied for read in self.reads for copied in read.copied]

    @property
    def in_place(self) -> Sequence[Scan]:
        """The scans that read the objects in their store."""
        return [scan for read in self.reads for scan in read.in_place]

    @property
    def size_bytes(self) -> int:
        """Bytes of the encoded plan."""
        return len(self.plan)


class Planning(NamedTuple):
    """The session, tables and limits that a statement is planned with.

    Attributes:
        context: The session that its logical plan was made in.
        tables: The tables that it can name.
        breadth: How wide a scan is.
        policy: Which objects are read from local copies; None for none.
        avoid: The tables of which no large object is read.
        counting: The session that plans joins with small tables: it counts the rows of witnesses.
    """

    context: SessionContext
    tables: Sequence[ScannedTable]
    breadth: Breadth
    policy: CopyPolicy | None = None
    avoid: Container[TableName] = ()
    counting: SessionContext | None = None

    def named(self, logical: bytes) -> list[ScannedTable]:
        """Return the tables that an encoded logical plan names."""
        return [scan_table for scan_table in self.tables if scan_table.template.url in logical]


def splice(optimized: LogicalPlan, planning: Planning) -> Spliced:
    """Plan a query over the files that its filters keep.

    Args:
        optimized: The query's optimized logical plan over template tables.
        planning: What it is planned with.

    Raises:
        NotSpliceable: The plan does not serialize, or loses a part on the way.
    """
    text = optimized.display_indent()
    if lost := lost_in_physical_plan(text):
        raise NotSpliceable(f"the physical plan would lose {lost}")
    logical = encoded_plan(optimized)
    context, named = planning.context, planning.named(logical)
    slots: list[_Slot] = []
    answered: list[Scan] = []
    reads: list[ScanReads] = []
    is_join = "Join" in text
    for scan_table in named:
        logical = answer_aggregates(logical, scan_table, answered, context)
        logical = _point_at_witnesses(logical, scan_table, slots, context, planning.breadth, is_join=is_join)
    misplaced = may_misplace_filters(optimized, text, context)
    if is_join:
        logical = small_side_first(logical, _rows_of(slots), result_columns(optimized))
    try:
        logical = without_faults(logical, text, context, misplaced=misplaced)
        physical = _counted(logical, slots, planning.counting) or _physical(logical, context)
        encoded = physical.to_bytes()
        is_deep = may_be_deep(text) and not is_decoded(encoded, context, MORE_OPERATORS)
    except Exception as error:
        raise NotSpliceable(f"the plan does not serialize: {error}") from error
    _check_scans(encoded, slots)
    is_lazy = any(slot.scan.count > MANY for slot in slots) and bool(_LIMITED.search(physical.display_indent()))
    for slot in slots:
        large = slot.scan if slot.scan.table.name in planning.avoid else slot.scan_table.with_large(slot.scan)
        reading = replace(slot, scan=large)
        encoded, read = _put_files(encoded, reading, planning, is_lazy=is_lazy, misplaced=misplaced)
        reads.append(read)
    _check_templates(encoded, planning.tables)
    if physical.partition_count > 1:
        encoded = message(PhysicalPlanNode.MERGE, message(CoalescePartitionsExecNode.INPUT, encoded))
    if is_deep and not is_decoded(encoded, context):
        raise NotSpliceable("the physical plan is nested too deep to be decoded")
    without_large = None
    if any(read.scan.large for read in reads):
        every = {scan_table.table.name for scan_table in planning.tables}
        without_large = partial(splice, optimized, planning._replace(avoid=every))
    return Spliced(
        encoded,
        answered,
        reads,
        frozenset((s.scan.table.environment, s.scan_table.store) for s in slots if s.scan.count and s.scan_table.store),
        partial(splice, optimized, planning._replace(policy=None)),
        without_large,
    )


def encoded_plan(optimized: LogicalPlan) -> bytes:
    """Return a logical plan as bytes.

    Raises:
        NotSpliceable: It does not serialize.
    """
    try:
        return keep_unlimited(bytes(optimized.to_bytes()))
    except Exception as error:
        raise NotSpliceable(f"the logical plan does not serialize: {error}") from error


def without_faults(logical: bytes, text: str, context: SessionContext, *, misplaced: bool) -> bytes:
    """Return an encoded logical plan that keeps its meaning when DataFusion plans it.

    Args:
        logical: The plan.
        text: The plan as text, before anything in it was replaced.
        context: The session that it was planned in.
        misplaced: Whether filters may be misplaced; see `may_misplace_filters`.
    """
    logical = without_false_constants(logical, text, context)
    logical = exact_aggregates(logical, text, context)
    return keep_filters_in_place(logical, context) if misplaced else logical


@dataclass(frozen=True)
class _Slot:
    """A scan and the template folder that stands for it while the query is planned.

    Attributes:
        node: The encoded scan, without its path.
        witnesses: The number of witness files in the folder.
        is_small: Whether it is an input of a join that may be read as a whole.
    """

    scan_table: ScannedTable
    scan: Scan
    folder: str
    node: bytes
    witnesses: int
    is_small: bool = False

    @property
    def witness(self) -> bytes:
        """The path of the folder as the physical plan has it."""
        return self.folder.lstrip("/").encode()


def _physical(logical: bytes, context: SessionContext) -> ExecutionPlan:
    return context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, logical)).execution_plan()


def _counted(logical: bytes, slots: Sequence[_Slot], counting: SessionContext | None) -> ExecutionPlan | None:
    """Return the plan that collects small inputs of joins; None if no input is small, or there is no such plan.

    The session counts the rows of witnesses instead of those of tables. A plan from which the optimizer dropped a scan
    is not used, because it may have a result that was computed from witnesses. Nor is one that reads fewer witnesses
    than there are: a limit needs no more than the first, whose partition values would be taken for constants.
    """
    if counting is None or len(slots) < 2 or not any(slot.is_small for slot in slots):  # noqa: PLR2004
        return None
    try:
        plan = _physical(logical, counting)
        encoded = plan.to_bytes()
    except Exception:  # noqa: BLE001  # it has no class
        return None
    return plan if all(encoded.count(slot.witness) >= slot.witnesses for slot in slots) else None


def _rows_of(slots: Sequence[_Slot]) -> Callable[[bytes], int | None]:
    rows = {folder_url(slot.folder).encode(): slot.scan for slot in slots}
    return lambda path: rows[path].rows if path in rows else None


def _is_merged(missing: _Slot, slots: Sequence[_Slot], physical: bytes) -> bool:
    """Return True if another scan, which the plan has, reads the same rows: DataFusion merges equal subqueries.

    It calls scans equal that differ in their paths alone, so the files have to be compared.
    """
    return any(
        other.node == missing.node and other.witness in physical and _same_files(other.scan, missing.scan)
        for other in slots
    )


def _same_files(one: Scan, other: Scan) -> bool:
    return one.table is other.table and (one.files is other.files or one.kept["uri"].equals(other.kept["uri"]))


def answer_aggregates(logical: bytes, scan_table: ScannedTable, answered: list[Scan], context: SessionContext) -> bytes:
    """Replace the aggregates over scans of a table whose rows the catalog knows."""
    home = scan_table.template.url

    def change(node: bytes) -> bytes | None:
        found = aggregate_over_scan(node)
        if found is None or home not in children(found.scan, ListingTableScanNode.PATHS):
            return None
        filters = _filters(found.scan, context)
        mention = _mention(found.scan, scan_table)
        rows = aggregate_plan(found, filters, mention, context)
        if rows is not None:
            decided = [Filter(expr, mention.relation, decided=True, pruner=scan_table.pruner) for expr in filters]
            left_out = scan_table.left_out(filters, mention.relation)
            answered.append(Scan(scan_table.table, pa.array([], pa.int64()), decided, answered=True, left_out=left_out))
        return rows

    return rewrite(logical, home, change)


def _point_at_witnesses(
    logical: bytes,
    scan_table: ScannedTable,
    slots: list[_Slot],
    context: SessionContext,
    breadth: Breadth,
    *,
    is_join: bool,
) -> bytes:
    """Point each scan at a template folder of its own, and drop the filters that the catalog decided."""
    home = scan_table.template.url

    def change(scan_node: bytes) -> bytes | None:
        if home not in children(scan_node, ListingTableScanNode.PATHS):
            return None
        encoded = children(scan_node, ListingTableScanNode.FILTERS)
        filters = _filters(scan_node, context)
        scan = prune_scan(scan_table, filters, _mention(scan_node, scan_table).relation)
        is_small = is_join and scan.rows <= SMALL_ROWS
        groups = breadth.planned(scan.count)
        if is_join and groups == 1:
            groups = 2  # so that the planner counts the rows of two partition values, see `Template.path`
        folder = scan_table.template.path(len(slots), groups, is_small=is_small)
        undecided = [data for data, applied in zip(encoded, scan.filters, strict=True) if not applied.decided]
        rest = b"".join(
            field.raw
            for field in fields(scan_node)
            if field.number not in (ListingTableScanNode.PATHS, ListingTableScanNode.FILTERS)
        )
        node = b"".join(message(ListingTableScanNode.FILTERS, f) for f in undecided) + rest
        slots.append(_Slot(scan_table, scan, folder, node, groups, is_small))
        return message(ListingTableScanNode.PATHS, folder_url(folder).encode()) + node

    return rewrite(logical, home, change)


def _filters(scan_node: bytes, context: SessionContext) -> list[Expr]:
    try:
        return [Expr.from_bytes(data, context) for data in children(scan_node, ListingTableScanNode.FILTERS)]
    except RuntimeError as error:
        raise NotSpliceable(f"a filter cannot be decoded: {error}") from error


def _put_files(
    physical: bytes, slot: _Slot, planning: Planning, *, is_lazy: bool, misplaced: bool
) -> tuple[bytes, ScanReads]:
    """Replace the witnesses of one scan by its files."""
    scan, scan_table = slot.scan, slot.scan_table
    if slot.witness not in physical:  # optimized away, or merged with an equal scan, which reads the objects
        return physical, ScanReads(scan, [], [])
    if (store := scan_table.store) is None:
        raise NotSpliceable(f"the files of {scan.table.name} are in several stores")
    parts: list[FilesToRead] = []

    def put(node: ParquetScan) -> bytes:
        nonlocal scan, parts
        scan = node.limited(scan if node.limit is None else replace(scan, large=None, row_filter=None))
        if scan.row_filter is not None and not node.gives_columns:
            scan = scan_table.with_large(scan, filtered=False)
        node = node.unfiltered() if misplaced else node
        # A limit, or a join's filter on a partition column, may leave most files unopened.
        skips = scan.count > MANY and (is_lazy or node.names(scan_table.layout.partition_schema.names))
        parts = list(_parts(scan, scan_table, store, None if skips else planning.policy))
        return node.over_all(scan, parts, planning.breadth)

    encoded = rewrite_scan(physical, slot.witness, put)
    in_place = [part.scan for part in parts if part.copied is None] if parts else scan.parts
    copied = [part.copied for part in parts if part.copied is not None]
    large = next((part.large for part in copied if part.large is not None), scan.large)  # in the ranges of the plan
    return encoded, ScanReads(replace(scan, large=large), copied, in_place)


def _parts(scan: Scan, scan_table: ScannedTable, store: str, policy: CopyPolicy | None) -> Iterator[FilesToRead]:
    """Yield the files of each part of a scan."""
    for part in scan.parts:
        if not part.is_large or scan.large is None:
            yield from _small_parts(part, scan_table, store, policy)
        else:
            largest = pc.max(part.sizes).as_py()
            copied = None if policy is None else policy.copied_large(scan.large)
            large = scan.large if copied is None or copied.large is None else copied.large
            runs = pa.chunked_array([pa.array(large.entries, pa.binary())])
            read = pa.chunked_array([pa.array(large.sizes, pa.int64())])
            yield FilesToRead(part, runs, read, largest, store, copied)


def _small_parts(scan: Scan, scan_table: ScannedTable, store: str, policy: CopyPolicy | None) -> Iterator[FilesToRead]:
    """Yield the files of a scan that are read from copies, and those that are read in place."""
    copied, in_place = (None, scan) if policy is None else policy.divided(scan)
    for part in (copied, in_place):
        if part is not None and part.count:
            copies = policy.copied(part, scan_table.files["entry"]) if policy is not None and part is copied else None
            entries = part.of(scan_table.files.select(["entry"]))["entry"]
            yield FilesToRead(part, entries, part.sizes, pc.max(part.sizes).as_py(), store, copies)


def _check_scans(physical: bytes, slots: Sequence[_Slot]) -> None:
    """Refuse a plan without one of the scans: it may have a result that was computed from witnesses."""
    for slot in slots:
        if slot.witness not in physical and slot.scan.count and not _is_merged(slot, slots, physical):
            raise NotSpliceable(f"the scan of {slot.scan.table.name} is not in the physical plan")


def _check_templates(physical: bytes, tables: Sequence[ScannedTable]) -> None:
    """Refuse a plan that still reads a template: it would answer as if the table were empty."""
    for scan_table in tables:
        if scan_table.template.prefix in physical:
            raise NotSpliceable(f"a scan still points at the template {scan_table.template.folder}")


def _mention(scan_node: bytes, scan_table: ScannedTable) -> Mention:
    (reference,) = children(scan_node, ListingTableScanNode.TABLE_NAME)
    return Mention(reference, scan_table.pruner)

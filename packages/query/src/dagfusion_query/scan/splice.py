"""From pruned files to a DataFusion plan that reads exactly those, with DataFusion's own Parquet scan and no LIST.

A query is planned over template folders; then the template's witness files are replaced, in the serialized physical
plan, by the real ones. Three messages are rewritten and all around them is copied byte for byte, so plan nodes that are
unknown here survive:

    logical   ListingTableScanNode {paths 2, filters 6, table_name 14 | 1}
    physical  FileScanExecConf {file_groups 1, object_store_url 8}, in
              ParquetScanExecNode {base_conf 1, predicate 3, parquet_options 4: {global 1: ParquetOptions}}
              ParquetOptions {enable_page_index 1, pruning 2}

Field numbers are those of datafusion-proto 55.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datafusion import ExecutionPlan, Expr, LogicalPlan, SessionContext

from dagfusion_query.scan.answer import Mention, aggregate_over_scan, answer
from dagfusion_query.scan.float_bounds import exact_float_bounds
from dagfusion_query.scan.scanned import Filter, Scan, ScannedTable, may_hold_nan, prune_scan
from dagfusion_query.scan.template import Template, folder_url
from dagfusion_query.wire import children, fields, message, rewrite

PATHS, FILTERS, TABLE_NAME = 2, 6, 14
_FILE_GROUPS, _STORE_URL = 1, 8
_BASE_CONF, _PREDICATE, _PARQUET_OPTIONS, _GLOBAL = 1, 3, 4, 1
_ENABLE_PAGE_INDEX, _PRUNING = 1, 2
SMALL_BYTES = 1 << 20  # all of such a file is read as fast as its page index, which DataFusion asks for at each query
_COALESCE = 13  # PhysicalPlanNode.merge: CoalescePartitionsExecNode {input 1}


class NotSpliceable(Exception):  # noqa: N818
    """This plan cannot be spliced; it has to run another way. Never seen outside the engine."""


class Breadth(NamedTuple):
    """How many files a scan reads at once: its file groups.

    A plan is made for `partitions` of them. Operators ask their input for its partitions when they run, so a plan for
    several serves more: a scan of many small files gets more groups in the end, since waiting for S3 needs no thread.

    Attributes:
        partitions: The plan's partitions.
        concurrency: The most file groups.
        window_bytes: The most bytes that the files read at once may have, if those are more than `partitions`.
    """

    partitions: int
    concurrency: int
    window_bytes: int

    def planned(self, files: int) -> int:
        """Return the number of witnesses for a scan of so many files."""
        return min(files, self.partitions)

    def spliced(self, planned: int, files: int, size_bytes: int) -> int:
        """Return the number of file groups of a scan that the physical plan has `planned` of."""
        if planned < self.partitions:
            return planned
        in_window = self.window_bytes * files // max(size_bytes, 1)
        return max(planned, min(files, self.concurrency, in_window))


@dataclass(frozen=True)
class Spliced:
    """A physical plan over real files.

    Attributes:
        plan: The plan as bytes.
        scans: What it reads.
        stores: The environments and URLs of the stores that it reads from.
    """

    plan: bytes
    scans: Sequence[Scan]
    stores: frozenset[tuple[str, str]]

    @property
    def size_bytes(self) -> int:
        """Bytes of the encoded plan."""
        return len(self.plan)


def splice(
    optimized: LogicalPlan, context: SessionContext, tables: Sequence[ScannedTable], breadth: Breadth
) -> Spliced:
    """Plan a query over the files that its filters keep.

    Args:
        optimized: The query's optimized logical plan over template tables.
        context: The session that it was planned in.
        tables: The tables that the query can name.
        breadth: How wide a scan is.

    Raises:
        NotSpliceable: The plan does not serialize, or a scan was lost on the way.
    """
    logical = encoded_plan(optimized)
    slots: list[_Slot] = []
    answered: list[Scan] = []
    for scanned in tables:
        logical = answer_aggregates(logical, scanned, answered, context)
        logical = _point_at_witnesses(logical, scanned, slots, context, breadth)
    logical = exact_float_bounds(logical, context)
    try:
        plan = LogicalPlan.from_bytes(context, logical)
        physical = context.create_dataframe_from_logical_plan(plan).execution_plan()
        merged = physical.partition_count > 1
        encoded = physical.to_bytes()
    except Exception as error:
        raise NotSpliceable(f"the plan does not serialize: {error}") from error
    for slot in slots:
        if slot.witness not in encoded and slot.scan.count and not _is_merged(slot, slots, encoded):
            raise NotSpliceable(f"the scan of {slot.scan.table.name} is not in the physical plan")
    for slot in slots:
        encoded = _put_files(encoded, slot, breadth)
    _check(encoded, [scanned.template for scanned in tables])
    return Spliced(
        message(_COALESCE, message(1, encoded)) if merged else encoded,
        [*answered, *(slot.scan for slot in slots)],
        frozenset((s.scan.table.environment, s.scanned.store) for s in slots if s.scan.count and s.scanned.store),
    )


def encoded_plan(optimized: LogicalPlan) -> bytes:
    """Return a logical plan as bytes.

    Raises:
        NotSpliceable: It does not serialize.
    """
    try:
        return bytes(optimized.to_bytes())
    except Exception as error:
        raise NotSpliceable(f"the logical plan does not serialize: {error}") from error


def decode(spliced: Spliced, context: SessionContext) -> ExecutionPlan:
    """Return the plan, ready to be executed once."""
    return ExecutionPlan.from_bytes(context, spliced.plan)


@dataclass(frozen=True)
class _Slot:
    """A scan and the template folder that stands for it while the query is planned.

    Attributes:
        node: The encoded scan, without its path.
    """

    scanned: ScannedTable
    scan: Scan
    folder: str
    node: bytes

    @property
    def witness(self) -> bytes:
        """The path of the folder as the physical plan has it."""
        return self.folder.lstrip("/").encode()


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


def answer_aggregates(logical: bytes, scanned: ScannedTable, answered: list[Scan], context: SessionContext) -> bytes:
    """Replace the aggregates over scans of a table whose rows the catalog knows."""
    home = folder_url(scanned.template.home).encode()
    if home not in logical:
        return logical

    def change(node: bytes) -> bytes | None:
        found = aggregate_over_scan(node)
        if found is None or home not in children(found.scan, PATHS):
            return None
        filters = [Expr.from_bytes(data, context) for data in children(found.scan, FILTERS)]
        mention = _mention(found.scan, scanned)
        rows = answer(found, filters, mention, context)
        if rows is not None:
            decided = [Filter(expr, mention.relation, decided=True, pruner=scanned.pruner) for expr in filters]
            answered.append(Scan(scanned.table, pa.array([], pa.int64()), decided, answered=True))
        return rows

    return rewrite(logical, home, change)


def _point_at_witnesses(
    logical: bytes, scanned: ScannedTable, slots: list[_Slot], context: SessionContext, breadth: Breadth
) -> bytes:
    """Give each scan of a table a template folder of its own, and drop the filters that the catalog decided."""
    home = folder_url(scanned.template.home).encode()
    if home not in logical:
        return logical

    def change(scan_node: bytes) -> bytes | None:
        if home not in children(scan_node, PATHS):
            return None
        encoded = children(scan_node, FILTERS)
        filters = [Expr.from_bytes(data, context) for data in encoded]
        scan = prune_scan(scanned, filters, _mention(scan_node, scanned).relation)
        folder = scanned.template.path(len(slots), breadth.planned(scan.count))
        undecided = [data for data, applied in zip(encoded, scan.filters, strict=True) if not applied.decided]
        rest = b"".join(field.raw for field in fields(scan_node) if field.number not in (PATHS, FILTERS))
        slots.append(_Slot(scanned, scan, folder, node := b"".join(message(FILTERS, f) for f in undecided) + rest))
        return message(PATHS, folder_url(folder).encode()) + node

    return rewrite(logical, home, change)


def _put_files(physical: bytes, slot: _Slot, breadth: Breadth) -> bytes:
    """Replace the witnesses of one scan by its files."""
    witness = slot.witness
    if witness not in physical:
        return physical  # optimized away, or merged with an equal scan
    if slot.scanned.store is None:
        raise NotSpliceable(f"the files of {slot.scan.table.name} are in several stores")
    store = slot.scanned.store.encode()
    files = slot.scan.of(slot.scanned.files.select(["entry", "size_bytes"]))
    are_small = pc.max(files["size_bytes"]).as_py() <= SMALL_BYTES
    # Statistics in Parquet leave NaN out, and DataFusion would skip row groups and pages by them.
    with_nan = [name.encode() for name in may_hold_nan(slot.scan)]

    def put(conf: bytes) -> bytes:
        count = breadth.spliced(len(children(conf, _FILE_GROUPS)), len(files), slot.scan.bytes)
        groups = _file_groups(files["entry"], files["size_bytes"], count)
        rest = (
            message(_STORE_URL, store) if field.number == _STORE_URL else field.raw
            for field in fields(conf)
            if field.number != _FILE_GROUPS
        )
        return b"".join([*(message(_FILE_GROUPS, group) for group in groups), *rest])

    def change(node: bytes) -> bytes | None:
        confs = children(node, _BASE_CONF)
        if not (confs and _reads(confs[0], witness)):
            return None
        options = {_ENABLE_PAGE_INDEX} if are_small else set()
        if any(column in predicate for predicate in children(node, _PREDICATE) for column in with_nan):
            options |= {_ENABLE_PAGE_INDEX, _PRUNING}
        fitting = _replace(node, _PARQUET_OPTIONS, lambda given: _without(given, options)) if options else node
        return _replace(fitting, _BASE_CONF, put)

    return rewrite(physical, witness, change)


def _reads(conf: bytes, witness: bytes) -> bool:
    """Tell whether a message is the FileScanExecConf of a scan of these witnesses."""
    first = [file for group in children(conf, _FILE_GROUPS)[:1] for file in children(group, 1)[:1]]
    return any(path.startswith(witness) for file in first for path in children(file, 1))


def _without(options: bytes, numbers: Collection[int]) -> bytes:
    """Return options with these switched off, whose default in the encoding is off."""
    return _replace(
        options, _GLOBAL, lambda given: b"".join(field.raw for field in fields(given) if field.number not in numbers)
    )


def _replace(node: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """Return a message with a change to its sub-messages of one number."""
    return b"".join(
        message(number, change(field.value)) if field.number == number and isinstance(field.value, bytes) else field.raw
        for field in fields(node)
    )


def _file_groups(entries: pa.ChunkedArray, sizes: pa.ChunkedArray, groups: int) -> list[bytes]:
    """Cut the files, in order, into `groups` runs of about the same size in bytes, each encoded as a FileGroup.

    A run is a slice of one buffer, so the work does not grow with a loop over the files.
    """
    array = entries.combine_chunks()
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    data = memoryview(array.buffers()[2])
    total = np.cumsum(sizes.to_numpy())
    cuts = np.searchsorted(total, total[-1] * np.arange(1, groups) / groups)
    # Strictly ascending, so that every group has a file: there are never more groups than files.
    steps = np.arange(1, groups)
    cuts = np.minimum(np.maximum.accumulate(np.maximum(cuts - steps, 0)), len(array) - groups) + steps
    edges = [0, *cuts.tolist(), len(array)]
    return [bytes(data[offsets[a] : offsets[b]]) for a, b in pairwise(edges)]


def _check(physical: bytes, templates: Sequence[Template]) -> None:
    """Refuse a plan that still reads a template: it would answer as if the table were empty."""
    for template in templates:
        if f"{template.folder}/".lstrip("/").encode() in physical:
            raise NotSpliceable(f"a scan still points at the template {template.folder}")


def _mention(scan_node: bytes, scanned: ScannedTable) -> Mention:
    (reference,) = children(scan_node, TABLE_NAME)
    return Mention(reference, scanned.pruner)

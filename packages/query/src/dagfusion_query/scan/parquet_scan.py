"""One Parquet scan of an encoded physical plan: its witness files are replaced by a table's own, or by local copies.

DataFusion skips row groups and pages by the predicate and the options of the scan. `ParquetScan.over` removes them
where skipping would lose rows with NaN, and `ParquetScan.unfiltered` where the predicate may name the wrong column.

    PhysicalPlanNode {parquet_scan, merge, union}
    ParquetScanExecNode {base_conf, predicate, parquet_options: {global: ParquetOptions}}
    FileScanExecConf {file_groups, limit: {limit}, table_partition_cols, object_store_url}
    ParquetOptions {enable_page_index, pruning}

`plan_messages` has the field numbers.

A scan that reads large objects and small ones becomes a union of two scans. The encoded schema has the file's columns
and then the partition columns, so the scan of large objects, where they are columns of the file, is the same node
without the list of partition columns.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.uri import LOCAL_FILES
from dagfusion_query.plan_messages import (
    CoalescePartitionsExecNode,
    ColumnStats,
    FieldOfSchema,
    FileGroup,
    FileScanExecConf,
    FileSchema,
    ParquetOptions,
    ParquetScanExecNode,
    PartitionedFile,
    PhysicalColumn,
    PhysicalExprNode,
    PhysicalPlanNode,
    Precision,
    ScanColumn,
    ScanLimit,
    ScanProjection,
    Statistics,
    TableParquetOptions,
    UnionExecNode,
)
from dagfusion_query.scan.copied_objects import CopiedScan
from dagfusion_query.scan.row_filter import RowFilter
from dagfusion_query.scan.table_scan import Scan
from dagfusion_query.wire import change_children, children, fields, message, rewrite, uint, with_children

SMALL_BYTES = 1 << 20  # all of such a file is read as fast as its page index, which DataFusion asks for at each query


class Breadth(NamedTuple):
    """The number of files that a scan reads at once: its file groups.

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
        # Nothing in a plan of one partition merges several.
        if planned < self.partitions or planned == 1:
            return planned
        in_window = self.window_bytes * files // max(size_bytes, 1)
        return max(planned, min(files, self.concurrency, in_window))

    def shared(self, planned: int, files: "Sequence[FilesToRead]") -> Sequence[int]:
        """Return the number of file groups of each part of a scan that the physical plan has `planned` groups of.

        They add up to as many as the plan can have. Where that is one, each part has one, and they have to be merged.
        A part has no more groups than files, if the others have files for the rest. Local copies get as many as the
        plan has partitions, then objects in place, which wait for S3, and the rest is for copies again.
        """
        counts, sizes = [len(part.entries) for part in files], [part.size_bytes for part in files]
        total = max(self.spliced(planned, sum(counts), sum(sizes)), len(files))
        first = min(self.partitions, total // len(files))
        shares = [1 for _ in files]

        def need(place: int) -> tuple[bool, int, float]:
            share, is_copied = shares[place], files[place].copied is not None
            order = 1 if not is_copied else 2 if share < first else 0
            return share < counts[place], order, sizes[place] / share

        for _ in range(total - len(files)):
            shares[max(range(len(files)), key=need)] += 1
        return shares


@dataclass(frozen=True)
class FilesToRead:
    """The files of one scan in a physical plan.

    Attributes:
        scan: What is read of the table: small objects, or large ones, in which partition columns are columns.
        entries: The encoded files, binary without nulls; see `encode_entries`.
        sizes: int64 without nulls: bytes that are read of each, in the same order.
        largest: Bytes of the largest file.
        store: The URL of their store.
        copied: Their local copies, which are read instead; or None.
    """

    scan: Scan
    entries: pa.ChunkedArray
    sizes: pa.ChunkedArray
    largest: int
    store: str
    copied: CopiedScan | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes that are read of all of them."""
        return int(pc.sum(self.sizes).as_py() or 0)


class ParquetScan:
    """A scan of witness files in a physical plan.

    Args:
        node: The encoded ParquetScanExecNode.
    """

    def __init__(self, node: bytes) -> None:
        self._node = node
        (self._conf,) = children(node, ParquetScanExecNode.BASE_CONF)

    def names(self, columns: Iterable[str]) -> bool:
        """Return True if the predicate reads one of these columns; it may be True for another column's sake."""
        return any(
            name.encode() in predicate
            for predicate in children(self._node, ParquetScanExecNode.PREDICATE)
            for name in columns
        )

    def unfiltered(self) -> "ParquetScan":
        """Return the scan without its predicate, which only skips row groups and pages."""
        return ParquetScan(_without(self._node, {ParquetScanExecNode.PREDICATE}))

    @property
    def planned(self) -> int:
        """The number of its file groups."""
        return len(children(self._conf, FileScanExecConf.FILE_GROUPS))

    @property
    def limit(self) -> int | None:
        """The most rows that it gives; None for all."""
        limits = (fields(limit) for limit in children(self._conf, FileScanExecConf.LIMIT))
        found = [f.value for limit in limits for f in limit if f.number == ScanLimit.LIMIT and isinstance(f.value, int)]
        return found[0] if found else None

    def limited(self, scan: Scan) -> Scan:
        """Return the scan; if the plan limits it, cut to the first files that have as many rows as the limit."""
        if self.limit is None or children(self._node, ParquetScanExecNode.PREDICATE):
            return scan
        rows = np.cumsum(scan.kept["rows"].to_numpy())
        count = int(np.searchsorted(rows, self.limit)) + 1
        every = pa.array(range(scan.count), pa.int64()) if scan.files is None else scan.files
        return replace(scan, files=every.slice(0, count))

    def over(self, scan: Scan, files: FilesToRead, groups: int) -> bytes:
        """Return the node over some files of a scan.

        Args:
            scan: All that is read of the table.
            files: What this node reads.
            groups: The number of its file groups.
        """
        entries, store = files.entries, files.store
        if files.copied is not None:
            entries, store = files.copied.entries, LOCAL_FILES
        encoded = [message(FileScanExecConf.FILE_GROUPS, g) for g in _file_groups(entries, files.sizes, groups)]
        dropped = {FileScanExecConf.FILE_GROUPS}
        if files.scan.is_large:
            dropped.add(FileScanExecConf.PARTITION_COLUMNS)
        changed = {
            FileScanExecConf.OBJECT_STORE_URL: lambda _: store.encode(),
            FileScanExecConf.STATISTICS: _unknown,  # they are those of the witnesses
        }
        rest = (
            message(field.number, changed[field.number](field.value))
            if field.number in changed and isinstance(field.value, bytes)
            else field.raw
            for field in fields(self._conf)
            if field.number not in dropped
        )
        off = {ParquetOptions.ENABLE_PAGE_INDEX} if files.largest <= SMALL_BYTES else set()
        node = self._node
        # Statistics in Parquet leave NaN out, and DataFusion would skip row groups and pages by them. With a join's or
        # an order's filter in it, the predicate skips row groups in spite of the option; rows are filtered above.
        if self.names(_may_hold_nan(scan)):
            off |= {ParquetOptions.ENABLE_PAGE_INDEX, ParquetOptions.PRUNING}
            node = _without(node, {ParquetScanExecNode.PREDICATE})
        node = (
            change_children(node, ParquetScanExecNode.PARQUET_OPTIONS, lambda options: _switched_off(options, off))
            if off
            else node
        )
        return change_children(node, ParquetScanExecNode.BASE_CONF, lambda _: b"".join([*encoded, *rest]))

    @property
    def gives_columns(self) -> bool:
        """True if it gives some columns, and no other expression, which could fail for a row that is filtered above."""
        given = self._given
        return bool(given) and all(
            [field.number for field in fields(expr)] == [PhysicalExprNode.COLUMN]
            for column in given
            for expr in children(column, ScanColumn.EXPR)
        )

    @property
    def _given(self) -> list[bytes]:
        """The encoded columns that it gives; none if it gives those of its table."""
        projections = children(self._conf, FileScanExecConf.PROJECTION)
        return [column for given in projections for column in children(given, ScanProjection.COLUMNS)]

    def _filtered(self, node: bytes, row_filter: RowFilter) -> bytes:
        """Return the plan node that filters the rows of a node of this scan, which gets the columns of the filter."""
        (schema,) = children(self._conf, FileScanExecConf.SCHEMA)
        names = [name for one in children(schema, FileSchema.FIELDS) for name in children(one, FieldOfSchema.NAME)]
        first = [_column(name, names.index(name)) for name in map(str.encode, row_filter.columns)]
        given = b"".join(message(ScanProjection.COLUMNS, column) for column in [*first, *self._given])
        wider = change_children(
            node,
            ParquetScanExecNode.BASE_CONF,
            lambda conf: with_children(conf, {FileScanExecConf.PROJECTION: [given]}),
        )
        return row_filter.over(message(PhysicalPlanNode.PARQUET_SCAN, wider), len(self._given))

    def _part(self, scan: Scan, part: FilesToRead, groups: int) -> bytes:
        node = self.over(scan, part, groups)
        row_filter = part.scan.row_filter
        return message(PhysicalPlanNode.PARQUET_SCAN, node) if row_filter is None else self._filtered(node, row_filter)

    def over_all(self, scan: Scan, parts: Sequence[FilesToRead], breadth: Breadth) -> bytes:
        """Return the plan node that reads all parts of a scan."""
        groups = breadth.shared(self.planned, parts)
        nodes = [self._part(scan, part, count) for part, count in zip(parts, groups, strict=True)]
        if len(nodes) == 1:
            return nodes[0]
        union = message(PhysicalPlanNode.UNION, b"".join(message(UnionExecNode.INPUTS, node) for node in nodes))
        if self.planned > 1:
            return union
        # The operators above were planned for one partition. No limit may be among them: the scan was to keep to it.
        most = b"" if self.limit is None else uint(CoalescePartitionsExecNode.FETCH, self.limit)
        return message(PhysicalPlanNode.MERGE, message(CoalescePartitionsExecNode.INPUT, union) + most)


def rewrite_scan(physical: bytes, witness: bytes, change: Callable[[ParquetScan], bytes]) -> bytes:
    """Replace the plan node that scans a template folder's witnesses in a physical plan."""

    def changed(node: bytes) -> bytes | None:
        for scan in children(node, PhysicalPlanNode.PARQUET_SCAN):
            confs = children(scan, ParquetScanExecNode.BASE_CONF)
            if confs and _reads(confs[0], witness):
                return change(ParquetScan(scan))
        return None

    return rewrite(physical, witness, changed)


def _column(name: bytes, index: int) -> bytes:
    """Return a column that a scan gives as it is."""
    place = uint(PhysicalColumn.INDEX, index) if index else b""
    column = message(PhysicalExprNode.COLUMN, message(PhysicalColumn.NAME, name) + place)
    return message(ScanColumn.NAME, name) + message(ScanColumn.EXPR, column)


def _may_hold_nan(scan: Scan) -> Iterator[str]:
    """Yield the columns that may hold a NaN in a file that is read: a record bounds floats only where there is none."""
    floats = [field.name for field in scan.table.file_schema if _has_floats(field.type)]
    if not floats:
        return
    read = scan.of(scan.table.files.select(["rows", "stats"]))
    stats_of = {field.name: column for field, column in zip(read["stats"].type, read["stats"].flatten(), strict=True)}
    for name in floats:
        if name not in stats_of or not _is_bounded(stats_of[name], read["rows"]):
            yield name


def _is_bounded(stats: pa.ChunkedArray, rows: pa.ChunkedArray) -> bool:
    of = {field.name: column for field, column in zip(stats.type, stats.flatten(), strict=True)}
    bounded = pc.or_(pc.is_valid(of["min"]), pc.fill_null(pc.equal(of["nulls"], rows), False))  # noqa: FBT003
    return bool(pc.all(bounded).as_py())


def _has_floats(kind: pa.DataType) -> bool:
    fields = (kind.field(number).type for number in range(kind.num_fields))
    return pa.types.is_floating(kind) or any(map(_has_floats, fields))


def _reads(conf: bytes, witness: bytes) -> bool:
    """Return True if a message is the FileScanExecConf of a scan of these witnesses."""
    first = [
        file
        for group in children(conf, FileScanExecConf.FILE_GROUPS)[:1]
        for file in children(group, FileGroup.FILES)[:1]
    ]
    return any(path.startswith(witness) for file in first for path in children(file, PartitionedFile.PATH))


def _unknown(statistics: bytes) -> bytes:
    """Return statistics of the same columns of which nothing is known."""
    absent = uint(Precision.INFO, Precision.ABSENT) + message(Precision.VALUE, b"")
    column = b"".join(message(number, absent) for number in ColumnStats.ALL)
    count = len(children(statistics, Statistics.COLUMN_STATS))
    numbers = (Statistics.NUM_ROWS, Statistics.TOTAL_BYTE_SIZE)
    return b"".join(message(number, absent) for number in numbers) + message(Statistics.COLUMN_STATS, column) * count


def _switched_off(options: bytes, numbers: Collection[int]) -> bytes:
    """Return options with these switched off, whose default in the encoding is off."""
    return change_children(
        options, TableParquetOptions.GLOBAL, lambda global_options: _without(global_options, numbers)
    )


def _without(node: bytes, numbers: Collection[int]) -> bytes:
    return b"".join(field.raw for field in fields(node) if field.number not in numbers)


def _file_groups(entries: pa.ChunkedArray, sizes: pa.ChunkedArray, groups: int) -> list[bytes]:
    """Cut the files, in order, into `groups` slices of about the same size in bytes, each encoded as a FileGroup.

    A slice is of one buffer, so the work does not grow with a loop over the files. Fewer files than groups, as a
    limit leaves them, leave the last groups empty: the plan has operators for each group.
    """
    array = entries.combine_chunks()
    if (empty := groups - len(array)) > 0:
        return [*_file_groups(entries, sizes, len(array)), *[b""] * empty]
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    data = memoryview(array.buffers()[2])
    total = np.cumsum(sizes.to_numpy())
    cuts = np.searchsorted(total, total[-1] * np.arange(1, groups) / groups)
    # Strictly ascending, so that every group has a file.
    steps = np.arange(1, groups)
    cuts = np.minimum(np.maximum.accumulate(np.maximum(cuts - steps, 0)), len(array) - groups) + steps
    edges = [0, *cuts.tolist(), len(array)]
    return [bytes(data[offsets[a] : offsets[b]]) for a, b in pairwise(edges)]

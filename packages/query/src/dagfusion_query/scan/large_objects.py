"""The row groups of large objects that a scan reads in place of small objects, and what a consolidation would gain.

A row group holds the rows of some materializations. It can replace their files as long as each is the latest of its
partition. A scan that keeps all of them may read it instead. So may a scan that keeps at least half of them, and whose
filters of partition columns drop the others: these filters are then evaluated for each row, see `row_filter`. The
result does not depend on this choice.

A large object takes about two requests for its footer and one for each row group, a small object takes one. Bytes that
are not asked for count as requests, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.model import Table, files_schema
from dagfusion_query.catalog.partitioned_file import encode_range_entry
from dagfusion_query.catalog.replacing_row_groups import (
    Flags,
    Numbers,
    is_first,
    numbered,
    replacing_row_groups,
    row_groups_in_store,
)
from dagfusion_query.scan.listing_tables import scan_layout

FOOTER_REQUESTS = 2
REQUEST_BYTES = 1 << 20  # that a store sends in about the time of one more request
LEAST_SHARE = 0.5  # of a row group's partitions that a scan keeps
# Neighbouring row groups that one partition of a scan reads at once
RANGE_BYTES, LEAST_RANGE_BYTES, RANGES = 16 << 20, 256 << 10, 8
BLOCK_BYTES = 2 << 20  # of an object, in which the row groups of a block begin
_OBJECT = ("run_id", "uri", "size_bytes", "modified", "etag", "checksum")
MANY_FILES = 100  # small ones that are in no large object
SMALL_OBJECT_BYTES = 3 << 20  # an object of this size takes about as long as a smaller one


@dataclass(frozen=True, eq=False)
class LargeRead:
    """The part of a scan that reads large objects.

    Attributes:
        table: The table, with the large objects that are read as its files.
        entries: The encoded ranges of row groups, one element for each range; see `encode_entries`.
        objects: The row of its object in `table.files`, one element for each range.
        sizes: Bytes, one element for each range.
        blocks: Where the block of each range begins in its object, and where it ends at the latest; see `_blocks`.
        by_block: Gives the same row groups in ranges that are each in one block.
        files: int64, the rows of the table's files that the ranges replace, ascending.
        holders: int64, for each element of `files` the row of its object in `table.files`.
        rest: int64, the rows of the files that are read as they are, ascending.
        others: int64, the rows of files that the scan drops and whose rows are in the ranges, ascending.
        requests: The number of requests that read it in place: for the footers, and one for each row group.
    """

    table: Table
    entries: Sequence[bytes]
    objects: Sequence[int]
    sizes: Sequence[int]
    blocks: Sequence[tuple[int, int]]
    files: pa.Array
    holders: Numbers
    rest: pa.Array
    others: pa.Array
    requests: int
    by_block: "Callable[[], LargeRead]"


class LargeObjects:
    """The row groups that replace files in one generation of a table.

    Args:
        table: The table; all its files are in one store.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._of_file, self._rows, self._places = replacing_row_groups(table)
        self._sizes: Numbers = np.bincount(self._of_file[self._of_file >= 0], minlength=len(self._rows))

    @property
    def replaced(self) -> Flags:
        """One boolean for each row of `table.files`: True if a row group replaces the file."""
        return self._of_file >= 0

    def read(self, files: pa.Array | None, dropped: Flags | None = None) -> LargeRead | None:
        """Return the part of a scan that reads large objects, or None.

        Args:
            files: int64 without nulls, ascending: the rows of `table.files` that the scan keeps; None for all.
            dropped: One boolean for each row of `table.files`: True if the scan's filters of partition columns drop the
                file. Row groups may hold its rows, too. None if they may not.
        """
        if not len(self._rows):
            return None
        return self._whole if files is None else self._read(np.asarray(files, np.int64), dropped)

    @cached_property
    def _whole(self) -> LargeRead | None:
        return self._read(np.arange(len(self._of_file), dtype=np.int64), None)

    def _read(self, files: Numbers, dropped: Flags | None) -> LargeRead | None:
        groups = self._of_file[files]
        kept = self._counted(groups)
        others = np.flatnonzero(dropped) if dropped is not None else files[:0]
        usable = kept + self._counted(self._of_file[others]) == self._sizes
        chosen = self._worthwhile(usable & (kept > 0) & (kept >= LEAST_SHARE * self._sizes), kept)
        if not chosen.any():
            return None
        is_read = (groups >= 0) & chosen[groups]
        others = others[(self._of_file[others] >= 0) & chosen[self._of_file[others]]]
        return self._ranges(np.flatnonzero(chosen), files[is_read], groups[is_read], files[~is_read], others)

    def _counted(self, groups: Numbers) -> Numbers:
        """Return for each row group how often it is among these; -1 is none."""
        counts: Numbers = np.bincount(groups[groups >= 0], minlength=len(self._sizes))
        return counts

    def _worthwhile(self, usable: Flags, kept: Numbers) -> Flags:
        """Return those of the row groups whose object takes fewer requests than the files that they stand for.

        Args:
            usable: Which row groups can be read.
            kept: For each row group, how many of its files the scan keeps.
        """
        requests = 1 + self._bytes * (self._sizes - kept) // np.maximum(self._sizes, 1) // REQUEST_BYTES
        usable = usable & (kept >= requests)
        count = self._object.max(initial=-1) + 1
        groups = np.bincount(self._object[usable], weights=requests[usable], minlength=count)
        files = np.bincount(self._object[usable], weights=kept[usable], minlength=count)
        worth: Flags = usable & (files > groups + FOOTER_REQUESTS)[self._object]
        return worth

    def _ranges(
        self,
        chosen: Numbers,
        files: Numbers,
        groups: Numbers,
        rest: Numbers,
        others: Numbers,
        *,
        by_block: bool = False,
    ) -> LargeRead:
        """Join row groups that follow one another in an object, but leave ranges enough to be read side by side.

        No other row group may be between two of a range. With `by_block`, all of a range are in one block.
        """
        starts, lasts = self._joined(chosen, by_block=by_block)
        of_range, of_group = self._object[starts], self._object[groups]
        found, first = np.unique(of_range, return_index=True)
        number_of = np.zeros(self._object.max(initial=-1) + 1, np.int64)  # objects are numbered as the ranges come
        number_of[found] = np.argsort(np.argsort(first))
        objects = self._rows.select(list(_OBJECT)).take(pa.array(starts[np.sort(first)], pa.int64()))
        numbers = number_of[of_range].tolist()
        described = objects.select(["uri", "size_bytes", "modified"]).to_pylist()
        blocks = self._blocks
        return LargeRead(
            replace(self._table, files=_as_files(objects, self._table)),
            [
                encode_range_entry(
                    described[number]["uri"],
                    described[number]["size_bytes"],
                    int(described[number]["modified"].timestamp() * 1_000_000) * 1000,
                    start,
                    last + 1,
                )
                for number, start, last in zip(
                    numbers, self._offsets[starts].tolist(), self._offsets[lasts].tolist(), strict=True
                )
            ],
            numbers,
            (self._ends[lasts + 1] - self._ends[starts]).tolist(),
            [blocks[start] for start in starts.tolist()],
            pa.array(files, pa.int64()),
            number_of[of_group],
            pa.array(rest, pa.int64()),
            pa.array(others, pa.int64()),
            FOOTER_REQUESTS * len(objects) + len(chosen),
            partial(self._ranges, chosen, files, groups, rest, others, by_block=True),
        )

    def _joined(self, chosen: Numbers, *, by_block: bool) -> tuple[Numbers, Numbers]:
        """Return the first and the last row group of each range."""
        before, after = chosen[:-1], chosen[1:]
        follows = (
            (self._places[after] == self._places[before] + 1)
            & (self._object[after] == self._object[before])
            & (self._offsets[after] > self._offsets[before])
        )
        if by_block:
            block = np.array([start for start, _ in self._blocks], np.int64)
            follows &= block[after] == block[before]
        begins = self._ends[chosen].tolist()
        ends = self._ends[chosen + 1].tolist()
        most = max(LEAST_RANGE_BYTES, min(RANGE_BYTES, int(self._bytes[chosen].sum()) // RANGES))
        starts = [0]
        for number, is_next in enumerate(follows.tolist(), 1):
            if not is_next or ends[number] - begins[starts[-1]] > most:
                starts.append(number)
        return chosen[starts], chosen[[*(start - 1 for start in starts[1:]), len(chosen) - 1]]

    @cached_property
    def _offsets(self) -> Numbers:
        return np.asarray(self._rows["offset"], np.int64)

    @cached_property
    def _object(self) -> Numbers:
        """For each row group, the number of its object."""
        return numbered(self._rows["uri"])

    @cached_property
    def _blocks(self) -> Sequence[tuple[int, int]]:
        """For each row group, where its block begins in the object, and where the next one begins or the object ends.

        Row groups that begin in the same `BLOCK_BYTES` of an object are a block, whether they are current or not. So
        the blocks of an object do not change.
        """
        rows = row_groups_in_store(self._table)
        objects, offsets = numbered(rows["uri"]), np.asarray(rows["offset"], np.int64)
        is_new_object = is_first(objects) | (np.diff(offsets, prepend=-1) <= 0)
        firsts = np.flatnonzero(is_new_object | is_first(offsets // BLOCK_BYTES))
        is_last = np.append(is_new_object[firsts[1:]], [True])
        ends = np.where(is_last, np.asarray(rows["size_bytes"])[firsts], np.append(offsets[firsts[1:]], 0))
        block = np.searchsorted(firsts, self._places, "right") - 1
        return list(zip(offsets[firsts][block].tolist(), ends[block].tolist(), strict=True))

    @cached_property
    def _bytes(self) -> Numbers:
        """For each row group, about how many bytes it has."""
        ends = np.append(self._offsets[1:], 0)
        is_last = np.append(self._object[1:] != self._object[:-1], [True])
        ends = np.where(is_last | (ends < self._offsets), np.asarray(self._rows["size_bytes"], np.int64), ends)
        return np.maximum(ends - self._offsets, 1)

    @cached_property
    def _ends(self) -> Numbers:
        """The bytes of the row groups before each one, and of all."""
        return np.append(np.zeros(1, np.int64), np.cumsum(self._bytes))


def _as_files(objects: pa.Table, table: Table) -> pa.Table:
    """Return objects as files of a table, without partition values and statistics."""
    schema = files_schema(table.partition_schema, table.files.schema.field("stats").type)
    return pa.table(
        [objects[f.name] if f.name in _OBJECT else pa.nulls(len(objects), f.type) for f in schema], schema=schema
    )


class ConsolidationGain(NamedTuple):
    """The consolidation of a table.

    Attributes:
        consolidated: The number of files whose rows are in large objects that queries read.
        would_gain: True if more than a hundred small files are not, and could be.
    """

    consolidated: int = 0
    would_gain: bool = False


# A table that did not change is the same object.
_gains: WeakKeyDictionary[Table, ConsolidationGain] = WeakKeyDictionary()


def consolidation_gain(table: Table) -> ConsolidationGain:
    """Return the consolidation of a table, from the catalog alone."""
    if (gain := _gains.get(table)) is None:
        gain = _gains[table] = _compute(table)
    return gain


def _compute(table: Table) -> ConsolidationGain:
    # Large objects are neither read nor written where a view stands before the scan, or where nothing is partitioned.
    if not table.partition_schema.names or scan_layout(table).is_hidden:
        return ConsolidationGain()
    is_replaced = LargeObjects(table).replaced
    sizes = np.asarray(table.files["size_bytes"])
    has_version = np.asarray(pc.is_valid(table.files["etag"]).combine_chunks())
    rest = sizes[~is_replaced & has_version]
    return ConsolidationGain(int(is_replaced.sum()), len(rest) > MANY_FILES and float(rest.mean()) < SMALL_OBJECT_BYTES)

"""The files of a table in the order of their events, kept up to date in proportion to what changed. Pure.

Tables share the memory of the rows that they have in common, so that only the other rows are looked at. A row that the
catalog moved, because it merged segments, is found again by what it says.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_interop.iceberg.file_groups import KEY_BITS, Codes, LeadingValues, Numbers, comparable

# What tells two files of one event apart, besides what manifests say of them.
IDENTITY = ("materialized_at", "modified", "etag", "schema_fingerprint")
_SAID = ("uri", "size_bytes", "rows", *IDENTITY)
_ID_BYTES = 8
_COMPARED = 1 << 16  # rows at a time, which bounds the memory for them
_Mask = npt.NDArray[np.bool_]


class _Chunk(NamedTuple):
    """Rows that are one piece of memory: where their event ids are, and the number of the first one."""

    address: int
    end: int
    row: int


@dataclass(frozen=True)
class EventOrder:
    """The files of a table, in the order of their keys: their events, and a hash of the name if an event has several.

    Attributes:
        files: The files in any order, with the columns of manifests, `event_id` and `IDENTITY`.
        keys: Ascending.
        serials: A number of each file, which it keeps in the next version and no other file gets.
        addresses: Where the memory of each file's event id is.
        codes: The codes of the values of the leading partition column.
        leading: The values of that column.
        next_serial: The least number that no file had.
    """

    files: pa.Table
    keys: Numbers
    serials: Numbers
    addresses: Numbers
    codes: Codes
    leading: LeadingValues
    next_serial: int

    @classmethod
    def of(
        cls, files: pa.Table, leading: str | None, bounded: Sequence[str] = (), before: "EventOrder | None" = None
    ) -> "EventOrder":
        """Order files.

        Args:
            files: As the attribute has them.
            leading: The leading partition column; None if there is none.
            bounded: The columns whose statistics tell two files apart.
            before: The order of another version, from which to start. It has these columns, of the same types.
        """
        if before is None:
            empty = np.empty(0, np.int64)
            before = cls(files.slice(0, 0), empty, empty, empty, empty.astype(np.int32), LeadingValues(), 0)
        return before._next(files, leading, bounded)

    def rows(self, positions: Numbers, columns: Sequence[str]) -> pa.Table:
        """Return some files, in this order.

        Args:
            positions: The positions of the files in the order of keys.
            columns: The columns to return.
        """
        chunks = sorted(_chunks(self.files))
        addresses = self.addresses[positions]
        at = np.searchsorted([chunk.address for chunk in chunks], addresses, side="right") - 1
        begins = np.array([(chunk.address, chunk.row) for chunk in chunks], np.int64)
        numbers = (addresses - begins[at, 0]) // _ID_BYTES + begins[at, 1]
        return _taken(self.files.select(columns), numbers)

    def _next(self, files: pa.Table, leading: str | None, bounded: Sequence[str]) -> "EventOrder":
        gone, come = _difference(self.files, files), _difference(files, self.files)
        addresses, is_moved, is_found = self._moved(gone, come, bounded)
        changed = np.unique(np.concatenate([gone.ids[~is_moved], come.ids[~is_found]]))
        starts = np.searchsorted(self.keys, changed << KEY_BITS)
        ends = np.searchsorted(self.keys, (changed + 1) << KEY_BITS)
        lengths = np.concatenate([[0], np.cumsum(ends - starts)])
        dropped = np.arange(lengths[-1]) + np.repeat(starts - lengths[:-1], ends - starts)
        fresh = come.where(~is_found)
        if len(dropped) != np.count_nonzero(~is_moved):
            # Some events have more files, which did not change. Their keys depend on how many there are.
            everything = _difference(files, files.slice(0, 0))
            fresh = everything.where(np.isin(everything.ids, changed))
        keys = fresh.keys()
        order = np.argsort(keys, kind="stable")
        values, numbers = _leading(fresh.table, leading)
        known = self.leading.including(values)
        codes = np.array([known.codes[value] for value in values], np.int32)[numbers]
        serials = self.next_serial + np.arange(len(keys))
        kept = np.delete(self.keys, dropped)
        at = np.searchsorted(kept, keys[order])

        def joined(before: Numbers, added: Numbers) -> Numbers:
            return np.insert(np.delete(before, dropped), at, added[order])

        known, codes = known.without_unused(np.insert(np.delete(self.codes, dropped), at, codes[order]))
        return EventOrder(
            files,
            np.insert(kept, at, keys[order]),
            joined(self.serials, serials),
            joined(addresses, fresh.addresses),
            codes,
            known,
            self.next_serial + len(keys),
        )

    def _moved(self, gone: "_Rows", come: "_Rows", bounded: Sequence[str]) -> tuple[Numbers, _Mask, _Mask]:
        """Return the addresses with those of rows that were moved, and which rows these are of both."""
        is_moved, is_found = np.zeros(len(gone.ids), np.bool_), np.zeros(len(come.ids), np.bool_)
        from_rows, to_rows = _same_rows(gone, come, bounded)
        at = np.searchsorted(self.keys, gone.ids[from_rows] << KEY_BITS)
        at = np.minimum(at, len(self.keys) - 1)
        is_single = self.addresses[at] == gone.addresses[from_rows]
        addresses = self.addresses.copy()
        addresses[at[is_single]] = come.addresses[to_rows[is_single]]
        is_moved[from_rows[is_single]] = True
        is_found[to_rows[is_single]] = True
        return addresses, is_moved, is_found


class _Rows(NamedTuple):
    """Some rows of a table, their events, and where the memory of these is."""

    table: pa.Table
    ids: Numbers
    addresses: Numbers

    def where(self, mask: _Mask) -> "_Rows":
        if mask.all():
            return self
        return _Rows(self.table.filter(pa.array(mask)), self.ids[mask], self.addresses[mask])

    def keys(self) -> Numbers:
        """Return a key of each row, if they are all rows of their events."""
        keys = self.ids << KEY_BITS
        _, event, counts = np.unique(self.ids, return_inverse=True, return_counts=True)
        of_several = np.flatnonzero(counts[event] > 1)
        uris = self.table["uri"].take(pa.array(of_several)).to_pylist() if len(of_several) else []
        keys[of_several] += np.array([zlib.crc32(uri.encode()) % (1 << KEY_BITS) for uri in uris], np.int64)
        return keys


def _chunks(files: pa.Table) -> Iterator[_Chunk]:
    row = 0
    for chunk in files["event_id"].chunks:
        if len(chunk):
            address = chunk.buffers()[1].address + _ID_BYTES * chunk.offset
            yield _Chunk(address, address + _ID_BYTES * len(chunk), row)
            row += len(chunk)


def _difference(files: pa.Table, other: pa.Table) -> _Rows:
    """Return the rows of a table whose memory is not that of rows of another one."""
    shared = sorted(_chunks(other))
    addresses, slices, at = [], [], 0
    for chunk in sorted(_chunks(files)):
        start = chunk.address
        while at < len(shared) and shared[at].end <= start:
            at += 1
        reached = at
        while start < chunk.end:
            is_shared = reached < len(shared) and shared[reached].address <= start
            stop = min(chunk.end, shared[reached].end if is_shared else _begin(shared, reached, chunk.end))
            if is_shared:
                reached += shared[reached].end <= stop
            else:
                addresses.append(np.arange(start, stop, _ID_BYTES))
                first = chunk.row + (start - chunk.address) // _ID_BYTES
                slices.append(files.slice(first, (stop - start) // _ID_BYTES))
            start = stop
    table = pa.concat_tables([files.slice(0, 0), *slices])
    ids = np.asarray(table["event_id"]).astype(np.int64, copy=False)
    return _Rows(table, ids, np.concatenate([np.empty(0, np.int64), *addresses]))


def _begin(chunks: Sequence[_Chunk], at: int, end: int) -> int:
    return chunks[at].address if at < len(chunks) else end


def _same_rows(one: _Rows, other: _Rows, bounded: Sequence[str]) -> tuple[Numbers, Numbers]:
    """Return the numbers of rows in both that say the same of an event that has one row in each."""
    singles, others = _singles(one.ids), _singles(other.ids)
    _, at, at_other = np.intersect1d(one.ids[singles], other.ids[others], assume_unique=True, return_indices=True)
    from_rows, to_rows = singles[at], others[at_other]
    if not len(from_rows):
        return from_rows, to_rows
    is_same = np.ones(len(from_rows), np.bool_)
    for start in range(0, len(from_rows), _COMPARED):
        some = slice(start, start + _COMPARED)
        both = (_said(rows.table, all_[some], bounded) for rows, all_ in ((one, from_rows), (other, to_rows)))
        for left, right in zip(*both, strict=True):
            both_null = pc.and_(pc.is_null(left), pc.is_null(right))
            is_same[some] &= np.asarray(pc.or_(pc.equal(left, right).fill_null(False), both_null))  # noqa: FBT003
    return from_rows[is_same], to_rows[is_same]


def _taken(files: pa.Table, numbers: Numbers) -> pa.Table:
    """Return some rows, each once, in this order. Unlike `take`, it copies no others."""
    is_wanted = np.zeros(len(files), np.bool_)
    is_wanted[numbers] = True
    taken = files.filter(pa.array(is_wanted)).combine_chunks()
    if (np.diff(numbers) > 0).all():
        return taken
    order = np.empty(len(numbers), np.int64)
    order[np.argsort(numbers)] = np.arange(len(numbers))
    return taken.take(pa.array(order)).combine_chunks()


def _said(files: pa.Table, numbers: Numbers, bounded: Sequence[str]) -> Iterator[pa.Array]:
    """Yield the columns that tell files apart, of some of the files."""
    taken = _taken(files.select([*_SAID, "partition", *(["stats"] if bounded else [])]), numbers)
    yield from (taken[name] for name in _SAID)
    yield from taken["partition"].combine_chunks().flatten()
    if bounded:
        statistics = taken["stats"].combine_chunks()
        for at in map(statistics.type.get_field_index, bounded):
            if at >= 0:
                yield from pc.struct_field(statistics, at).flatten()


def _singles(ids: Numbers) -> Numbers:
    """Return the numbers of the rows whose event has no other row."""
    _, first, counts = np.unique(ids, return_index=True, return_counts=True)
    singles: Numbers = first[counts == 1]
    return singles


def _leading(files: pa.Table, leading: str | None) -> tuple[list[object], Numbers]:
    """Return the values of the leading partition column, and for each file the number of its value."""
    if leading is None or not len(files):
        return [None], np.zeros(len(files), np.int64)
    chunks = [pc.struct_field(chunk, chunk.type.get_field_index(leading)) for chunk in files["partition"].chunks]
    encoded = pa.chunked_array(chunks).dictionary_encode().unify_dictionaries()
    values = comparable(encoded.chunk(0).dictionary).to_pylist()
    numbers = [chunk.indices.fill_null(len(values)).to_numpy() for chunk in encoded.chunks]
    return [*values, None], np.concatenate(numbers).astype(np.int64)

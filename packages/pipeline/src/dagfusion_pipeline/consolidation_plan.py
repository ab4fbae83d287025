"""Which partitions the next consolidation writes into which large objects. Pure.

Partitions are sorted by their columns, so that those of one leading value are neighbours. What large objects hold
already stays there, unless an object is small and enough new partitions have come beside it: then it is written again
with them. So the objects of a table stay few, and each row is written a few times only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.consolidation import TIMES, LargeObject, RowGroup

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

TARGET_BYTES = 64 << 20
LARGE_FILE_BYTES = 8 << 20  # such a file is read as fast by itself
VALUE_FILES = 64  # an object of so many files ends where the leading value does
LEAST_FILES = 4  # fewer are not worth an object
NEW_SHARE = 0.02  # of an object's files have to come beside it until it is written again


@dataclass(frozen=True)
class Holdings:
    """The parts of some files that large objects hold.

    Attributes:
        owner: For each file the number of its object, -1 where none holds it.
        sizes: For each object its bytes.
        is_whole: For each object whether all that it holds is current.
    """

    owner: Numbers
    sizes: Numbers
    is_whole: Flags


def holdings(files: pa.Table, objects: Sequence[LargeObject]) -> Holdings:
    """Find what objects hold of current files, as queries do: a row group counts while all its events are current.

    Args:
        files: With `event_id`, `at_us` and `rows`.
        objects: The oldest first; of several that hold a file the latest counts.
    """
    ids, at_us, rows = (np.asarray(files[name], np.int64) for name in ("event_id", "at_us", "rows"))
    groups = [(number, group) for number, one in enumerate(objects) for group in one.row_groups]

    def is_same(group: RowGroup, held: Numbers) -> bool:
        return bool(rows[held].sum() == group.rows and int(at_us[held].sum()) % TIMES == group.times)

    group_of, usable = _groups(ids, [group for _, group in groups], is_same)
    number_of = np.array([number for number, _ in groups], np.int64)
    owner = np.full(len(ids), -1, np.int64)
    owner[group_of >= 0] = number_of[group_of[group_of >= 0]]
    is_whole = np.ones(len(objects), np.bool_)
    is_whole[number_of[~usable]] = False
    return Holdings(owner, np.array([one.size_bytes for one in objects], np.int64), is_whole)


def held_events(events: Numbers, objects: Sequence[LargeObject]) -> Flags:
    """Find which current events objects hold, by their ids alone.

    Args:
        events: int64, the id of the latest event of each partition.
        objects: The oldest first, logged after the events that they hold: no later event has the id of one of those.

    Returns:
        Bool, one element for each event.
    """
    group_of, _ = _groups(events, [group for one in objects for group in one.row_groups], lambda _group, _held: True)
    return group_of >= 0


def _groups(
    ids: Numbers, groups: Sequence[RowGroup], is_same: Callable[[RowGroup, Numbers], bool]
) -> tuple[Numbers, Flags]:
    """Return for each event the row group that holds it, -1 for none, and which of the row groups are usable."""
    order = np.argsort(ids)
    ascending = ids[order]
    group_of = np.full(len(ids), -1, np.int64)
    is_current = np.zeros(len(groups), np.bool_)
    for index, group in enumerate(groups):
        events = np.asarray(group.events, np.int64)
        places = np.searchsorted(ascending, events)
        if len(ids) == 0 or places[-1] >= len(ids) or not np.array_equal(ascending[places], events):
            continue
        members = order[places]
        is_current[index] = is_same(group, members)
        if is_current[index]:
            group_of[members] = index
    counts = np.bincount(group_of[group_of >= 0], minlength=len(groups))
    usable = is_current & (counts == np.array([len(group.events) for group in groups], np.int64))
    is_grouped = group_of >= 0
    group_of[is_grouped] = np.where(usable[group_of[is_grouped]], group_of[is_grouped], -1)
    return group_of, usable


def sorted_files(files: pa.Table) -> pa.Table:
    """Return the files that can be consolidated, sorted by partition columns.

    Those without an etag cannot be told apart from later ones, and large ones gain nothing.
    """
    is_fit = pc.and_(pc.is_valid(files["etag"]), pc.less(files["size_bytes"], LARGE_FILE_BYTES))
    fit = files.filter(is_fit)
    values = fit["partition"].combine_chunks().flatten()
    if not values:
        return fit.slice(0, 0)
    # By numbers: Arrow takes a sort key that begins with a dot as a path.
    by = pa.table(values, names=[str(number) for number in range(len(values))])
    return fit.take(pc.sort_indices(by, sort_keys=[(name, "ascending") for name in by.column_names]))


def is_fit(record: Mapping[str, Any]) -> bool:
    """Return True if the file of a record can be consolidated: the rule of `sorted_files` for one file."""
    return record.get("etag") is not None and int(record["size_bytes"]) < LARGE_FILE_BYTES


def plan_objects(files: pa.Table, held: Holdings, target_bytes: int = TARGET_BYTES) -> list[Numbers]:
    """Return the objects to write: for each an int64 array of the numbers of its files, in order.

    Args:
        files: Sorted by partition columns, of which there is at least one.
        held: The parts of them that large objects hold.
        target_bytes: The size of the small files of an object, about.
    """
    stays = _stays(held, target_bytes)
    if not len(files):
        return []
    is_moved = ~(stays & (held.owner >= 0))
    values = files["partition"].combine_chunks().field(0).dictionary_encode().indices
    value = np.asarray(values, np.int64)
    sizes = np.asarray(files["size_bytes"], np.int64)
    objects = (
        one
        for run in _runs(is_moved)
        for one in _cut(run, value, sizes, target_bytes)
        if len(one) >= LEAST_FILES and (held.owner[one] < 0).any()
    )
    return list(objects)


def _stays(held: Holdings, target_bytes: int) -> Flags:
    """Return for each file whether its object, if there is one, stays."""
    owner = held.owner
    count = len(held.sizes)
    if not count:
        return np.zeros(len(owner), np.bool_)
    files = np.bincount(owner[owner >= 0], minlength=count)
    is_full = held.sizes >= target_bytes // 2
    keeps = is_full | (held.is_whole & (_beside(owner, count) <= files * NEW_SHARE))
    stays = np.zeros(len(owner), np.bool_)
    stays[owner >= 0] = keeps[owner[owner >= 0]]
    return stays


def _beside(owner: Numbers, count: int) -> Numbers:
    """Return for each object how many files that no object holds lie inside of it or beside it."""
    places = np.arange(len(owner))
    is_held = owner >= 0
    before = np.maximum.accumulate(np.where(is_held, places, -1))
    after = np.minimum.accumulate(np.where(is_held, places, len(owner))[::-1])[::-1]
    fresh = np.flatnonzero(~is_held)
    left, right = before[fresh], after[fresh]
    left_owner = np.where(left >= 0, owner[np.maximum(left, 0)], -1)
    right_owner = np.where(right < len(owner), owner[np.minimum(right, len(owner) - 1)], -1)
    # A file between two objects goes to the one before it.
    goes_to = np.where(left_owner >= 0, left_owner, right_owner)
    return np.bincount(goes_to[goes_to >= 0], minlength=count)


def _runs(is_moved: Flags) -> Iterator[Numbers]:
    """Yield the numbers of files that follow one another."""
    numbers = np.flatnonzero(is_moved)
    if len(numbers):
        yield from np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)


def _cut(run: Numbers, value: Numbers, sizes: Numbers, target_bytes: int) -> Iterator[Numbers]:
    start, size = 0, 0
    for end, number in enumerate(run.tolist()):
        ends_value = end - start >= VALUE_FILES and value[number] != value[run[end - 1]]
        if end > start and (ends_value or size + sizes[number] > target_bytes):
            yield run[start:end]
            start, size = end, 0
        size += int(sizes[number])
    yield run[start:]

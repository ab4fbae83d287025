"""Which files of a table share a manifest. Pure: a function of the files, whatever the versions before had.

Files are grouped by three rules, and each group depends on the files near it only:

- The files of the latest events, if a table has many, are apart from the others, in the order of the events: so new
  files of many values change one or two manifests. They join the others many at a time.
- The others are divided by their events, too, into ranges of limited size: so what a join may change is limited.
- In a range, files of one value of the leading partition column share a manifest, so that engines skip whole manifests.
  Where values have few files, neighbouring values share one; where a value has many, they are cut by their events.

Each manifest is divided into blocks, which are encoded separately. Files are cut by their events where the numbers of
these have a common beginning in binary. So a cut stays where it is while files are added or removed elsewhere, and
services that have written different versions before cut in the same places.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MAX_FILES = 2048  # of a manifest
_MIN_FILES = 256  # of a manifest of several values, on average
_BLOCK_FILES = 128  # at most
_RANGE_FILES = 1 << 17  # at most
_RANGE_MANIFESTS = 128  # about, of many values, before manifests get larger
_NEW_SHARE = 8  # about one of so many files may be new
_LEAST_NEW, _MOST_NEW = 1024, 8192  # files; a table whose share is less than the first has no new ones
_SPARE_VALUES = 1024  # of which no file is left, before they are dropped
KEY_BITS = 20  # of a key that tell the files of one event apart
Numbers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LeadingValues:
    """The values of the leading partition column that a table has or had, each with a code. Changes make a copy.

    Attributes:
        codes: By value; None is a value, too.
        values: By code.
        cuts: By code, a hash of the value that says whether it may begin a manifest.
    """

    codes: Mapping[Any, int] = field(default_factory=dict)
    values: Sequence[Any] = ()
    cuts: Sequence[int] = ()

    def including(self, values: Sequence[Any]) -> "LeadingValues":
        """Return the same with more values; itself if it has all."""
        fresh = [value for value in dict.fromkeys(values) if value not in self.codes]
        if not fresh:
            return self
        codes = {**self.codes, **{value: len(self.values) + number for number, value in enumerate(fresh)}}
        cuts = [zlib.crc32(repr(value).encode("utf-8", "backslashreplace")) for value in fresh]
        return LeadingValues(codes, [*self.values, *fresh], [*self.cuts, *cuts])

    def without_unused(self, codes: Codes) -> tuple["LeadingValues", Codes]:
        """Drop the values that no file has, if they are more than the others; itself otherwise.

        Args:
            codes: The codes of the values of all files.

        Returns:
            The values, and the codes of the files in them.
        """
        is_used = np.bincount(codes, minlength=len(self.values)) > 0
        used = int(np.count_nonzero(is_used))
        if len(self.values) - used <= max(used, _SPARE_VALUES):
            return self, codes
        kept = np.flatnonzero(is_used).tolist()
        values, cuts = [self.values[code] for code in kept], [self.cuts[code] for code in kept]
        new_codes = (np.cumsum(is_used) - 1).astype(np.int32)
        return LeadingValues({value: code for code, value in enumerate(values)}, values, cuts), new_codes[codes]

    def groups(self, codes: Codes) -> Codes:
        """Return the group of each file of a range, by the order of the values.

        Args:
            codes: The codes of the values of the files, at least one.
        """
        present = sorted(np.unique(codes).tolist(), key=lambda code: _order(self.values[code]))
        count = max(_MIN_FILES, len(codes) // _RANGE_MANIFESTS)
        step = _power_of_two(count * len(present) / len(codes))
        group_of = np.zeros(max(present) + 1, np.int32)
        group_of[present] = np.cumsum([self.cuts[code] % step == 0 for code in present])
        return group_of[codes]


def comparable(values: pa.Array) -> pa.Array:
    """Return partition values with an order and a hash in Python: instants as integers, the others as they are.

    Python compares the local times of instants in one zone, so the two hours of a night in autumn would be equal.
    """
    return values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values


def _order(value: Any) -> tuple[bool, Any]:
    return value is not None, value


def new_after(event_ids: pa.ChunkedArray) -> int | None:
    """Return the event after which files are new; None if no file is.

    It is the number with the most zeros at its end, in binary, of those that give neither too few new files nor too
    many. So it stays the same while files are added, until there are too many.

    Args:
        event_ids: The events of all files of a table.
    """
    share = min(_power_of_two(len(event_ids) / _NEW_SHARE), _MOST_NEW)
    if share < _LEAST_NEW:
        return None
    ids = np.asarray(event_ids)
    at = len(ids) - share - share // _NEW_SHARE, len(ids) - share // _NEW_SHARE
    least, end = np.partition(ids, at)[[*at]].tolist()
    if least >= end:  # one event has many of them
        return None
    zeros = ((least - 1) ^ (end - 1)).bit_length() - 1
    return int((end - 1) >> zeros << zeros)


def areas(keys: Numbers, after: int | None) -> Iterator[tuple[int, int, bool]]:
    """Yield start, end and whether it has the new files, for the new files and for each range of the others.

    Args:
        keys: The keys of the files, ascending.
        after: The event after which files are new; None if no file is.
    """
    end = len(keys) if after is None else int(np.searchsorted(keys, (after + 1) << KEY_BITS))
    if end < len(keys):
        yield end, len(keys), True
    starts = [*split(keys[:end], _RANGE_FILES), end]
    yield from ((start, stop, False) for start, stop in pairwise(starts))


def manifests(keys: Numbers, groups: Codes | None) -> Iterator[list[Numbers]]:
    """Yield the blocks of each manifest of an area: the positions of their files, in the order of the keys.

    Args:
        keys: The keys of the files, ascending.
        groups: The groups of the files; None for new files.
    """
    order = np.arange(len(keys)) if groups is None else np.argsort(groups, kind="stable")
    begins = [] if groups is None else (np.flatnonzero(np.diff(groups[order])) + 1).tolist()
    limit = 2 * _MIN_FILES if groups is None else MAX_FILES
    for positions in np.split(order, begins):
        of_group = keys[positions]
        for manifest in np.split(positions, split(of_group, limit)[1:]):
            yield np.split(manifest, split(keys[manifest], _BLOCK_FILES)[1:])


def split(keys: Numbers, limit: int) -> list[int]:
    """Return where each part begins: the largest sets of keys with a common beginning in binary that are small enough.

    Equal keys stay together.

    Args:
        keys: Ascending.
        limit: The most keys of a part.
    """
    starts, waiting = [], [(0, len(keys))] if len(keys) else []
    while waiting:
        start, end = waiting.pop()
        first, last = int(keys[start]), int(keys[end - 1])
        if end - start <= limit or first == last:
            starts.append(start)
            continue
        zeros = (first ^ last).bit_length() - 1
        middle = start + int(np.searchsorted(keys[start:end], last >> zeros << zeros))
        waiting += [(middle, end), (start, middle)]
    return starts


def _power_of_two(least: float) -> int:
    """Return the largest power of two that is at most a number, and 1 for all below."""
    return 1 << max(0, int(least).bit_length() - 1)

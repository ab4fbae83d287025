"""The row groups of large objects that can replace the files of a table. Pure."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.consolidation import TIMES
from dagfusion_contract.uri import store_url
from dagfusion_query.catalog.model import Table

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def replacing_row_groups(table: Table) -> tuple[Numbers, pa.Table, Numbers]:
    """Return the row groups that can replace files.

    If several row groups hold the rows of a file, the latest replaces it. A row group is usable only if it replaces
    the files of all its materializations.

    Returns:
        For each file the number of the row group that replaces it (-1: none), the usable row groups, and their
        positions in `row_groups_in_store`.
    """
    files, rows = table.files, row_groups_in_store(table)
    of_file = np.full(len(files), -1, np.int64)
    if not len(rows) or not len(files):
        return of_file, rows.slice(0, 0), np.array([], np.int64)
    lists = rows["events"].combine_chunks()
    lengths: Numbers = np.asarray(lists.value_lengths(), np.int64)
    group = np.repeat(np.arange(len(rows)), lengths)
    file, is_there = _find(np.asarray(files["event_id"], np.int64), np.asarray(lists.flatten(), np.int64))
    group, file = group[is_there], file[is_there]
    is_whole = np.bincount(group, minlength=len(rows)) == lengths
    is_whole &= _sums(np.asarray(files["rows"], np.int64)[file], group, len(rows)) == np.asarray(rows["rows"])
    times = _sums(np.asarray(files["materialized_at"].cast(pa.int64()))[file], group, len(rows))
    is_whole &= (times & (TIMES - 1)) == np.asarray(rows["times"])
    counts = is_whole[group]
    of_file[file[counts]] = group[counts]  # row groups come in the order of their events: the last one stays
    counted = np.bincount(of_file[of_file >= 0], minlength=len(rows))
    usable = is_whole & (counted == lengths) & (lengths > 0)
    number = np.where(usable, np.cumsum(usable) - 1, -1)
    of_file = np.where(of_file >= 0, number[of_file], -1)
    places = np.flatnonzero(usable)
    return of_file, rows.take(pa.array(places, pa.int64())), places


def row_groups_in_store(table: Table) -> pa.Table:
    """Return the row groups whose objects are in the store of the table's files."""
    rows = table.consolidated
    if not len(rows) or not len(table.files):
        return rows.slice(0, 0)
    return rows.filter(pc.starts_with(rows["uri"], store_url(table.files["uri"][0].as_py())))


def _find(ids: Numbers, wanted: Numbers) -> tuple[Numbers, Flags]:
    """Return where ids are, and which of them are there exactly once."""
    order = np.argsort(ids, kind="stable")
    ascending = ids[order]
    first = np.searchsorted(ascending, wanted, "left")
    is_there = np.searchsorted(ascending, wanted, "right") == first + 1
    return order[np.minimum(first, len(ids) - 1)], is_there


def _sums(values: Numbers, group: Numbers, count: int) -> Numbers:
    """Return the sum of the values of each group; groups ascend."""
    sums = np.zeros(count, np.int64)
    if len(group):
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        sums[group[starts]] = np.add.reduceat(values, starts)
    return sums


def numbered(names: pa.ChunkedArray) -> Numbers:
    """Return equal numbers for equal names."""
    return np.asarray(names.combine_chunks().dictionary_encode().indices, np.int64)


def is_first(numbers: Numbers) -> Flags:
    """Return which numbers differ from those before them."""
    differs: Flags = np.diff(numbers, prepend=-1) != 0
    return differs


def replacing_objects(table: Table) -> tuple[Numbers, pa.Table]:
    """Return the large objects that can replace files as a whole: all of their row groups can.

    Returns:
        For each file the row of the object that replaces it (-1: none), and the objects: the first row group of each,
        of `CONSOLIDATED_SCHEMA`.
    """
    of_file, _, places = replacing_row_groups(table)
    stored = row_groups_in_store(table)
    if not len(places):
        return of_file, stored.slice(0, 0)
    objects = numbered(stored["uri"])
    is_whole: Flags = np.bincount(objects[places], minlength=objects.max() + 1) == np.bincount(objects)
    _, firsts = np.unique(objects, return_index=True)
    number = np.where(is_whole, np.cumsum(is_whole) - 1, -1)
    of_group = number[objects[places]]
    return np.where(of_file >= 0, of_group[of_file], -1), stored.take(pa.array(firsts[is_whole], pa.int64()))

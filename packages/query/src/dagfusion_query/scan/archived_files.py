"""Leaves out files whose objects a lifecycle rule of the bucket has archived or deleted, by their age.

S3 counts the days of a lifecycle rule from the moment at which it took the object, up to the next midnight in UTC. This
rule does the same, so the files that a table shows change once a day. It is applied where a session is bound to a
generation: pruning, answers from the catalog, large objects and kept results all have the files that are left.

A row group of a large object that also holds left-out partitions is not read, see `large_objects`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.preview import counted
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import TIME, Table

VARIABLE = "DAGFUSION_ARCHIVED_AFTER_DAYS"
_MOST_SLICES = 256  # that a table's files are cut into without a copy
_NAMED = 5  # tables in the warnings of one query


class ArchiveRule(NamedTuple):
    """The rule of an environment on one day.

    Attributes:
        days: The setting.
        until: Objects that were written at this moment or before are left out.
    """

    days: int
    until: datetime


class Archive(NamedTuple):
    """The files of a table that are left out.

    Attributes:
        table: The table with only these files.
        rule: Why they are left out.
    """

    table: Table
    rule: ArchiveRule


@dataclass(frozen=True)
class LeftOut:
    """Files that are left out of a scan, although they may have rows that its filters keep.

    Attributes:
        keys: The partition key of each file.
    """

    table: TableName
    keys: pa.ChunkedArray
    rule: ArchiveRule

    @property
    def files(self) -> int:
        """The number of files."""
        return len(self.keys)

    @property
    def text(self) -> str:
        """The warning."""
        partitions = pc.count_distinct(self.keys, "all").as_py()
        return (
            f"the result leaves out {counted(partitions, 'partition')} of {self.table}, whose objects were written"
            f" by {self.rule.until:%Y-%m-%d %H:%M} UTC: {VARIABLE} is {self.rule.days}"
        )


def archive_rule(days: int, now: datetime) -> ArchiveRule:
    """Return the rule that leaves out objects of so many days at a moment."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return ArchiveRule(days, midnight - timedelta(days=days))


def split_archived(table: Table, rule: ArchiveRule) -> tuple[Table, Archive | None]:
    """Split a table into the files that are read and those that a rule leaves out; None if there are none."""
    written = table.files["modified"]
    until = pa.scalar(rule.until, TIME)
    first = pc.min(written)
    if not first.is_valid or first.as_py() > rule.until:
        return table, None
    is_left_out = np.asarray(pc.less_equal(written, until))
    kept, left_out = (replace(table, files=_chosen(table.files, which)) for which in (~is_left_out, is_left_out))
    return kept, Archive(left_out, rule)


def warnings_of(found: Iterable[LeftOut | None]) -> tuple[str, ...]:
    """Return a warning for each table that some scans of a query leave files out of."""
    tables: dict[TableName, LeftOut] = {}
    for one in found:
        if one is not None:
            before = tables.get(one.table)
            chunks = [] if before is None else before.keys.chunks
            tables[one.table] = replace(one, keys=pa.chunked_array([*chunks, *one.keys.chunks], one.keys.type))
    texts = [one.text for one in [*tables.values()][:_NAMED]]
    more = len(tables) - _NAMED
    return (*texts, *([f"the result leaves out partitions of {more} more tables"] if more > 0 else []))


def _chosen(files: pa.Table, chosen: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> pa.Table:
    """Return chosen rows, which share memory with the others if they are in few slices."""
    edges = np.flatnonzero(np.diff(chosen.astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2].tolist(), edges[1::2].tolist()
    if len(starts) > _MOST_SLICES:
        return files.filter(pa.array(chosen))
    slices = [files.slice(start, end - start) for start, end in zip(starts, ends, strict=True)]
    return pa.concat_tables([files.slice(0, 0), *slices])

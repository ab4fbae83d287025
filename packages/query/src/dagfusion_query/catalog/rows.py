"""Materializations to catalog rows: one layout's values converted a column at a time, and blamed one by one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.record import ENTRY, DataFile, Layout
from dagfusion_query.catalog.bounds import read_bounds, statistics_type, struct_array
from dagfusion_query.catalog.entry import encode_entries
from dagfusion_query.catalog.model import ABSENT_SCHEMA, FILELESS_SCHEMA, TIME, Segment, files_schema
from dagfusion_query.catalog.values import convert
from dagfusion_query.errors import EventRecordError, MalformedRecordError, UnsupportedTypeError
from dagfusion_query.event_log.protocol import Materialization


class Written(NamedTuple):
    """A materialization whose record could be read."""

    event: Materialization
    file: DataFile


class Absence(NamedTuple):
    """An event that names a file and gives none: why it was refused, or None when it was wiped."""

    event: Materialization
    why: EventRecordError | None


def build_segment(layout: Layout, written: Sequence[Written]) -> tuple[Segment | None, list[Absence]]:
    """Build the rows of one layout.

    Returns:
        The segment (None when no record could be used), and the records that were refused.
    """
    try:
        return Segment(layout, _rows(layout, written)), []
    except EventRecordError as error:
        if len(written) == 1:
            return None, [Absence(written[0].event, error)]
    # Some value does not convert: halve until those that do not stand alone.
    middle = len(written) // 2
    left, left_refused = build_segment(layout, written[:middle])
    right, right_refused = build_segment(layout, written[middle:])
    kept = [half.rows for half in (left, right) if half is not None]
    segment = Segment(layout, pa.concat_tables(kept).combine_chunks()) if kept else None
    return segment, left_refused + right_refused


def absent_rows(absences: Iterable[Absence]) -> pa.Table:
    """Build the rows of `Ledger.absent`."""
    rows = [
        (event.event_id, event.partition_key, event.at_us, *((None, None) if why is None else (str(why), why.code)))
        for event, why in absences
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(ABSENT_SCHEMA)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, ABSENT_SCHEMA, strict=True)], schema=ABSENT_SCHEMA)


def find_partitions(rows: pa.Table, keys: pa.Array) -> Iterator[tuple[int, str | None, tuple[int, int]]]:
    """Yield number, partition key and rank of the rows whose partition key is one of `keys`."""
    found = pc.indices_nonzero(pc.is_in(rows["partition_key"], value_set=keys))
    if len(found):
        taken = rows.select(["partition_key", "event_id", "materialized_at"]).take(found)
        moments = taken["materialized_at"].cast(pa.int64())
        ranks = zip(taken["event_id"].to_pylist(), moments.to_pylist(), strict=True)
        yield from zip(found.to_pylist(), taken["partition_key"].to_pylist(), ranks, strict=True)


def rank(event: Materialization) -> tuple[int, int]:
    """Return what orders the events of a partition: the id, and the moment, because SQLite gives wiped ids again."""
    return event.event_id, event.at_us


def fileless_rows(events: Iterable[Materialization]) -> pa.Table:
    """Build the rows of `Ledger.fileless`."""
    rows = [(event.event_id, event.partition_key, event.at_us) for event in events]
    columns = list(zip(*rows, strict=True)) or [()] * len(FILELESS_SCHEMA)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, FILELESS_SCHEMA, strict=True)]
    return pa.table(arrays, schema=FILELESS_SCHEMA)


def _rows(layout: Layout, written: Sequence[Written]) -> pa.Table:
    events, files = [w.event for w in written], [w.file for w in written]
    count = len(files)
    modified = convert([f.modified for f in files], TIME, "modified")
    partition_fields = [
        convert([f.partition[i] for f in files], field.type, f"partition[{i}].value")
        for i, field in enumerate(layout.partition)
    ]
    partition = struct_array(pa.struct(list(layout.partition)), count, partition_fields)
    entries = _entries(files, modified, partition)
    stats = statistics_type(layout.file)
    columns = [
        pa.array([e.event_id for e in events], pa.int64()),
        pa.array([e.partition_key for e in events], pa.string()),
        pa.array([f.uri for f in files], pa.string()),
        pa.array([f.size_bytes for f in files], pa.int64()),
        pa.array([f.rows for f in files], pa.int64()),
        modified,
        pa.array([f.etag for f in files], pa.string()),
        pa.array([f.checksum for f in files], pa.string()),
        pa.array([e.run_id for e in events], pa.string()),
        pa.array([e.at_us for e in events], pa.int64()).cast(TIME),
        pa.array([layout.fingerprint] * count, pa.string()),
        partition,
        read_bounds(stats, [f.columns for f in files]),
        entries,
    ]
    return pa.table(columns, schema=files_schema(layout.partition, stats))


def _entries(files: Sequence[DataFile], modified: pa.Array, partition: pa.StructArray) -> pa.Array:
    try:
        modified_ns = pc.multiply_checked(modified.cast(pa.int64()), 1000).to_pylist()
        return encode_entries([f.uri for f in files], [f.size_bytes for f in files], modified_ns, partition)
    except UnsupportedTypeError as error:
        raise MalformedRecordError(f"{ENTRY}.partition: {error}") from error
    except pa.ArrowInvalid as error:
        raise MalformedRecordError(
            f"{ENTRY}.modified must be before the year 2262, got {files[0].modified!r}"
        ) from error

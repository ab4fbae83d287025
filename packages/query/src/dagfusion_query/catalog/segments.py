"""Converts materializations to rows of segments, one column at a time. A record that is wrong is refused by itself.

Values and bounds of records are JSON. They are converted to Arrow strictly as the contract writes them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json

from dagfusion_client.errors import EventRecordError, MalformedRecordError, UnsupportedTypeError
from dagfusion_contract.record import ENTRY, DataFile, Layout
from dagfusion_query.catalog.model import (
    ABSENT_SCHEMA,
    FILELESS_SCHEMA,
    TIME,
    AssetState,
    Segment,
    files_schema,
    moment,
)
from dagfusion_query.catalog.partitioned_file import encode_entries
from dagfusion_query.event_log.event_log_interface import Materialization

TIER = 8  # this many segments of one size are merged into one of the next size
LARGE_ROWS = TIER**5  # such segments are not merged any more
_MAX_DROPPED = 64
Latest = Mapping[str | None, Materialization]
_NULL = type(None)
_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_PYTHON_TYPES: Mapping[pa.DataType, set[type]] = {
    **{kind: {int, _NULL} for kind in _INTEGERS},
    pa.float64(): {int, float, _NULL},
    pa.bool_(): {bool, _NULL},
    pa.null(): {_NULL},
    pa.string(): {str, _NULL},
}


class Written(NamedTuple):
    """A materialization whose record could be read."""

    event: Materialization
    file: DataFile


class Absence(NamedTuple):
    """An event that gives no file: why it was refused, or None when it was wiped or is a tombstone."""

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
    halves = [half.rows for half in (left, right) if half is not None]
    segment = Segment(layout, pa.concat_tables(halves).combine_chunks()) if halves else None
    return segment, left_refused + right_refused


def absent_rows(absences: Iterable[Absence]) -> pa.Table:
    """Build the rows of `AssetState.absent`: one for each absence, of `ABSENT_SCHEMA`."""
    rows = [
        (event.event_id, event.partition_key, event.at_us, *((None, None) if why is None else (str(why), why.code)))
        for event, why in absences
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(ABSENT_SCHEMA)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, ABSENT_SCHEMA, strict=True)], schema=ABSENT_SCHEMA)


def find_partitions(rows: pa.Table, keys: pa.Array) -> Iterator[tuple[int, str | None, tuple[int, int]]]:
    """Yield number, partition key and rank of the rows whose partition key is one of `keys`.

    Args:
        rows: Any table with the columns `event_id`, `partition_key` and `materialized_at`, such as `Segment.rows`.
        keys: A string array; a null finds the row of an unpartitioned asset.
    """
    found = pc.indices_nonzero(pc.is_in(rows["partition_key"], value_set=keys))
    if len(found):
        matches = rows.select(["partition_key", "event_id", "materialized_at"]).take(found)
        moments = matches["materialized_at"].cast(pa.int64())
        ranks = zip(matches["event_id"].to_pylist(), moments.to_pylist(), strict=True)
        yield from zip(found.to_pylist(), matches["partition_key"].to_pylist(), ranks, strict=True)


def rank(event: Materialization) -> tuple[int, int]:
    """Return what orders the events of a partition: the id, and the moment, because SQLite gives wiped ids again."""
    return event.event_id, event.at_us


def fileless_rows(events: Iterable[Materialization]) -> pa.Table:
    """Build the rows of `AssetState.fileless`: one for each event, of `FILELESS_SCHEMA`."""
    rows = [(event.event_id, event.partition_key, event.at_us) for event in events]
    columns = list(zip(*rows, strict=True)) or [()] * len(FILELESS_SCHEMA)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, FILELESS_SCHEMA, strict=True)]
    return pa.table(arrays, schema=FILELESS_SCHEMA)


def compact(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Leave out segments of which nothing counts, rewrite those with many gaps, merge the small ones of a layout."""
    layouts: dict[str, list[Segment]] = {}
    for segment in segments:
        if segment.live_count:
            layouts.setdefault(segment.layout.key, []).append(_without_gaps(segment))
    return tuple(segment for group in layouts.values() for segment in _merge_small(group))


def without(rows: pa.Table, gone: Collection[int]) -> pa.Table:
    """Return a copy of the rows, with one chunk for each column, but for those whose numbers (from 0) are given."""
    kept = sorted(set(range(rows.num_rows)).difference(gone))
    return rows.take(pa.array(kept, pa.int64())).combine_chunks()


def fold_fileless(state: AssetState, fileless: Latest, named: Latest) -> pa.Table:
    """Return the next `AssetState.fileless`; the state's own when the events say nothing new.

    Args:
        state: What was known before.
        fileless: By partition key, the latest new event that names no file.
        named: By partition key, the latest new event that names a file, also one that was refused or wiped.
    """
    before = state.fileless
    if not fileless and not (named and before.num_rows):
        return before
    fresh = {key: event for key, event in fileless.items() if not _is_later(named.get(key), rank(event))}
    keys = pa.array(fresh, pa.string())
    for rows in (*(rows for segment in state.segments for rows in segment.live()), state.absent):
        for _, key, row_rank in find_partitions(rows, keys):
            if key in fresh and row_rank > rank(fresh[key]):
                del fresh[key]
    if state.view is not None and None in fresh and state.view.rank > rank(fresh[None]):
        del fresh[None]
    gone = []
    for row, key, row_rank in find_partitions(before, pa.array({**fresh, **named}, pa.string())):
        if _is_later(named.get(key), row_rank) or _is_later(fresh.get(key), row_rank):
            gone.append(row)
        else:
            fresh.pop(key, None)
    if not gone and not fresh:
        return before
    remaining = without(before, gone) if gone else before
    return pa.concat_tables([remaining, fileless_rows(fresh.values())]).combine_chunks()


def not_wiped(state: AssetState) -> pa.Table:
    """Return the rows of `AssetState.fileless` that came after the latest wipe, in their order."""
    if state.wiped_at_us is None or not state.fileless.num_rows:
        return state.fileless
    return state.fileless.filter(pc.greater(state.fileless["materialized_at"], moment(state.wiped_at_us)))


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


def _merge_small(segments: Sequence[Segment]) -> list[Segment]:
    left = list(segments)
    size = TIER
    while size <= LARGE_ROWS:
        small = [segment for segment in left if segment.live_count < size]
        if len(small) >= TIER:
            rows = pa.concat_tables([rows for segment in small for rows in segment.live()])
            left = [segment for segment in left if segment.live_count >= size]
            left.append(Segment(small[0].layout, rows.combine_chunks()))
        size *= TIER
    return left


def _without_gaps(segment: Segment) -> Segment:
    if len(segment.dropped) <= min(_MAX_DROPPED, segment.rows.num_rows // 2):
        return segment
    return Segment(segment.layout, without(segment.rows, segment.dropped))


def _is_later(event: Materialization | None, other: tuple[int, int]) -> bool:
    return event is not None and rank(event) > other


def convert(values: Sequence[Any], kind: pa.DataType, where: str) -> pa.Array:
    """Convert JSON values to an array, strictly: an integer column takes integers, a date column ISO dates.

    Returns:
        An array of type `kind`, one element for each value; None becomes null.

    Raises:
        MalformedRecordError: A value is not of the type; the message names `where` and, when there is one, the value.
    """
    try:
        if set(map(type, values)) <= _PYTHON_TYPES[json_type(kind)]:
            if pa.types.is_floating(kind):
                values = [None if value is None else float(value) for value in values]
            return cast(pa.array(values, json_type(kind)), kind)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        pass
    got = f"got {values[0]!r}" if len(values) == 1 else "some values are not"
    raise MalformedRecordError(
        f"{ENTRY}.{where} must be null or a value of type {kind} as the contract writes it, {got}"
    )


def json_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which JSON holds a flat type's values: text for all that JSON has no notion of."""
    if pa.types.is_floating(kind):
        return pa.float64()
    return kind if kind in _PYTHON_TYPES else pa.string()


def cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert an array of type `json_type(kind)` to one of type `kind` and the same length.

    Raises:
        pa.ArrowInvalid: A text is not of the type.
    """
    if values.type == kind:
        return values
    if pa.types.is_floating(kind):
        return values.cast(kind, safe=False)
    if pa.types.is_time(kind):
        at = pc.binary_join_element_wise(pa.scalar("1970-01-01T"), values, pa.scalar(""))
        return at.cast(pa.timestamp(kind.unit)).cast(kind)
    return values.cast(kind)


def statistics_type(file: pa.Schema) -> pa.DataType:
    """Return the type of the `stats` column: a struct of min, max and nulls for each column that has an order."""
    return pa.struct([pa.field(field.name, bounds_type(field.type)) for field in file if is_orderable(field.type)])


def bounds_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of one column's statistics."""
    return pa.struct({"min": kind, "max": kind, "nulls": pa.int64()})


def is_orderable(kind: pa.DataType) -> bool:
    """Return True if columns of this type have a minimum and a maximum in the record."""
    return not (
        pa.types.is_nested(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_duration(kind)
    )


def struct_array(kind: pa.DataType, length: int, children: Sequence[pa.Array]) -> pa.StructArray:
    """Return a struct array of `length` valid structs, also one of no fields; `children` are its columns."""
    return pa.StructArray.from_buffers(kind, length, [None], children=children)


def read_bounds(stats: pa.StructType, columns: Sequence[bytes]) -> pa.StructArray:
    """Read the statistics of files of one layout.

    Arrow's JSON reader reads a batch of files at a time. Its errors do not name the value, so what it refuses is
    converted again in Python.

    Args:
        stats: The result of `statistics_type` for the layout.
        columns: `DataFile.columns`, one for each file.

    Returns:
        A struct array of type `stats`, one element for each file; null where a record has no statistics of a column.

    Raises:
        MalformedRecordError: Some value is not of its column's type.
    """
    try:
        children = _of_json(stats, b"\n".join(columns), len(columns))
    except (pa.ArrowException, _Unusual):
        documents = [orjson.loads(text) for text in columns]
        children = [_convert_bounds(field, documents) for field in stats]
    return struct_array(stats, len(columns), children)


class _Unusual(Exception):  # noqa: N818
    """A file without statistics of some column, or with something else in their place."""


def _of_json(stats: pa.StructType, lines: bytes, count: int) -> list[pa.StructArray]:
    raw = pa.schema([(field.name, bounds_type(json_type(field.type.field("min").type))) for field in stats])
    one_block = json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
    expected = json.ParseOptions(explicit_schema=raw, unexpected_field_behavior="ignore")
    parsed = json.read_json(pa.BufferReader(lines), one_block, expected)
    if parsed.num_rows != count or any(column.null_count for column in parsed.columns):
        raise _Unusual
    return [_cast_bounds(field, parsed[field.name].chunk(0)) for field in stats]


def _cast_bounds(field: pa.Field, bounds: pa.StructArray) -> pa.StructArray:
    kind = field.type.field("min").type
    low, high, nulls = bounds.flatten()
    return struct_array(field.type, len(bounds), [cast(low, kind), cast(high, kind), nulls])


def _convert_bounds(field: pa.Field, documents: Sequence[Mapping[str, Any]]) -> pa.StructArray:
    kind = field.type.field("min").type
    where = f"columns.{field.name}"
    of_files = [document.get(field.name, {}) for document in documents]
    if set(map(type, of_files)) != {dict}:
        raise MalformedRecordError(f"{ENTRY}.{where} must be an object of min, max and nulls, got {of_files[0]!r}")
    children = [
        convert([bounds.get("min") for bounds in of_files], kind, f"{where}.min"),
        convert([bounds.get("max") for bounds in of_files], kind, f"{where}.max"),
        convert([bounds.get("nulls") for bounds in of_files], pa.int64(), f"{where}.nulls"),
    ]
    return struct_array(field.type, len(documents), children)

"""Materializations to catalog rows: one layout's values converted a column at a time, and blamed one by one."""

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.entry import encode_entries
from dagfusion_query.catalog.model import ABSENT_SCHEMA, TIME, Segment, files_schema
from dagfusion_query.errors import EventRecordError, MalformedRecordError, UnsupportedTypeError
from dagfusion_query.event_log.protocol import Materialization
from dagfusion_query.event_log.record import ENTRY, DataFile, Layout

_NONE_GIVEN: dict[str, Any] = {}


class Written(NamedTuple):
    """A materialization whose record could be read."""

    event: Materialization
    file: DataFile


class Absence(NamedTuple):
    """A partition whose latest event gives no file, and why if that is worth telling."""

    event: Materialization
    reason: str | None


def build_segment(layout: Layout, written: Sequence[Written]) -> tuple[Segment | None, list[Absence]]:
    """Build the rows of one layout.

    Returns:
        The segment (None when no record could be used), and the records that were refused.
    """
    try:
        return Segment(layout, _rows(layout, written)), []
    except EventRecordError as error:
        if len(written) == 1:
            return None, [Absence(written[0].event, str(error))]
    # Some value does not convert: halve until those that do not stand alone.
    middle = len(written) // 2
    left, left_refused = build_segment(layout, written[:middle])
    right, right_refused = build_segment(layout, written[middle:])
    kept = [half.rows for half in (left, right) if half is not None]
    segment = Segment(layout, pa.concat_tables(kept).combine_chunks()) if kept else None
    return segment, left_refused + right_refused


def absent_rows(absences: Iterable[Absence]) -> pa.Table:
    """Build the rows of `Ledger.absent`."""
    rows = [(a.event.event_id, a.event.partition_key, a.event.at_us, a.reason) for a in absences]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, ABSENT_SCHEMA, strict=True)], schema=ABSENT_SCHEMA)


def statistics_type(file: pa.Schema) -> pa.DataType:
    """Return the type of the `stats` column: a struct of min, max and nulls for each column that has an order."""
    return pa.struct([pa.field(field.name, bounds_type(field.type)) for field in file if is_orderable(field.type)])


def bounds_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of one column's statistics."""
    return pa.struct({"min": kind, "max": kind, "nulls": pa.int64()})


def is_orderable(kind: pa.DataType) -> bool:
    """Tell whether columns of this type have a minimum and a maximum in the record."""
    return not (
        pa.types.is_nested(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_duration(kind)
    )


def struct_array(kind: pa.DataType, length: int, children: Sequence[pa.Array]) -> pa.StructArray:
    """Return a struct array of valid structs, also one of no fields."""
    return pa.StructArray.from_buffers(kind, length, [None], children=children)


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
        pa.array([e.run_id for e in events], pa.string()),
        pa.array([e.at_us for e in events], pa.int64()).cast(TIME),
        pa.array([layout.fingerprint] * count, pa.string()),
        partition,
        struct_array(stats, count, [_bounds(field, files) for field in stats]),
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


def _bounds(field: pa.Field, files: Sequence[DataFile]) -> pa.StructArray:
    kind = field.type.field("min").type
    where = f"columns.{field.name}"
    of_files = _pick([file.columns for file in files], field.name, _NONE_GIVEN)
    if set(map(type, of_files)) != {dict}:
        raise MalformedRecordError(f"{ENTRY}.{where} must be an object of min, max and nulls, got {of_files[0]!r}")
    children = [
        convert(_pick(of_files, "min"), kind, f"{where}.min"),
        convert(_pick(of_files, "max"), kind, f"{where}.max"),
        convert(_pick(of_files, "nulls"), pa.int64(), f"{where}.nulls"),
    ]
    return struct_array(field.type, len(files), children)


def _pick(objects: Sequence[Mapping[str, Any]], key: str, default: Any = None) -> list[Any]:
    """Return one key's values. Nearly always each object has it, and then no Python code runs for each."""
    try:
        return list(map(itemgetter(key), objects))
    except KeyError:
        return [item.get(key, default) for item in objects]


def convert(values: Sequence[Any], kind: pa.DataType, where: str) -> pa.Array:
    """Convert JSON values to an Arrow type, strictly: an integer column takes integers, a date column ISO dates.

    Raises:
        MalformedRecordError: A value is not of the type; the message names `where` and, when there is one, the value.
    """
    allowed = _json_types(kind)
    try:
        found = set(map(type, values))
        if allowed is not None and found <= allowed:
            return _convert(values, kind, whole=int in found)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        pass
    got = f"got {values[0]!r}" if len(values) == 1 else "some values are not"
    raise MalformedRecordError(
        f"{ENTRY}.{where} must be null or a value of type {kind} as the contract writes it, {got}"
    )


def _convert(values: Sequence[Any], kind: pa.DataType, *, whole: bool) -> pa.Array:
    if pa.types.is_floating(kind):
        numbers = [None if value is None else float(value) for value in values] if whole else values
        return pa.array(numbers, pa.float64()).cast(kind, safe=False)
    if pa.types.is_time(kind):
        at = pa.timestamp(kind.unit)
        return pa.array([value and f"1970-01-01T{value}" for value in values], pa.string()).cast(at).cast(kind)
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        return pa.array(values, pa.string()).cast(kind)
    return pa.array(values, kind)


_NULL = type(None)


def _json_types(kind: pa.DataType) -> set[type] | None:
    if pa.types.is_boolean(kind):
        return {bool, _NULL}
    if pa.types.is_integer(kind):
        return {int, _NULL}
    if pa.types.is_floating(kind):
        return {int, float, _NULL}
    if pa.types.is_null(kind):
        return {_NULL}
    if (
        pa.types.is_string(kind)
        or pa.types.is_decimal(kind)
        or (pa.types.is_temporal(kind) and not pa.types.is_duration(kind))
    ):
        return {str, _NULL}
    return None

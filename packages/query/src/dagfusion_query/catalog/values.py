"""Values and bounds of event records, from JSON to Arrow, strictly as the contract writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json

from dagfusion_contract.record import ENTRY
from dagfusion_query.errors import MalformedRecordError

_NULL = type(None)
_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_PYTHON_TYPES: Mapping[pa.DataType, set[type]] = {
    **{kind: {int, _NULL} for kind in _INTEGERS},
    pa.float64(): {int, float, _NULL},
    pa.bool_(): {bool, _NULL},
    pa.null(): {_NULL},
    pa.string(): {str, _NULL},
}


def convert(values: Sequence[Any], kind: pa.DataType, where: str) -> pa.Array:
    """Convert JSON values to an Arrow type, strictly: an integer column takes integers, a date column ISO dates.

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
    """Convert an array of `json_type(kind)` to `kind`.

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
    """Return a struct array of valid structs, also one of no fields."""
    return pa.StructArray.from_buffers(kind, length, [None], children=children)


def read_bounds(stats: pa.StructType, columns: Sequence[bytes]) -> pa.StructArray:
    """Read the statistics of files of one layout.

    Arrow's JSON reader reads a batch of files at a time. Its errors do not name the value, so what it refuses is
    converted again in Python.

    Args:
        stats: What `statistics_type` returned for the layout.
        columns: `DataFile.columns`, one a file.

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
        convert([given.get("min") for given in of_files], kind, f"{where}.min"),
        convert([given.get("max") for given in of_files], kind, f"{where}.max"),
        convert([given.get("nulls") for given in of_files], pa.int64(), f"{where}.nulls"),
    ]
    return struct_array(field.type, len(documents), children)

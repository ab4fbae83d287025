"""Column statistics of many files, from the JSON of their records to one struct column.

Arrow's own JSON reader does nearly all of it, a batch of files at a time. It says only that something is wrong, so what
it refuses is looked at again in Python, which says what.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
from pyarrow import json

from dagfusion_contract.record import ENTRY
from dagfusion_query.catalog.values import cast, convert, json_type
from dagfusion_query.errors import MalformedRecordError


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
        children = [_convert(field, documents) for field in stats]
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
    return [_cast(field, parsed[field.name].chunk(0)) for field in stats]


def _cast(field: pa.Field, bounds: pa.StructArray) -> pa.StructArray:
    kind = field.type.field("min").type
    low, high, nulls = bounds.flatten()
    return struct_array(field.type, len(bounds), [cast(low, kind), cast(high, kind), nulls])


def _convert(field: pa.Field, documents: Sequence[Mapping[str, Any]]) -> pa.StructArray:
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

"""A data file as DataFusion's scan reads it: the `PartitionedFile` protobuf message, made once per materialization.

A partition value is a ScalarValue, whose null carries its ArrowType.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from dagfusion_client.errors import UnsupportedTypeError
from dagfusion_contract.uri import object_path
from dagfusion_contract.values import EXACT
from dagfusion_query.plan_messages import (
    ArrowType,
    Decimal128,
    DecimalType,
    FileGroup,
    FileRange,
    PartitionedFile,
    ScalarTimestampValue,
    ScalarValue,
    TimestampType,
    TimeUnit,
)
from dagfusion_query.wire import FIXED32, FIXED64, LENGTH, message, read_varint, uint, uints, varint

_TIMESTAMP_UNIT = {
    "s": ScalarTimestampValue.SECOND,
    "ms": ScalarTimestampValue.MILLISECOND,
    "us": ScalarTimestampValue.MICROSECOND,
    "ns": ScalarTimestampValue.NANOSECOND,
}
_ARROW_UNIT = {
    "s": TimeUnit.SECOND,
    "ms": TimeUnit.MILLISECOND,
    "us": TimeUnit.MICROSECOND,
    "ns": TimeUnit.NANOSECOND,
}
# ScalarValue field and ArrowType field of each flat type
_INTEGER = {
    pa.bool_(): (ScalarValue.BOOL, ArrowType.BOOL),
    pa.int8(): (ScalarValue.INT8, ArrowType.INT8),
    pa.int16(): (ScalarValue.INT16, ArrowType.INT16),
    pa.int32(): (ScalarValue.INT32, ArrowType.INT32),
    pa.int64(): (ScalarValue.INT64, ArrowType.INT64),
    pa.uint8(): (ScalarValue.UINT8, ArrowType.UINT8),
    pa.uint16(): (ScalarValue.UINT16, ArrowType.UINT16),
    pa.uint32(): (ScalarValue.UINT32, ArrowType.UINT32),
    pa.uint64(): (ScalarValue.UINT64, ArrowType.UINT64),
    pa.date32(): (ScalarValue.DATE32, ArrowType.DATE32),
}
_BYTES = {
    pa.string(): (ScalarValue.UTF8, ArrowType.UTF8),
    pa.large_string(): (ScalarValue.LARGE_UTF8, ArrowType.LARGE_UTF8),
    pa.binary(): (ScalarValue.BINARY, ArrowType.BINARY),
}


def encode_entries(
    uris: Sequence[str], sizes: Sequence[int], modified_ns: Sequence[int], partition: pa.StructArray
) -> pa.Array:
    """Encode files as entries of a file group.

    Args:
        uris: `s3://bucket/key` or `file:///path`, one for each file.
        sizes: Bytes, one for each file.
        modified_ns: Nanoseconds since 1970, one for each file.
        partition: The typed partition columns, one row for each file; no fields for an unpartitioned table.

    Returns:
        A binary array, one entry for each file, without nulls: field `files` of the message `FileGroup`, with its tag.
        Source: `datafusion.proto` of the pinned DataFusion; `plan_messages.py` has the field numbers.

    Raises:
        UnsupportedTypeError: A partition column has a type that partition values cannot have.
    """
    parts: list[Iterable[bytes]] = [
        [message(PartitionedFile.PATH, object_path(uri).encode()) for uri in uris],
        uints(PartitionedFile.SIZE, sizes),
        uints(PartitionedFile.LAST_MODIFIED_NS, modified_ns),
        *(_encode_column(partition.field(i)) for i in range(partition.type.num_fields)),
    ]
    files = list(map(b"".join, zip(*parts, strict=True)))
    head = varint(FileGroup.FILES << 3 | LENGTH)
    return pa.array([head + varint(len(file)) + file for file in files], pa.binary())


def encode_range_entry(uri: str, size_bytes: int, modified_ns: int, start: int, end: int) -> bytes:
    """Encode the row groups of a file whose first page begins at `start` or later, and before `end`."""
    path = message(PartitionedFile.PATH, object_path(uri).encode())
    head = uint(PartitionedFile.SIZE, size_bytes) + uint(PartitionedFile.LAST_MODIFIED_NS, modified_ns)
    part = message(PartitionedFile.RANGE, uint(FileRange.START, start) + uint(FileRange.END, end))
    return message(FileGroup.FILES, path + head + part)


def with_paths(entries: Iterable[bytes], paths: Iterable[str]) -> pa.Array:
    """Return encoded files with other paths in their store: a binary array without nulls, one element for each entry.

    Args:
        entries: Elements of what `encode_entries` returned.
        paths: One for each entry, without a leading slash.
    """
    head = varint(FileGroup.FILES << 3 | LENGTH)
    files = (
        message(PartitionedFile.PATH, path.encode()) + entry[_path_end(entry) :]
        for entry, path in zip(entries, paths, strict=True)
    )
    return pa.array([head + varint(len(file)) + file for file in files], pa.binary())


def _path_end(entry: bytes) -> int:
    """Return where the path of an encoded file ends: it comes first."""
    at = 1
    while entry[at] & 0x80:
        at += 1
    size, at = read_varint(entry, at + 2)
    return at + size


def encode_scalar(value: object, kind: pa.DataType, scalar: pa.Scalar | None = None) -> bytes:
    """Encode one value as DataFusion's ScalarValue.

    Args:
        value: As `to_pylist` gives it; None is encoded as a null of the type.
        kind: Its Arrow type.
        scalar: The value in Arrow, where Python's loses digits (nanoseconds).

    Raises:
        UnsupportedTypeError: `kind` is not a type that a partition column can have.
    """
    encode = _encoder(kind)
    if value is None:
        return message(ScalarValue.NULL, _arrow_type(kind))
    return encode(_storage(scalar if scalar is not None else pa.scalar(value, kind)))


def _encode_column(column: pa.Array) -> list[bytes]:
    """Encode a partition column, each distinct value once."""
    encoded = column.dictionary_encode()
    kind = column.type
    encode = _encoder(kind)
    values = [message(PartitionedFile.PARTITION_VALUES, encode(_storage(value))) for value in encoded.dictionary]
    null = message(PartitionedFile.PARTITION_VALUES, message(ScalarValue.NULL, _arrow_type(kind)))
    return [null if index is None else values[index] for index in encoded.indices.to_pylist()]


def _storage(value: pa.Scalar) -> Any:
    """Return the number that Arrow stores for a date or timestamp, and the Python value of all else."""
    if pa.types.is_temporal(value.type):
        return value.value
    return value.as_py()


def _encoder(kind: pa.DataType) -> Callable[[Any], bytes]:
    if kind in _INTEGER:
        number = _INTEGER[kind][0]
        return lambda value: uint(number, int(value))
    if kind in _BYTES:
        number = _BYTES[kind][0]
        return lambda value: message(number, value.encode() if isinstance(value, str) else value)
    if pa.types.is_float64(kind):
        return lambda value: varint(ScalarValue.FLOAT64 << 3 | FIXED64) + struct.pack("<d", value)
    if pa.types.is_float32(kind):
        return lambda value: varint(ScalarValue.FLOAT32 << 3 | FIXED32) + struct.pack("<f", value)
    if pa.types.is_timestamp(kind):
        zone = message(ScalarTimestampValue.TIMEZONE, kind.tz.encode()) if kind.tz else b""
        return lambda value: message(ScalarValue.TIMESTAMP, uint(_TIMESTAMP_UNIT[kind.unit], value) + zone)
    if pa.types.is_decimal128(kind):
        precision = uint(Decimal128.PRECISION, kind.precision) + (
            uint(Decimal128.SCALE, kind.scale) if kind.scale else b""
        )
        return lambda value: message(
            ScalarValue.DECIMAL128, message(Decimal128.VALUE, _unscaled(value, kind.scale)) + precision
        )
    raise UnsupportedTypeError(
        f"a partition column has type {kind}; partition columns can be booleans, integers, floats, decimals, strings, "
        "dates and timestamps: cast it in the asset"
    )


def _unscaled(value: Decimal, scale: int) -> bytes:
    return int(value.scaleb(scale, context=EXACT)).to_bytes(16, "big", signed=True)


def _arrow_type(kind: pa.DataType) -> bytes:
    if pa.types.is_timestamp(kind):
        zone = message(TimestampType.TIMEZONE, kind.tz.encode()) if kind.tz else b""
        unit = _ARROW_UNIT[kind.unit]
        return message(ArrowType.TIMESTAMP, (uint(TimestampType.UNIT, unit) if unit else b"") + zone)
    if pa.types.is_decimal128(kind):
        return message(
            ArrowType.DECIMAL128,
            uint(DecimalType.PRECISION, kind.precision) + (uint(DecimalType.SCALE, kind.scale) if kind.scale else b""),
        )
    if pa.types.is_floating(kind):
        return message(ArrowType.FLOAT64 if pa.types.is_float64(kind) else ArrowType.FLOAT32, b"")
    return message((_INTEGER.get(kind) or _BYTES[kind])[1], b"")

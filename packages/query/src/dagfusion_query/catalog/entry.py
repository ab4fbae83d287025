"""A data file as DataFusion's scan reads it: the `PartitionedFile` protobuf message, made once per materialization.

Field numbers are those of datafusion-proto: PartitionedFile {path 1, size 2, last_modified_ns 3, partition_values 4}
and ScalarValue, whose null carries its ArrowType.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from dagfusion_query.errors import UnsupportedTypeError
from dagfusion_query.wire import LENGTH, message, read_varint, uint, uints, varint

FILES = 1  # FileGroup.files: an entry is framed as that field, so a file group is its entries laid end to end
_PATH, _SIZE, _MODIFIED_NS, _VALUE = 1, 2, 3, 4
_NULL = 33
_TIMESTAMP, _TIMEZONE = 26, 5
_DECIMAL128 = 20
_EXACT = Context(prec=76)
_TIMESTAMP_UNIT = {"us": 1, "ns": 2, "s": 3, "ms": 4}  # ScalarTimestampValue's fields
_ARROW_UNIT = {"s": 0, "ms": 1, "us": 2, "ns": 3}  # the TimeUnit enum

# ScalarValue field and ArrowType field of each flat type
_INTEGER = {
    pa.bool_(): (1, 2),
    pa.int8(): (4, 4),
    pa.int16(): (5, 6),
    pa.int32(): (6, 8),
    pa.int64(): (7, 10),
    pa.uint8(): (8, 3),
    pa.uint16(): (9, 5),
    pa.uint32(): (10, 7),
    pa.uint64(): (11, 9),
    pa.date32(): (14, 17),
}
_BYTES = {pa.string(): (2, 14), pa.large_string(): (3, 32), pa.binary(): (28, 15)}


def encode_entries(
    uris: Sequence[str], sizes: Sequence[int], modified_ns: Sequence[int], partition: pa.StructArray
) -> pa.Array:
    """Encode files as entries of a file group.

    Args:
        uris: `s3://bucket/key` or `file:///path`, one a file.
        sizes: Bytes, one a file.
        modified_ns: Nanoseconds since 1970, one a file.
        partition: The typed partition columns, one row a file; no fields for an unpartitioned table.

    Returns:
        A binary array, one entry a file.

    Raises:
        UnsupportedTypeError: A partition column has a type that partition values cannot have.
    """
    parts: list[Iterable[bytes]] = [
        [message(_PATH, object_path(uri).encode()) for uri in uris],
        uints(_SIZE, sizes),
        uints(_MODIFIED_NS, modified_ns),
        *(_encode_column(partition.field(i)) for i in range(partition.type.num_fields)),
    ]
    files = list(map(b"".join, zip(*parts, strict=True)))
    head = varint(FILES << 3 | LENGTH)
    return pa.array([head + varint(len(file)) + file for file in files], pa.binary())


def encode_entry(uri: str, size_bytes: int, modified_ns: int, values: Sequence[pa.Scalar]) -> bytes:
    """Encode one file; see `encode_entries`."""
    encoded = b"".join(message(_VALUE, encode_scalar(value.as_py(), value.type, value)) for value in values)
    path = message(_PATH, object_path(uri).encode())
    return message(FILES, path + uint(_SIZE, size_bytes) + uint(_MODIFIED_NS, modified_ns) + encoded)


def with_paths(entries: Iterable[bytes], paths: Iterable[str]) -> pa.Array:
    """Return encoded files with other paths inside their store; see `encode_entries`."""
    head = varint(FILES << 3 | LENGTH)
    files = (
        message(_PATH, path.encode()) + entry[_path_end(entry) :] for entry, path in zip(entries, paths, strict=True)
    )
    return pa.array([head + varint(len(file)) + file for file in files], pa.binary())


def _path_end(entry: bytes) -> int:
    """Return where the path of an encoded file ends: it comes first."""
    at = 1
    while entry[at] & 0x80:
        at += 1
    size, at = read_varint(entry, at + 2)
    return at + size


def object_path(uri: str) -> str:
    """Return what names an object inside its store: the key, or the path without its leading slash."""
    _, _, rest = uri.partition("://")
    _, _, path = rest.partition("/")
    return path


def store_url(uri: str) -> str:
    """Return the part of a URI that names its store: `s3://bucket/`, or `file:///`."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def encode_scalar(value: object, kind: pa.DataType, scalar: pa.Scalar | None = None) -> bytes:
    """Encode one value as DataFusion's ScalarValue.

    Raises:
        UnsupportedTypeError: `kind` is not a type that a partition column can have.
    """
    encode = _encoder(kind)
    if value is None:
        return message(_NULL, _arrow_type(kind))
    return encode(_storage(scalar if scalar is not None else pa.scalar(value, kind)))


def _encode_column(column: pa.Array) -> list[bytes]:
    """Encode a partition column, each distinct value once."""
    encoded = column.dictionary_encode()
    kind = column.type
    encode = _encoder(kind)
    values = [message(_VALUE, encode(_storage(value))) for value in encoded.dictionary]
    null = message(_VALUE, message(_NULL, _arrow_type(kind)))
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
        return lambda value: varint(13 << 3 | 1) + struct.pack("<d", value)
    if pa.types.is_float32(kind):
        return lambda value: varint(12 << 3 | 5) + struct.pack("<f", value)
    if pa.types.is_timestamp(kind):
        zone = message(_TIMEZONE, kind.tz.encode()) if kind.tz else b""
        return lambda value: message(_TIMESTAMP, uint(_TIMESTAMP_UNIT[kind.unit], value) + zone)
    if pa.types.is_decimal128(kind):
        precision = uint(2, kind.precision) + (uint(3, kind.scale) if kind.scale else b"")
        return lambda value: message(_DECIMAL128, message(1, _unscaled(value, kind.scale)) + precision)
    raise UnsupportedTypeError(
        f"a partition column has type {kind}; partition columns can be booleans, integers, floats, decimals, strings, "
        "dates and timestamps: cast it in the asset"
    )


def _unscaled(value: Decimal, scale: int) -> bytes:
    return int(value.scaleb(scale, context=_EXACT)).to_bytes(16, "big", signed=True)


def _arrow_type(kind: pa.DataType) -> bytes:
    if pa.types.is_timestamp(kind):
        zone = message(2, kind.tz.encode()) if kind.tz else b""
        unit = _ARROW_UNIT[kind.unit]
        return message(20, (uint(1, unit) if unit else b"") + zone)
    if pa.types.is_decimal128(kind):
        return message(24, uint(3, kind.precision) + (uint(4, kind.scale) if kind.scale else b""))
    if pa.types.is_floating(kind):
        return message(13 if pa.types.is_float64(kind) else 12, b"")
    return message((_INTEGER.get(kind) or _BYTES[kind])[1], b"")

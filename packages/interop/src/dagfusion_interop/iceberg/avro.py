"""Writes the parts of Avro files that Iceberg needs, with bounds and partition values. Pure.

Avro writers that take records need seconds for 18,250 manifest entries. So the caller encodes whole columns, and this
module encodes numbers, values and the container file.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.values import EXACT
from dagfusion_interop.iceberg.iceberg_schema import decimal_digits
from dagfusion_query.wire import varint

NULL = b"\x00"  # the first branch of `["null", type]`
VALUE = b"\x02"  # the second
END = b"\x00"  # of an array or map

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_BLOCK = 1000  # entries
_ARROW: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "string": pa.string(),
    "binary": pa.binary(),
}
_BITS = {"int": np.int32, "date": np.int32, "float": np.float32, "double": np.float64}
_AVRO_PLAIN = {"boolean", "int", "long", "string"}


def long(value: int) -> bytes:
    """Encode an int or long: zigzag, then seven bits a byte."""
    return varint((value << 1) ^ (value >> 63))


def longs(values: Iterable[int]) -> list[bytes]:
    """Encode many ints or longs; equal ones are encoded once."""
    encoded: dict[int, bytes] = {}
    return [encoded.get(value) or encoded.setdefault(value, long(value)) for value in values]


_LENGTHS = [long(length) for length in range(512)]  # of nearly all texts; looked up in a third of the time


def data(value: bytes) -> bytes:
    """Encode bytes, or a string as its UTF-8."""
    length = len(value)
    return (_LENGTHS[length] if length < len(_LENGTHS) else long(length)) + value


def array(items: Sequence[bytes]) -> bytes:
    """Encode an array of encoded items."""
    return long(len(items)) + b"".join(items) + END if items else END


def container(schema: Mapping[str, Any], metadata: Mapping[str, str], entries: Sequence[bytes]) -> bytes:
    """Return an object container file that is not compressed. Equal arguments give equal bytes.

    Args:
        schema: The schema of one entry.
        metadata: More keys of the header.
        entries: The entries, encoded by the caller.
    """
    blocks = [entries[at : at + _BLOCK] for at in range(0, len(entries), _BLOCK)]
    bodies = [(len(block), b"".join(block)) for block in blocks]
    return container_of_blocks(header(schema, metadata, "null"), bodies)


def header(schema: Mapping[str, Any], metadata: Mapping[str, str], codec: str) -> bytes:
    """Return the beginning of an object container file.

    Args:
        schema: The schema of one entry.
        metadata: More keys.
        codec: The name of the compression.
    """
    keys = {"avro.schema": json.dumps(schema, separators=(",", ":")), "avro.codec": codec, **metadata}
    pairs = b"".join(data(key.encode()) + data(value.encode()) for key, value in keys.items())
    return _MAGIC + long(len(keys)) + pairs + END


def container_of_blocks(head: bytes, blocks: Sequence[tuple[int, bytes]]) -> bytes:
    """Return an object container file.

    Args:
        head: Its header.
        blocks: The number of entries of each block, and these, compressed.
    """
    # Avro wants sixteen bytes that are unlikely in the data. A random marker would give each service a file of its own.
    sync = hashlib.sha256(b"".join([head, *(body for _, body in blocks)])).digest()[:_SYNC_BYTES]
    return b"".join([head, sync, *(long(count) + data(body) + sync for count, body in blocks)])


def deflate(content: bytes) -> bytes:
    """Compress a block, as the codec `deflate` has it."""
    compressor = zlib.compressobj(level=6, wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


def bounds(values: pa.Array, kind: str, *, lower: bool) -> Sequence[bytes | None]:
    """Return the bounds of a column in Iceberg's binary form, one for each file; None for a null.

    Args:
        values: One value for each file, of an Arrow type whose values `kind` can represent.
        kind: The Iceberg type of the column.
        lower: True for lower bounds. Iceberg orders -0.0 before 0.0, but statistics may have either as the least.
    """
    if pa.types.is_floating(values.type):
        zero = pa.scalar(-0.0 if lower else 0.0, values.type)
        values = pc.if_else(pc.equal(values, zero), zero, values)
    return single_values(values, kind)


def single_values(values: pa.Array, kind: str) -> Sequence[bytes | None]:
    """Return values in Iceberg's binary form, one for each; None for null and a time beyond microseconds.

    Source: "Binary single-value serialization" in appendix D of the Iceberg table specification.

    Args:
        values: An array of an Arrow type whose values `kind` holds.
        kind: Iceberg's type, such as `long` or `decimal(9, 2)`.
    """
    if kind.startswith("decimal"):
        return [None if value is None else _decimal(value, _scale(kind)) for value in values.to_pylist()]
    values = _as(values, kind)
    if kind == "boolean":
        return [None if value is None else bytes([value]) for value in values.to_pylist()]
    if kind in ("string", "binary"):
        return list(values.cast(pa.binary()).to_pylist())
    bits = np.dtype(_BITS.get(kind, np.int64)).newbyteorder("<")
    numbers = values if pa.types.is_floating(values.type) else values.view(_integer(bits.itemsize))
    raw = numbers.fill_null(0).to_numpy(zero_copy_only=False).astype(bits).tobytes()
    pieces = [raw[at : at + bits.itemsize] for at in range(0, len(raw), bits.itemsize)]
    valid = values.is_valid().to_pylist()
    return [piece if there else None for piece, there in zip(pieces, valid, strict=True)]


def avro_type(kind: str, name: str) -> Any:
    """Return the Avro type of a partition value.

    Args:
        kind: Iceberg's type.
        name: The name of the type, for types that need a name in Avro. Each name may be defined once.
    """
    if kind in _AVRO_PLAIN:
        return kind
    if kind.startswith("decimal"):
        precision = _precision(kind)
        return {
            "type": "fixed",
            "name": name,
            "size": _fixed_size(precision),
            "logicalType": "decimal",
            "precision": precision,
            "scale": _scale(kind),
        }
    if kind == "date":
        return {"type": "int", "logicalType": "date"}
    if kind == "time":
        return {"type": "long", "logicalType": "time-micros"}
    if kind.startswith("timestamp"):
        return {"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": kind == "timestamptz"}
    raise ValueError(f"partition columns cannot have type {kind}")


def avro_values(values: pa.Array, kind: str) -> list[bytes]:
    """Encode partition values as Avro's `["null", avro_type(kind)]`, one for each; a null is the union's first branch.

    Source: "Binary encoding" in the Avro specification.

    Args:
        values: An array of an Arrow type whose values `kind` holds.
        kind: Iceberg's type of the partition column.
    """
    if kind.startswith("decimal"):
        size = _fixed_size(_precision(kind))
        encoded = [
            None if value is None else _unscaled(value, _scale(kind)).to_bytes(size, "big", signed=True)
            for value in values.to_pylist()
        ]
    elif kind == "boolean":
        encoded = [None if value is None else bytes([value]) for value in values.to_pylist()]
    elif kind == "string":
        encoded = [None if value is None else data(value.encode()) for value in values.to_pylist()]
    else:
        values = _as(values, kind)
        numbers = values.view(_integer(values.type.bit_width // 8)).to_pylist()
        present = iter(longs(number for number in numbers if number is not None))
        encoded = [None if number is None else next(present) for number in numbers]
    return [NULL if value is None else VALUE + value for value in encoded]


def _as(values: pa.Array, kind: str) -> pa.Array:
    """Return values as the Arrow type that has Iceberg's bits."""
    data_type = values.type if kind.startswith("fixed") else _ARROW[kind]
    if values.type == data_type:
        return values
    try:
        return values.cast(data_type)
    except pa.ArrowInvalid:  # such as the year 300000 in seconds
        return pa.array([_or_none(value, data_type) for value in values], data_type)


def _or_none(value: pa.Scalar, data_type: pa.DataType) -> pa.Scalar:
    try:
        return value.cast(data_type)
    except pa.ArrowInvalid:
        return pa.scalar(None, data_type)


def _integer(size: int) -> pa.DataType:
    return pa.int32() if size == pa.int32().bit_width // 8 else pa.int64()


def _decimal(value: Decimal | int, scale: int) -> bytes:
    """Return the unscaled value in two's complement, in as few bytes as hold it."""
    number = _unscaled(value, scale)
    return number.to_bytes((number if number >= 0 else ~number).bit_length() // 8 + 1, "big", signed=True)


def _unscaled(value: Decimal | int, scale: int) -> int:
    return int(Decimal(value).scaleb(scale, context=EXACT))


def _precision(kind: str) -> int:
    return decimal_digits(kind)[0]


def _scale(kind: str) -> int:
    return decimal_digits(kind)[1]


def _fixed_size(precision: int) -> int:
    """Return the fewest bytes that hold all numbers of so many digits."""
    largest: int = 10**precision - 1
    return largest.bit_length() // 8 + 1

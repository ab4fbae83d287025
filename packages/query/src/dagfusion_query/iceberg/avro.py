"""Avro files, as far as Iceberg needs them. Pure.

Writers that take records encode 18,250 manifest entries in seconds. Here the caller encodes whole columns, and this
module has the numbers and the container.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagfusion_query.wire import varint

NULL = b"\x00"  # the first branch of `["null", type]`
VALUE = b"\x02"  # the second
END = b"\x00"  # of an array or map

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_BLOCK = 1000  # entries


def long(value: int) -> bytes:
    """Encode an int or long: zigzag, then seven bits a byte."""
    return varint((value << 1) ^ (value >> 63))


def longs(values: Iterable[int]) -> list[bytes]:
    """Encode many ints or longs; equal ones are encoded once."""
    known: dict[int, bytes] = {}
    return [known.get(value) or known.setdefault(value, long(value)) for value in values]


def data(value: bytes) -> bytes:
    """Encode bytes, or a string as its UTF-8."""
    return long(len(value)) + value


def array(items: Sequence[bytes]) -> bytes:
    """Encode an array of encoded items."""
    return long(len(items)) + b"".join(items) + END if items else END


def container(
    schema: Mapping[str, Any], metadata: Mapping[str, str], entries: Sequence[bytes], *, is_plain: bool = False
) -> bytes:
    """Return an object container file. Equal arguments give equal bytes.

    Args:
        schema: Of one entry.
        metadata: More keys of the header.
        entries: Encoded by the caller.
        is_plain: True to leave them as they are; else they are compressed with deflate.
    """
    codec = "null" if is_plain else "deflate"
    said = {"avro.schema": json.dumps(schema, separators=(",", ":")), "avro.codec": codec, **metadata}
    pairs = b"".join(data(key.encode()) + data(value.encode()) for key, value in said.items())
    header = _MAGIC + long(len(said)) + pairs + END
    blocks = [entries[at : at + _BLOCK] for at in range(0, len(entries), _BLOCK)]
    bodies = [(len(block), b"".join(block) if is_plain else _deflate(b"".join(block))) for block in blocks]
    # Avro wants sixteen bytes that are unlikely in the data. A random marker would give each service a file of its own.
    sync = hashlib.sha256(b"".join([header, *(body for _, body in bodies)])).digest()[:_SYNC_BYTES]
    return b"".join([header, sync, *(long(count) + data(body) + sync for count, body in bodies)])


def _deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(level=6, wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()

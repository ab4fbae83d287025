"""The protobuf wire format: just enough to read, write and rewrite a field deep inside a message.

A message is `bytes`. A field has its number, wire type, value and raw bytes, so fields that are not understood can be
copied unchanged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_LONGEST = 10  # bytes of a varint of 64 bits
_SHIFTS = np.arange(0, 7 * _LONGEST, 7, dtype=np.uint64)


class Field(NamedTuple):
    """One field of a message: `value` is an int for varints and bytes for all other wire types."""

    number: int
    wire: int
    value: int | bytes
    raw: bytes


def varint(value: int) -> bytes:
    """Encode an unsigned integer; negative ones as their 64-bit two's complement, as protobuf does."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    if value < 0x80:  # noqa: PLR2004
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 0x80:  # noqa: PLR2004
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(number: int, value: bytes) -> bytes:
    """Encode a length-delimited field: a sub-message, string or bytes."""
    return varint(number << 3 | LENGTH) + varint(len(value)) + value


def uint(number: int, value: int) -> bytes:
    """Encode an integer field."""
    return varint(number << 3) + varint(value)


def uints(number: int, values: Sequence[int]) -> list[bytes]:
    """Encode an integer field of many messages: as `uint` does it, without a loop over the bits of each."""
    groups = np.array(values, np.int64).view(np.uint64)[:, np.newaxis] >> _SHIFTS
    lengths = np.maximum(1, (groups > 0).sum(axis=1))
    encoded = (groups & 0x7F).astype(np.uint8) | np.where(
        np.arange(_LONGEST) < lengths[:, np.newaxis] - 1, 0x80, 0
    ).astype(np.uint8)
    tag, raw = varint(number << 3), encoded.tobytes()
    return [
        tag + raw[at : at + length] for at, length in zip(range(0, len(raw), _LONGEST), lengths.tolist(), strict=True)
    ]


def fields(data: bytes) -> Iterator[Field]:
    """Yield each field of a message.

    Raises:
        ValueError: `data` is not a protobuf message.
    """
    at = 0
    while at < len(data):
        start = at
        tag, at = read_varint(data, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == VARINT:
            value, at = read_varint(data, at)
        else:
            if wire == LENGTH:
                size, at = read_varint(data, at)
            elif wire in (FIXED64, FIXED32):
                size = 8 if wire == FIXED64 else 4
            else:
                raise ValueError(f"wire type {wire} at byte {start} of a message of {len(data)} bytes")
            value, at = data[at : at + size], at + size
        if at > len(data):
            raise ValueError(f"field {number} at byte {start} is cut off: the message has {len(data)} bytes")
        yield Field(number, wire, value, data[start:at])


def children(data: bytes, number: int) -> list[bytes]:
    """Return the sub-messages (or strings) that field `number` holds; none when `data` is not a message."""
    try:
        return [f.value for f in fields(data) if f.number == number and isinstance(f.value, bytes)]
    except ValueError:
        return []


def change_children(data: bytes, number: int, change: Callable[[bytes], bytes]) -> bytes:
    """Return a message with a change to each of its sub-messages of one number."""
    return b"".join(
        message(number, change(field.value)) if field.number == number and isinstance(field.value, bytes) else field.raw
        for field in fields(data)
    )


def with_children(data: bytes, new: Mapping[int, Sequence[bytes]]) -> bytes:
    """Return a message whose sub-messages of some numbers are other ones."""
    rest = b"".join(field.raw for field in fields(data) if field.number not in new)
    return b"".join(message(number, one) for number, ones in new.items() for one in ones) + rest


def flag(data: bytes, number: int) -> bool:
    """Return True if a truth value of a message is set."""
    return any(f.number == number and f.value for f in fields(data))


def rewrite(data: bytes, marker: bytes, change: Callable[[bytes], bytes | None]) -> bytes:
    """Rewrite sub-messages. `change` returns the new bytes, or None to recurse into the message.

    Only messages in which `marker` occurs are looked at; all else is copied as it is, and so is text that holds it.
    """
    if (changed := change(data)) is not None:
        return changed
    try:
        found = list(fields(data))
    except ValueError:
        return data
    out = []
    for field in found:
        if field.wire == LENGTH and isinstance(field.value, bytes) and marker in field.value and field.value != marker:
            out.append(message(field.number, rewrite(field.value, marker, change)))
        else:
            out.append(field.raw)
    return b"".join(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned integer that begins at a place, and the place after it.

    Raises:
        ValueError: The message ends inside of it.
    """
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError(f"the message of {len(data)} bytes ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004
            return value, at
        shift += 7


_ONE_BYTE = [bytes([value]) for value in range(0x80)]

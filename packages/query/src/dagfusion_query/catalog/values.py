"""JSON values to Arrow, a column at a time, strictly as the contract writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.record import ENTRY
from dagfusion_query.errors import MalformedRecordError


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


_NULL = type(None)
_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_PYTHON_TYPES: Mapping[pa.DataType, set[type]] = {
    **{kind: {int, _NULL} for kind in _INTEGERS},
    pa.float64(): {int, float, _NULL},
    pa.bool_(): {bool, _NULL},
    pa.null(): {_NULL},
    pa.string(): {str, _NULL},
}

"""Arrow values as the JSON of event metadata v1 writes them, and back. Pure."""

import datetime as dt
import math
from collections.abc import Callable, Mapping
from decimal import Context
from functools import cache
from typing import Any

import pyarrow as pa

from dagfusion_contract.arrow_types import parse_type, type_entry

Entry = str | int | float | bool | None
EXACT = Context(prec=76)  # the digits of the widest decimal

_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - Arrow counts from the epoch; the zone is written by its suffix
_PARTITION_KINDS = (
    pa.types.is_string,
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_decimal,
    pa.types.is_date32,
    pa.types.is_timestamp,
)
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def value_entry(scalar: pa.Scalar) -> Entry:
    """Return a value: numbers and booleans as they are, everything else as text; None for null.

    Raises:
        ValueError: JSON has no way to write it: not finite, outside the years 1 to 9999, or of a type without one.
    """
    return _encoder(scalar.type)(scalar) if scalar.is_valid else None


def parse_value(value: Entry, data_type: pa.DataType) -> pa.Scalar:
    """Undo `value_entry` for a value of a known type."""
    if isinstance(value, str) and not pa.types.is_string(data_type):
        return pa.scalar(value).cast(data_type)
    return pa.scalar(value, data_type)


def partition_entry(name: str, value: pa.Scalar) -> dict[str, Any]:
    """Return a partition column as `{"name", "type", "value"}`."""
    return {"name": name, "type": type_entry(value.type), "value": value_entry(value)}


def parse_partition_entry(entry: Mapping[str, Any]) -> tuple[str, pa.Scalar]:
    """Undo `partition_entry`.

    Raises:
        MalformedRecordError: The type is none that Arrow has.
    """
    return entry["name"], parse_value(entry["value"], parse_type(entry["type"], f"partition {entry['name']!r}"))


def is_partition_type(data_type: pa.DataType) -> bool:
    """Return True if a column of the type can be a partition column: flat, ordered, and exact in JSON."""
    return any(kind(data_type) for kind in _PARTITION_KINDS)


@cache
def _encoder(data_type: pa.DataType) -> Callable[[pa.Scalar], Entry]:
    types = pa.types
    if types.is_timestamp(data_type):
        zone = "Z" if data_type.tz else ""
        return lambda scalar: _timestamp_text(scalar.value, data_type.unit) + zone
    if types.is_time(data_type):
        return lambda scalar: _timestamp_text(scalar.value, data_type.unit).partition("T")[2]
    if types.is_date32(data_type):
        return lambda scalar: _timestamp_text(scalar.value * 86_400, "s").partition("T")[0]
    if types.is_decimal(data_type):
        return lambda scalar: f"{scalar.as_py():f}"
    if types.is_floating(data_type):
        return _finite
    if types.is_string(data_type) or types.is_integer(data_type) or types.is_boolean(data_type):
        return _python_value
    raise ValueError(f"a value of type {data_type} has no JSON form")


def _python_value(scalar: pa.Scalar) -> Entry:
    value: Entry = scalar.as_py()
    return value


def _finite(scalar: pa.Scalar) -> float:
    value: float = scalar.as_py()
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON number")
    return value


def _timestamp_text(value: int, unit: str) -> str:
    digits = _DIGITS[unit]
    seconds, fraction = divmod(value, 10**digits)
    try:
        text = (_EPOCH + dt.timedelta(seconds=seconds)).isoformat()
    except OverflowError as error:
        raise ValueError(f"{value} {unit} since 1970 is outside the years 1 to 9999") from error
    return f"{text}.{fraction:0{digits}d}" if digits else text

"""Arrow types and values as the JSON of event metadata v1 writes them, and back. Pure."""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pyarrow as pa

Entry = str | int | float | bool | None

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
_DECIMAL = re.compile(r"(decimal128|decimal256)\((\d+), (-?\d+)\)")
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")


def field_entry(field: pa.Field) -> dict[str, Any]:
    """A column as `{"name", "type", "nullable"}`."""
    return {"name": field.name, "type": type_entry(field.type), "nullable": field.nullable}


def type_entry(data_type: pa.DataType) -> str | dict[str, Any]:
    """A type: Arrow's own name of a flat type, or one key that says how it nests."""
    if pa.types.is_list(data_type):
        return {"list": field_entry(data_type.value_field)}
    if pa.types.is_struct(data_type):
        return {"struct": [field_entry(data_type.field(index)) for index in range(data_type.num_fields)]}
    if pa.types.is_map(data_type):
        return {"map": [field_entry(data_type.key_field), field_entry(data_type.item_field)]}
    return str(data_type)


def flat_type(name: str) -> pa.DataType:
    """The flat type of Arrow's name, the inverse of `type_entry`.

    Raises:
        ValueError: Arrow has no such type.
    """
    if match := _DECIMAL.fullmatch(name):
        return getattr(pa, match[1])(int(match[2]), int(match[3]))
    if match := _ZONED.fullmatch(name):
        return pa.timestamp(match[1], match[2])
    return pa.type_for_alias(name)


def value_entry(scalar: pa.Scalar) -> Entry:
    """A value: numbers and booleans as they are, everything else as text; None for null.

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
    """A partition column as `{"name", "type", "value"}`."""
    return {"name": name, "type": type_entry(value.type), "value": value_entry(value)}


def parse_partition_entry(entry: Mapping[str, Any]) -> tuple[str, pa.Scalar]:
    """Undo `partition_entry`."""
    return entry["name"], parse_value(entry["value"], flat_type(entry["type"]))


def is_partition_type(data_type: pa.DataType) -> bool:
    """Whether a column of the type can be a partition column: flat, ordered, and exact in JSON."""
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
        return _plain
    raise ValueError(f"a value of type {data_type} has no JSON form")


def _plain(scalar: pa.Scalar) -> Entry:
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

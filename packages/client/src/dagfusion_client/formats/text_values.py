"""Arrow values as JSON and CSV have them. Pure.

| Arrow | JSON | CSV, where it differs |
|---|---|---|
| NULL | null | nothing; an empty text is `""` |
| integers | number, whatever its size | |
| floats | number; `"NaN"`, `"Infinity"`, `"-Infinity"` | |
| decimals | text with all digits of the scale: `"12.50"` | |
| dates, times | text: `"2024-01-15"`, `"12:30:00.000000"` | |
| timestamps | text: `"2024-01-15T12:30:00.000000"`, with the unit's digits; with a time zone: in UTC, with `Z` | |
| durations, intervals | text as in ISO 8601: `"PT1.5S"`, `"P1M2DT0S"` | |
| binary | text in base64 | |
| lists | array | the JSON in one field |
| structs | object | the JSON in one field |
| maps | array of `[key, value]` | the JSON in one field |
| dictionaries | their values | |
"""

import base64
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.errors import UnsupportedTypeError

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_PLAIN_SCALES = range(7)  # in which Arrow writes decimals without an exponent
types = pa.types


def json_values(array: pa.Array) -> list[Any]:
    """Return an array's values as JSON has them: a list with one Python value for each element.

    Raises:
        UnsupportedTypeError: JSON has no such values.
    """
    kind = array.type
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_null(kind) or _is_text(kind):
        return _list(array)
    if types.is_floating(kind):
        return _floats(array)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or _is_list_view(kind):
        return _lists(array)
    if types.is_map(kind):
        return _maps(array)
    if types.is_struct(kind):
        return _structs(array)
    return _texts(array)


def csv_column(array: pa.Array) -> pa.Array:
    """Return an array of the same length, of a type that Arrow's CSV writer writes correctly.

    Raises:
        UnsupportedTypeError: CSV has no such values.
    """
    kind = array.type
    if types.is_boolean(kind) or types.is_integer(kind) or _is_text(kind):
        return array.cast(pa.large_string()) if "view" in str(kind) else array
    if types.is_null(kind):
        return array.cast(pa.string())
    if types.is_floating(kind):
        return _spelled(array) if _has_strange_floats(array) else array
    if types.is_decimal(kind) and kind.scale in _PLAIN_SCALES:
        return array.cast(pa.string())
    if types.is_nested(kind):
        values = json_values(array)
        return pa.array(
            [None if value is None else orjson.dumps(value).decode() for value in values], pa.large_string()
        )
    return pa.array(_texts(array), pa.large_string())


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names of which no two are the same: the second `id` is `id:1`."""
    taken: set[str] = set()
    unique = []
    for name in names:
        other, number = name, 0
        while other in taken or (number and other in names):
            number += 1
            other = f"{name}:{number}"
        taken.add(other)
        unique.append(other)
    return unique


def _list(array: pa.Array) -> list[Any]:
    if array.null_count == 0 and types.is_integer(array.type):
        values: list[Any] = array.to_numpy(zero_copy_only=False).tolist()
    else:
        values = array.to_pylist()
    return values


def _floats(array: pa.Array) -> list[Any]:
    if _has_strange_floats(array):
        return [_float(value) for value in _list_of_floats(array)]
    return _list_of_floats(array)


def _list_of_floats(array: pa.Array) -> list[Any]:
    if types.is_float64(array.type):
        values: list[Any] = array.to_numpy().tolist() if array.null_count == 0 else array.to_pylist()
        return values
    # Through text, which has as many digits as the value: 0.1, where the double nearest to the float has 17.
    texts = array.cast(pa.float32()).cast(pa.string()).to_pylist()
    return [None if text is None else float(text) for text in texts]


def _float(value: float | None) -> Any:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _has_strange_floats(array: pa.Array) -> bool:
    wide = array.cast(pa.float32()) if types.is_float16(array.type) else array
    return pc.all(pc.is_finite(wide)).as_py() is False


def _spelled(array: pa.Array) -> pa.Array:
    wide = array.cast(pa.float32()) if types.is_float16(array.type) else array
    infinite = pc.if_else(pc.greater(wide, 0), "Infinity", "-Infinity")
    strange = pc.if_else(pc.is_nan(wide), "NaN", infinite)
    return pc.if_else(pc.is_finite(wide), wide.cast(pa.string()), strange)


def _lists(array: pa.Array) -> list[Any]:
    values = json_values(array.flatten())
    rows: list[Any] = []
    at = 0
    for length in array.value_lengths().to_pylist() if not types.is_fixed_size_list(array.type) else _fixed(array):
        rows.append(None if length is None else values[at : at + length])
        at += length or 0
    return rows


def _maps(array: pa.Array) -> list[Any]:
    # A cast to lists of structs would damage null columns below lists.
    offsets = array.offsets.to_pylist()
    entries = slice(offsets[0], offsets[-1])
    pairs = list(map(list, zip(json_values(array.keys[entries]), json_values(array.items[entries]), strict=True)))
    spans = zip(offsets, offsets[1:], array.is_valid().to_pylist(), strict=False)
    return [pairs[start - offsets[0] : end - offsets[0]] if valid else None for start, end, valid in spans]


def _fixed(array: pa.Array) -> list[int | None]:
    return [array.type.list_size if valid else None for valid in array.is_valid().to_pylist()]


def _structs(array: pa.Array) -> list[Any]:
    names = unique_names([field.name for field in array.type])
    columns = [json_values(child) for child in array.flatten()]
    rows = zip(*columns, strict=True) if columns else ((),) * len(array)
    valid = array.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if there else None for row, there in zip(rows, valid, strict=True)]


def _texts(array: pa.Array) -> list[Any]:
    for fits, texts in _TEXTS:
        if fits(array.type):
            return texts(array)
    raise UnsupportedTypeError(
        f"a column of the result has type {array.type}, which only the formats arrow and parquet have: cast it"
    )


def _timestamps(array: pa.Array) -> list[Any]:
    utc = array.cast(pa.timestamp(array.type.unit, "UTC")) if array.type.tz else array
    return _list(pc.replace_substring(utc.cast(pa.string()), " ", "T", max_replacements=1))


def _durations(array: pa.Array) -> list[Any]:
    per_second = _PER_SECOND[array.type.unit]
    return [None if v is None else f"PT{_seconds(v, per_second)}S" for v in array.cast(pa.int64()).to_pylist()]


def _interval(value: Any) -> str:
    return f"P{value.months}M{value.days}DT{_seconds(value.nanoseconds, 10**9)}S"


def _seconds(value: int, per_second: int) -> str:
    return format((Decimal(value) / per_second).normalize(), "f")


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(test(kind) for test in tests)


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(types.is_list_view(kind) or types.is_large_list_view(kind))


# What is text in JSON, by the types that it fits.
_TEXTS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array], list[Any]]], ...] = (
    (types.is_dictionary, lambda array: json_values(array.dictionary_decode())),
    (types.is_run_end_encoded, lambda array: json_values(pc.run_end_decode(array))),
    (types.is_timestamp, _timestamps),
    (types.is_date, lambda array: _list(array.cast(pa.string()))),
    (types.is_time, lambda array: _list(array.cast(pa.string()))),
    (types.is_duration, _durations),
    (types.is_interval, lambda array: [None if v is None else _interval(v) for v in array.to_pylist()]),
    (types.is_decimal, lambda array: [None if v is None else format(v, "f") for v in array.to_pylist()]),
    (_is_binary, lambda array: [None if v is None else base64.b64encode(v).decode() for v in array.to_pylist()]),
)

"""Frames of any type that an asset may return, and partitions of any kind that they may belong to."""

import datetime as dt
import decimal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

from dagfusion_contract.layout import HIVE_NULL

Library = Literal["arrow", "polars", "lazy", "pandas", "pandas[pyarrow]"]

MAX_ROWS = 6
NAMES = ["n", "date", "partition", "hour", "a b", 'quo"te', "dot.ted", "ü/日本", "%20", "SELECT", "__index_level_0__"]
ZONES = [None, "UTC", "America/New_York", "EST5EDT", "+05:30", "-03:30"]
UNITS = ["s", "ms", "us", "ns"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
moments = st.datetimes(dt.datetime(1680, 1, 1), dt.datetime(2260, 1, 1))  # noqa: DTZ001 - as Arrow counts them

_INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
flat_types = st.one_of(
    st.sampled_from([*_INTEGERS, pa.bool_(), pa.float16(), pa.float32(), pa.float64(), pa.null()]),
    st.sampled_from(
        [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view()]
    ),
    st.sampled_from([pa.binary(3), pa.date32(), pa.date64(), pa.decimal32(7, 2), pa.decimal64(15, 0)]),
    st.sampled_from([pa.decimal128(38, 10), pa.decimal256(20, 3), pa.decimal256(60, 0)]),
    st.sampled_from([pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]),
    st.builds(pa.timestamp, st.sampled_from(UNITS), st.sampled_from(ZONES)),
    st.builds(pa.duration, st.sampled_from(UNITS)),
    st.builds(pa.dictionary, st.just(pa.int8()), st.sampled_from([pa.string(), pa.int64()])),
)
_KEYS = st.sampled_from([pa.string(), pa.int32()])
_NESTED_NAMES = st.sampled_from(["x", "y", "x.y", "element", ""])
types: st.SearchStrategy[pa.DataType] = st.recursive(
    flat_types,
    lambda inner: st.one_of(
        st.builds(pa.list_, inner),
        st.builds(pa.large_list, inner),
        st.builds(lambda value: pa.list_(value, 2), inner),
        st.builds(pa.map_, _KEYS, inner),
        st.lists(st.tuples(_NESTED_NAMES, inner), max_size=3, unique_by=lambda field: field[0]).map(pa.struct),
    ),
    max_leaves=3,
)
# Parquet, or Arrow's casts, have no place for them.
refused_types = st.sampled_from(
    [
        pa.list_view(pa.int64()),
        pa.run_end_encoded(pa.int16(), pa.int64()),
        pa.month_day_nano_interval(),
        pa.struct([]),
        pa.list_(pa.struct([])),
    ]
)


def values_of(data_type: pa.DataType) -> st.SearchStrategy[Any]:
    """Values of the type as Python has them, nulls included."""
    return st.none() if pa.types.is_null(data_type) else st.one_of(st.none(), _known_values(data_type))


def _known_values(data_type: pa.DataType) -> st.SearchStrategy[Any]:  # noqa: PLR0911 - one a kind of type
    kinds = pa.types
    if kinds.is_dictionary(data_type):
        return values_of(data_type.value_type)
    if kinds.is_run_end_encoded(data_type):
        return st.integers(-5, 5)
    if kinds.is_interval(data_type):
        return st.just(pa.MonthDayNano([1, 2, 3]))
    if kinds.is_map(data_type):
        pairs = st.tuples(_known_values(data_type.key_type), values_of(data_type.item_type))
        return st.lists(pairs, max_size=2, unique_by=lambda pair: pair[0])
    if kinds.is_struct(data_type):
        fields = [data_type.field(index) for index in range(data_type.num_fields)]
        return st.fixed_dictionaries({field.name: values_of(field.type) for field in fields})
    if kinds.is_fixed_size_list(data_type):
        return st.lists(values_of(data_type.value_type), min_size=2, max_size=2)
    if kinds.is_nested(data_type):
        return st.lists(values_of(data_type.value_type), max_size=3)
    return _flat_values(data_type)


def _flat_values(data_type: pa.DataType) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911 - one a kind of type
    kinds = pa.types
    if kinds.is_boolean(data_type):
        return st.booleans()
    if kinds.is_signed_integer(data_type):
        return st.integers(-(2 ** (data_type.bit_width - 1)), 2 ** (data_type.bit_width - 1) - 1)
    if kinds.is_unsigned_integer(data_type):
        return st.integers(0, 2**data_type.bit_width - 1)
    if kinds.is_floating(data_type):
        return st.floats(width=data_type.bit_width)
    if kinds.is_fixed_size_binary(data_type):
        return st.binary(min_size=3, max_size=3)
    if kinds.is_binary(data_type) or kinds.is_large_binary(data_type) or kinds.is_binary_view(data_type):
        return st.binary(max_size=5)
    if kinds.is_decimal(data_type):
        digits = 10**data_type.precision - 1
        return st.integers(-digits, digits).map(lambda n: decimal.Decimal(n).scaleb(-data_type.scale, _WIDE))
    if kinds.is_date64(data_type):
        return st.integers(-(10**5), 10**5).map(lambda day: day * 86_400_000)
    if kinds.is_date32(data_type):
        return st.dates()
    if kinds.is_time(data_type):
        return st.integers(0, 86_399).map(lambda seconds: seconds * _TICKS[data_type.unit])
    if kinds.is_timestamp(data_type):
        return moments.map(lambda moment: int((moment - _EPOCH).total_seconds()) * _TICKS[data_type.unit])
    if kinds.is_duration(data_type):
        return st.integers(-(10**8), 10**8).map(lambda seconds: seconds * _TICKS[data_type.unit])
    return texts


_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - Arrow counts from it
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_WIDE = decimal.Context(prec=80)


@dataclass(frozen=True)
class Returned:
    """A frame as an asset returns it, and the table it stands for."""

    value: Any
    table: pa.Table


@st.composite
def tables(draw: st.DrawFn, *, without: Sequence[str] = ()) -> pa.Table:
    """A table of any columns, of which one in ten has a type that is refused."""
    free = [name for name in NAMES if name not in without]
    name = st.one_of(st.sampled_from(free), texts.filter(lambda text: text not in without))
    names = draw(st.lists(name, min_size=1, max_size=4, unique=True))
    count = draw(st.integers(0, MAX_ROWS))
    kinds = [draw(types) for _ in names]
    if draw(st.integers(0, 9)) == 9:
        kinds[0] = draw(refused_types)
    columns = [_array(draw(st.lists(values_of(kind), min_size=count, max_size=count)), kind) for kind in kinds]
    return pa.table(columns, names=names)


def is_refused(kind: pa.DataType) -> bool:
    """Return True if no Parquet file can have a column of the type, or if Arrow cannot cast it to one that can."""
    types = (pa.types.is_list_view, pa.types.is_run_end_encoded, pa.types.is_interval)
    if any(of_type(kind) for of_type in types) or (pa.types.is_struct(kind) and not kind.num_fields):
        return True
    return pa.types.is_nested(kind) and any(is_refused(kind.field(index).type) for index in range(kind.num_fields))


def is_too_wide_for_polars(kind: pa.DataType) -> bool:
    """Return True if a stored column of the type has more digits than polars' decimals."""
    if pa.types.is_dictionary(kind) or not pa.types.is_nested(kind):
        return bool(pa.types.is_decimal(kind)) and kind.precision > pa.decimal128(38).precision
    return any(is_too_wide_for_polars(kind.field(index).type) for index in range(kind.num_fields))


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_run_end_encoded(kind):
        return pa.compute.run_end_encode(pa.array(values, kind.value_type), kind.run_end_type)
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def returned(table: pa.Table, library: Library) -> Returned | None:
    """The table as a frame of the library, or None where the library itself cannot hold it."""
    if library == "arrow":
        return Returned(table, table)
    try:
        if library in {"polars", "lazy"}:
            frame = pl.DataFrame(table)
            own = frame.to_arrow()
            return Returned(frame if library == "polars" else frame.lazy(), own)
        pandas = table.to_pandas(**({"types_mapper": _pandas_arrow()} if library == "pandas[pyarrow]" else {}))
        own = pa.Table.from_pandas(pandas, preserve_index=False)
        if library == "pandas":
            own.validate(full=True)  # texts mixed with bytes below a list are no strings
    except (
        pa.ArrowException,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        ValueError,
        TypeError,
        OverflowError,
    ):
        return None
    return Returned(pandas, own.replace_schema_metadata(None))


def _pandas_arrow() -> Any:
    import pandas as pd  # noqa: PLC0415 - only one of the libraries needs it

    return pd.ArrowDtype


@dataclass(frozen=True)
class Layout:
    """Partitions of an asset, the key that a run writes, and the columns that the IO manager derives from it."""

    definition: dg.PartitionsDefinition[Any] | None
    key: str | None
    columns: Mapping[str, pa.Scalar]


_KEY_TEXTS = st.one_of(
    st.sampled_from(["CA", "a/b", "..", ".", "100%", "x=y", "ü 日本", "NULL", HIVE_NULL, "2024-01-01", "7", "true"]),
    texts.filter(lambda text: text and not set("|,[]") & set(text) and "..." not in text and text.isprintable()),
)
_DAY = dt.date(2024, 3, 10)


def _text(key: str) -> pa.Scalar:
    return pa.scalar(None if key == HIVE_NULL else key, pa.string())


@st.composite
def layouts(draw: st.DrawFn, *, dimensions: int) -> Layout:
    """Partitions of up to so many dimensions."""
    daily = dg.DailyPartitionsDefinition("2024-03-01", end_date="2024-03-12")
    hourly = dg.HourlyPartitionsDefinition("2024-03-10-00:00", end_date="2024-03-11-00:00")
    key = draw(_KEY_TEXTS)
    static = dg.StaticPartitionsDefinition([key, "other key"])
    choices = [
        Layout(None, None, {}),
        Layout(daily, "2024-03-10", {"date": pa.scalar(_DAY)}),
        Layout(hourly, "2024-03-10-05:00", {"hour": pa.scalar(dt.datetime(2024, 3, 10, 5), pa.timestamp("us"))}),  # noqa: DTZ001
        Layout(static, key, {"partition": _text(key)}),
    ]
    if dimensions > 1:
        both = dg.MultiPartitionsDefinition({"day": daily, "kind": static})
        multi = dg.MultiPartitionKey({"day": "2024-03-10", "kind": key})
        choices.append(Layout(both, multi, {"kind": _text(key), "day": pa.scalar(_DAY)}))
    return draw(st.sampled_from(choices))

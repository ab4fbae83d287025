"""What an asset may return, what an input may ask for, and the types in between."""

import datetime as dt
import decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_pipeline.errors import ColumnTypeError, FrameError
from dagfusion_pipeline.frames import read_frame, requested_type
from dagfusion_pipeline.storable import storable_type

FRAMES = [
    pl.DataFrame({"n": [1, 2], "s": ["a", None]}),
    pl.LazyFrame({"n": [1, 2], "s": ["a", None]}),
    pa.table({"n": [1, 2], "s": ["a", None]}),
    pd.DataFrame({"n": [1, 2], "s": ["a", None]}),
]


def as_table(value: object) -> pa.Table:
    frame = read_frame(value, "a")
    return pa.concat_tables([frame.schema.empty_table(), *frame.tables])


@pytest.mark.parametrize(
    "value", FRAMES, ids=lambda value: f"{type(value).__module__.partition('.')[0]}-{type(value).__name__}"
)
def test_every_frame_is_the_same_table(value: object) -> None:
    assert as_table(value).equals(pa.table({"n": [1, 2], "s": ["a", None]}))


def test_only_lazy_frames_are_streamed() -> None:
    assert [read_frame(value, "a").streamed for value in FRAMES] == [False, True, False, False]


@pytest.mark.parametrize("value", [None, [], {"n": [1]}, pl.Series([1]), "text"])
def test_other_values_are_refused(value: object) -> None:
    expected = (
        r"asset 'a' must return a polars\.DataFrame, polars\.LazyFrame, pyarrow\.Table or pandas\.DataFrame; got "
    )
    with pytest.raises(FrameError, match=expected + type(value).__qualname__):
        read_frame(value, "a")


def test_none_is_told_how_to_say_nothing() -> None:
    with pytest.raises(FrameError, match=r"annotate the asset with -> None"):
        read_frame(None, "a")


def test_frames_without_columns_are_refused() -> None:
    with pytest.raises(FrameError, match=r"asset 'a' must return a frame with columns"):
        read_frame(pl.DataFrame(), "a")


def test_columns_of_one_name_are_refused() -> None:
    with pytest.raises(FrameError, match=r"got 'n' more than once"):
        read_frame(pa.table([pa.array([1]), pa.array([2])], names=["n", "n"]), "a")


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("data_type", "values"),
    [
        (pl.Object, [object()]),
        (pl.Int128, [1]),
        (pl.UInt128, [1]),
        (pl.List(pl.Int128), [[1]]),
        (pl.Struct({"x": pl.Array(pl.Int128, 1)}), [{"x": [1]}]),
    ],
)
def test_polars_types_without_a_place_in_parquet(data_type: Any, values: list[Any], lazy: bool) -> None:  # noqa: FBT001
    frame = pl.DataFrame({"ok": [1], "bad": pl.Series(values, dtype=data_type)})
    with pytest.raises(
        ColumnTypeError, match=r"column 'bad' of asset 'Silver/x' has type .*, which Parquet cannot hold"
    ):
        read_frame(frame.lazy() if lazy else frame, "Silver/x")


@pytest.mark.parametrize(
    "data_type",
    [
        pa.month_day_nano_interval(),
        pa.dense_union([pa.field("x", pa.int8())]),
        pa.run_end_encoded(pa.int32(), pa.int8()),
        pa.struct([]),
        pa.list_view(pa.int8()),
        pa.list_(pa.struct([pa.field("x", pa.month_day_nano_interval())])),
        pa.map_(pa.string(), pa.struct([])),
    ],
)
def test_arrow_types_without_a_place_in_parquet(data_type: pa.DataType) -> None:
    table = pa.table({"ok": pa.nulls(1, pa.int8()), "bad": pa.nulls(1, data_type)})
    with pytest.raises(ColumnTypeError, match=r"column 'bad' of asset 'a' has type .*: cast it or leave it out"):
        read_frame(table, "a")


def test_pandas_columns_of_mixed_types_are_refused() -> None:
    with pytest.raises(ColumnTypeError, match=r"asset 'a' returned a pandas DataFrame that Arrow cannot hold"):
        read_frame(pd.DataFrame({"x": [1, "a"]}), "a")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (pa.large_string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.large_binary(), pa.binary()),
        (pa.binary_view(), pa.binary()),
        (pa.dictionary(pa.int8(), pa.large_string()), pa.string()),
        (
            pa.large_list(pa.field("x", pa.large_string(), nullable=False)),
            pa.list_(pa.field("item", pa.string(), nullable=False)),
        ),
        (pa.list_(pa.int8(), 3), pa.list_(pa.int8())),
        (pa.map_(pa.large_string(), pa.string_view()), pa.map_(pa.string(), pa.string())),
        (pa.struct([pa.field("x", pa.timestamp("s"))]), pa.struct([pa.field("x", pa.timestamp("ms"))])),
        (pa.timestamp("s", "UTC"), pa.timestamp("ms", "UTC")),
        (pa.time32("s"), pa.time32("ms")),
        (pa.date64(), pa.date32()),
        (pa.decimal64(5, 1), pa.decimal128(5, 1)),
        (pa.decimal256(10, 2), pa.decimal128(10, 2)),
        (pa.uuid(), pa.binary(16)),
        (pa.json_(), pa.string()),
        (pa.bool8(), pa.int8()),
    ],
)
def test_types_become_what_a_file_returns(given: pa.DataType, stored: pa.DataType) -> None:
    assert storable_type(given) == stored
    table = as_table(pa.schema([("x", given)]).empty_table())
    assert table.schema == pa.schema([("x", stored)])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    assert pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema_arrow.field("x").type == stored


KEPT = [
    pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.binary(),
    pa.binary(4), pa.date32(), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.timestamp("ns"),
    pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.duration("us"), pa.decimal128(38, 2),
    pa.decimal256(50, 2), pa.null(),
]  # fmt: skip


@pytest.mark.parametrize("data_type", KEPT, ids=str)
def test_types_that_stay(data_type: pa.DataType) -> None:
    assert storable_type(data_type) == data_type
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": pa.nulls(2, data_type)}), sink)
    assert pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema_arrow.field("x").type == data_type


def test_views_keep_their_values() -> None:
    columns = {
        "s": pa.array(["a", None, "a long text outside the view", ""], pa.string_view()),
        "d": pa.array(["x", None, "y", "x"]).dictionary_encode(),
    }
    table = as_table(pa.table(columns).slice(1))
    assert table.schema == pa.schema([("s", pa.string()), ("d", pa.string())])
    assert table.to_pydict() == pa.table(columns).slice(1).to_pydict()


def test_values_survive() -> None:
    frame = pl.DataFrame(
        {
            "e": pl.Series(["b", None, "a"], dtype=pl.Enum(["a", "b"])),
            "c": pl.Series(["x", "x", None], dtype=pl.Categorical),
            "l": [["ü"], None, []],
            "d": pl.Series([decimal.Decimal("1.20"), None, decimal.Decimal("-3.00")], dtype=pl.Decimal(12, 2)),
            "t": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), None, dt.datetime(2025, 1, 1, tzinfo=dt.UTC)],
            "s": [{"x": 1}, {"x": None}, {"x": 3}],
        }
    )
    assert pl.DataFrame(pl.from_arrow(as_table(frame))).rows() == frame.rows()


def test_metadata_is_dropped() -> None:
    table = pa.table({"x": [1]}, schema=pa.schema([pa.field("x", pa.int8(), metadata={"a": "b"})], metadata={"c": ""}))
    schema = as_table(table).schema
    assert schema.metadata is None
    assert schema.field("x").metadata is None


def test_dates_with_hours_are_refused() -> None:
    with pytest.raises(ColumnTypeError, match=r"column 'x' of asset 'a' cannot be written as date32\[day\]"):
        as_table(pa.table({"x": pa.array([1], pa.date64())}))


def test_named_index_is_data_and_unnamed_is_not() -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="key"))
    assert as_table(frame).column_names == ["key", "x"]
    assert as_table(frame.rename_axis(None)).column_names == ["x"]


def test_index_levels_that_are_columns_too_are_one_column() -> None:
    frame = pd.DataFrame({"id": [2, 1], "v": [3.5, None]})
    expected = pa.table({"id": [2, 1], "v": [3.5, None]})
    assert as_table(frame.set_index("id", drop=False)).equals(expected)
    assert as_table(frame.set_index(["id", "v"], drop=False)).equals(expected)
    assert as_table(frame.set_index(["id", "v"], drop=False).drop(columns="id")).equals(expected)
    assert as_table(frame.iloc[:0].set_index("id", drop=False)).column_names == ["id", "v"]


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["state", None], ["state", "level_1", "v"]),
        ([None, "state"], ["level_0", "state", "v"]),
        ([None, None], ["level_0", "level_1", "v"]),
    ],
)
def test_index_levels_without_names_are_named_as_pandas_does(names: list[str | None], columns: list[str]) -> None:
    index = pd.MultiIndex.from_tuples([("CA", 1), ("NY", 2)], names=names)
    frame = pd.DataFrame({"v": [1, 2]}, index=index)
    assert as_table(frame).column_names == columns == list(frame.reset_index().columns)
    assert as_table(frame).to_pylist() == frame.reset_index().to_dict("records")


def test_datetimes_in_an_index_without_a_name_are_data() -> None:
    days = pd.date_range("2024-01-01", periods=2)
    assert as_table(pd.DataFrame({"x": [1, 2]}, index=days)).to_pydict() == {"index": list(days), "x": [1, 2]}


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame([[1, 2]], columns=["x", "x"]),
        pd.DataFrame([[1, 2]], columns=["1", 1]),
        pd.DataFrame({"x": [1, 2]}, index=pd.Index([2, 1], name="x")),
        pd.DataFrame({"v": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)], names=["x", "x"])),
        pd.DataFrame([[1, 2]], columns=["x", "x"], index=pd.Index([1], name="x")),
    ],
)
def test_pandas_names_of_two_columns_are_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(FrameError, match=r"must return columns of different names; got '[x1]' more than once"):
        as_table(frame)


def test_arrow_periods_are_refused_because_their_numbers_mean_nothing_without_a_frequency() -> None:
    frame = pd.DataFrame({"x": pd.period_range("2024-01", periods=2, freq="M")})
    with pytest.raises(ColumnTypeError, match=r"column 'x' of asset 'a' has type extension<pandas.period<"):
        as_table(pa.Table.from_pandas(frame))


@pytest.mark.parametrize("values", [[2**70], [object()], [1j]])
def test_pandas_values_without_an_arrow_type_are_refused(values: list[object]) -> None:
    with pytest.raises(ColumnTypeError, match=r"asset 'a' returned a pandas DataFrame that Arrow cannot hold"):
        as_table(pd.DataFrame({"x": values}, dtype=object))


def test_empty_frames_keep_their_schema() -> None:
    schema = pl.Schema({"n": pl.Int32, "s": pl.String})
    expected = pa.schema([("n", pa.int32()), ("s", pa.string())])
    assert as_table(pl.DataFrame(schema=schema)).schema == as_table(pl.LazyFrame(schema=schema)).schema == expected


@pytest.mark.parametrize("frame_type", [pl.DataFrame, pl.LazyFrame, pa.Table, pd.DataFrame])
def test_inputs_get_what_they_ask_for(frame_type: type) -> None:
    loaded = requested_type(frame_type, "a").frame_type.from_arrow(pa.table({"n": [1, 2]}))
    assert isinstance(loaded, frame_type)
    assert as_table(loaded).equals(pa.table({"n": [1, 2]}))


@pytest.mark.parametrize("data_type", [pa.decimal256(39, 0), pa.list_(pa.struct([("x", pa.decimal256(60, 2))]))])
def test_decimals_that_polars_cannot_hold_are_refused_by_name(data_type: pa.DataType) -> None:
    table = pa.table({"n": [1], "wide": pa.nulls(1, data_type)})
    for annotation in (pl.DataFrame, pl.LazyFrame, Any):
        with pytest.raises(FrameError, match=r"no decimals of more than 38 digits, which columns \['wide'\] are"):
            requested_type(annotation, "a").frame_type.from_arrow(table)
    assert requested_type(pa.Table, "a").frame_type.from_arrow(table) is table


def test_unannotated_inputs_get_polars() -> None:
    assert isinstance(requested_type(Any, "a").frame_type.from_arrow(pa.table({"n": [1]})), pl.DataFrame)


@pytest.mark.parametrize(
    "frame_type", [dict, dict[str, int], pl.Series, int, int | None, pl.DataFrame | pa.Table | None]
)
def test_other_annotations_are_refused(frame_type: object) -> None:
    expected = r"an input that loads asset 'a' must be annotated with polars\.DataFrame, .* or pandas\.DataFrame; got "
    with pytest.raises(FrameError, match=expected):
        requested_type(frame_type, "a")

"""Columns that Arrow, polars or pandas cannot convert as they are: converted in another way, or an error of ours."""

import datetime as dt
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_pipeline.errors import ColumnTypeError, FrameError
from dagfusion_pipeline.frame_types import FRAME_TYPES, _PolarsFrames
from dagfusion_pipeline.frames import read_frame, requested_type
from dagfusion_pipeline.polars_frames import polars_from_arrow
from dagfusion_pipeline.reader import unify
from dagfusion_pipeline.storable import storable_schema

MOMENT = dt.datetime(2024, 1, 1, 6, tzinfo=dt.UTC)


@pytest.mark.parametrize("zone", ["+05:30", "-0330", "+05", "+00:00", "Z"])
def test_instants_at_an_offset_are_in_utc_at_any_depth(zone: str) -> None:
    kind = pa.timestamp("us", zone)
    table = pa.table(
        {
            "at": pa.array([MOMENT, None], kind),
            "list": pa.array([[MOMENT], None], pa.list_(kind)),
            "map": pa.array([[("k", MOMENT)], None], pa.map_(pa.string(), kind)),
            "struct": pa.array([{"x": MOMENT, "y": 1}, None], pa.struct([("x", kind), ("y", pa.int8())])),
        }
    )

    frame = polars_from_arrow(table)

    utc = pl.Datetime("us", "UTC")
    assert (frame.schema["at"], frame.schema["list"]) == (utc, pl.List(utc))
    assert frame.schema["struct"] == pl.Struct({"x": utc, "y": pl.Int8})
    assert frame["at"].to_list() == [MOMENT, None]
    assert frame["list"].to_list() == [[MOMENT], None]
    assert frame["struct"].to_list() == [{"x": MOMENT, "y": 1}, None]
    assert "datetime.datetime(2024, 1, 1, 6, 0, tzinfo" in str(frame["map"].to_list())  # dicts, before polars 2 lists


def test_a_zone_of_the_database_stays() -> None:
    frame = polars_from_arrow(pa.table({"at": pa.array([MOMENT], pa.timestamp("us", "America/New_York"))}))

    assert frame.schema["at"] == pl.Datetime("us", "America/New_York")


def test_a_null_above_an_empty_dictionary_is_a_null() -> None:
    coded = pa.list_(pa.dictionary(pa.int8(), pa.int64()), 2)
    table = pa.table({"x": pa.array([{"codes": None}, None], pa.struct([("codes", coded)]))})

    [stored] = read_frame(table, "codes", FRAME_TYPES).tables

    assert stored.schema.field("x").type == pa.struct([("codes", pa.list_(pa.int64()))])
    assert stored["x"].to_pylist() == [{"codes": None}, None]


class OlderFrames(_PolarsFrames):
    """A type of frame that was written before `is_asked` was renamed."""

    def is_asked(self, annotation: object) -> bool:
        return annotation is pl.LazyFrame


def test_the_older_name_of_matches_can_be_overridden_and_called() -> None:
    older = OlderFrames()

    assert [older.matches(pl.LazyFrame), older.matches(pl.DataFrame)] == [True, False]
    assert requested_type(pl.LazyFrame, "rows", [older]).frame_type is older
    assert [one.is_asked(pl.DataFrame) for one in FRAME_TYPES[:2]] == [True, False]


@pytest.mark.parametrize("annotation", [pl.DataFrame, pl.LazyFrame, pd.DataFrame])
def test_a_zone_that_a_library_does_not_know_is_an_error_of_ours(annotation: type) -> None:
    table = pa.table({"at": pa.array([MOMENT], pa.timestamp("us", "Mars/Base"))})
    [frame_type] = [one for one in FRAME_TYPES if one.matches(annotation)]

    with pytest.raises(
        FrameError, match=r"cannot hold the columns \['at'\]: .*Mars/Base.*annotate the input with pyarrow.Table"
    ):
        frame_type.from_arrow(table)


@pytest.mark.parametrize(
    "frame",
    [
        pa.table({"a\0b": [1]}),
        pa.table({"s": pa.array([{"x\0": 1}])}),
        pl.DataFrame({"a\0b": [1]}),
        pl.LazyFrame({"a\0b": [1]}),
        pd.DataFrame({"a\0b": [1]}),
    ],
)
def test_a_nul_character_in_a_name_is_refused(frame: Any) -> None:
    with pytest.raises(FrameError, match="NUL characters"):
        storable_schema(read_frame(frame, "asset", FRAME_TYPES).schema, "asset")


NULL_LISTS = [
    pa.array([[None, None], None, [], [None] * 5], pa.list_(pa.null())),
    pa.array([[None, None], None, [], [None] * 5], pa.large_list(pa.null())),
    pa.array([[None, None], None, [None, None]], pa.list_(pa.null(), 2)),
    pa.array([[[None] * 3], None, [[], [None]]], pa.list_(pa.large_list(pa.null()))),
    pa.array([[("k", [None] * 3)], None, [("l", None)]], pa.map_(pa.string(), pa.large_list(pa.null()))),
    pa.array([{"x": [None] * 3}, None, {"x": None}], pa.struct([("x", pa.large_list(pa.null()))])),
]


def as_pairs(value: Any) -> Any:
    """The entries of maps as pairs; before polars 2 they are structs."""
    if isinstance(value, dict):
        return tuple(value.values()) if list(value) == ["key", "value"] else value
    return [as_pairs(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("rows", [slice(None), slice(1, None)])
@pytest.mark.parametrize("values", NULL_LISTS, ids=lambda values: str(values.type))
def test_nulls_below_lists_are_as_many_as_they_were(values: pa.Array, rows: slice) -> None:
    table = pa.table({"x": values, "at": pa.nulls(len(values), pa.timestamp("us", "+05:30"))})[rows]

    [stored] = read_frame(table, "nulls", FRAME_TYPES).tables
    stored.validate(full=True)
    assert stored["x"].to_pylist() == table["x"].to_pylist()

    loaded = polars_from_arrow(stored).to_arrow()
    assert loaded.num_rows == table.num_rows
    assert as_pairs(loaded["x"].to_pylist()) == as_pairs(table["x"].to_pylist())


@pytest.mark.parametrize("values", NULL_LISTS, ids=lambda values: str(values.type))
def test_nulls_below_lists_are_as_many_beside_a_partition_with_more_fields(values: pa.Array) -> None:
    narrow = pa.table({"x": pa.array([{"a": value} for value in values.to_pylist()], pa.struct([("a", values.type)]))})
    wide = pa.table({"x": pa.array([{"a": None, "b": 1}], pa.struct([("a", values.type), ("b", pa.int64())]))})

    both = unify("nulls", {"one": narrow, "two": wide, "three": pa.table({"y": [1]})})

    both.validate(full=True)
    known = [{**row, "b": None} for row in narrow["x"].to_pylist()]
    assert both["x"].to_pylist() == [*known, {"a": None, "b": 1}, None]


def test_texts_mixed_with_bytes_below_a_list_are_refused() -> None:
    frame = pd.DataFrame({"x": [[("k", b"\x95")]]})

    with pytest.raises(ColumnTypeError, match=r"asset 'mixed' returned a pandas DataFrame that Arrow cannot hold"):
        read_frame(frame, "mixed", FRAME_TYPES)

"""Statistics out of footers: exact, or not there."""

import datetime as dt
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import datafusion
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import UndiscoverableError
from dagfusion_query.catalog.segments import read_bounds, statistics_type
from dagfusion_query.discovery.footer import Tail, describe, footer_bytes
from dagfusion_query.event_log.stored_event import EventReader

Columns = dict[str, dict[str, Any]]
NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def columns_of(data: bytes) -> Columns:
    columns: Columns = described(data)["columns"]
    return columns


def described(data: bytes) -> dict[str, Any]:
    return describe("s3://bucket/a.parquet", Tail(data, len(data), None, NOW)).with_partition(())


def arrow(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_bounds_are_written_as_the_contract_says() -> None:
    table = pa.table(
        {
            "whole": pa.array([3, None, -7], pa.int16()),
            "unsigned": pa.array([1, 2**64 - 1, 5], pa.uint64()),
            "flag": [True, False, None],
            "text": ["b", "ä", "a"],
            "dictionary": pa.array(["y", "x", "y"]).dictionary_encode(),
            "day": [dt.date(2024, 2, 29), dt.date(1960, 1, 1), None],
            "naive": pa.array([0, 1_704_070_923_000_004, None], pa.timestamp("us")),
            "aware": pa.array([-1, 5, None], pa.timestamp("ns", "Europe/Berlin")),
            "money": pa.array([Decimal("-1.25"), Decimal("3.50"), None], pa.decimal128(20, 2)),
            "nothing": pa.nulls(3, pa.int64()),
        }
    )
    columns = columns_of(arrow(table, store_decimal_as_integer=False))
    assert columns["whole"] == {"nulls": 1, "min": -7, "max": 3}
    assert columns["unsigned"] == {"nulls": 0, "min": 1, "max": 2**64 - 1}
    assert columns["flag"] == {"nulls": 1, "min": False, "max": True}
    assert columns["text"] == {"nulls": 0, "min": "a", "max": "ä"}
    assert columns["dictionary"] == {"nulls": 0, "min": "x", "max": "y"}
    assert columns["day"] == {"nulls": 1, "min": "1960-01-01", "max": "2024-02-29"}
    assert columns["naive"] == {"nulls": 1, "min": "1970-01-01T00:00:00.000000", "max": "2024-01-01T01:02:03.000004"}
    aware = {"nulls": 1, "min": "1969-12-31T23:59:59.999999999Z", "max": "1970-01-01T00:00:00.000000005Z"}
    assert columns["aware"] == aware
    assert columns["money"] == {"nulls": 1, "min": "-1.25", "max": "3.50"}
    assert columns["nothing"] == {"nulls": 3}


def test_what_is_not_sure_is_left_out() -> None:
    table = pa.table(
        {
            "float": [1.0, float("nan")],
            "half": pa.array([1.0, 2.0], pa.float16()),
            "long": ["a" * 65, "b"],
            "bytes": [b"a", b"b"],
            "list": [[1], [2]],
            "struct": [{"a": 1}, {"a": 2}],
            "after": [1, 2],
            "far": pa.array([0, 2**62], pa.timestamp("us")),
        }
    )
    columns = columns_of(arrow(table))
    assert {name: known for name, known in columns.items() if known != {"nulls": 0}} == {
        "after": {"nulls": 0, "min": 1, "max": 2}
    }
    assert "list" not in columns


@pytest.mark.parametrize("flavor", ["int96", "no statistics", "seconds"])
def test_timestamps_that_are_stored_otherwise_have_no_bounds(flavor: str) -> None:
    table = pa.table({"at": pa.array([0, 10], pa.timestamp("s" if flavor == "seconds" else "ns"))})
    options = {"int96": {"use_deprecated_int96_timestamps": True}, "no statistics": {"write_statistics": False}}
    columns = columns_of(arrow(table, **options.get(flavor, {})))
    if "min" in columns.get("at", {}):
        assert columns["at"]["max"].startswith("1970-01-01T00:00:10")


def test_polars_and_others_cut_strings_short() -> None:
    frame = pl.DataFrame({"long": ["a" * 100, "z" * 100], "nan": [1.0, float("nan")], "n": [1, 2]})
    sink = io.BytesIO()
    frame.write_parquet(sink)
    assert columns_of(sink.getvalue()) == {
        "long": {"nulls": 0},
        "nan": {"nulls": 0},
        "n": {"nulls": 0, "min": 1, "max": 2},
    }


@pytest.mark.parametrize("writer", ["duckdb", "datafusion"])
def test_other_writers(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "x.parquet"
    query = (
        f"COPY (SELECT * FROM (VALUES (repeat('a', 300), 1, 1.5), (repeat('z', 300), 2, 2.5)) t(s, n, f)) TO '{path}'"
    )
    if writer == "duckdb":
        duckdb.sql(query)
    else:
        datafusion.SessionContext().sql(query).collect()
    columns = columns_of(path.read_bytes())
    assert columns["n"] == {"nulls": 0, "min": 1, "max": 2}
    assert "min" not in columns.get("s", {})


def test_row_groups_are_put_together() -> None:
    table = pa.table({"n": [None, None, 5, 1, None, 9], "s": ["b", "a", None, None, "c", "d"]})
    columns = columns_of(arrow(table, row_group_size=2))
    assert columns == {"n": {"nulls": 3, "min": 1, "max": 9}, "s": {"nulls": 2, "min": "a", "max": "d"}}
    assert columns_of(arrow(table.slice(0, 0))) == {"n": {"nulls": 0}, "s": {"nulls": 0}}


ORDERED: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int8": (pa.int8(), st.integers(-128, 127)),
    "uint32": (pa.uint32(), st.integers(0, 2**32 - 1)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "bool": (pa.bool_(), st.booleans()),
    "text": (pa.string(), st.text(max_size=70)),
    "day": (pa.date32(), st.dates()),
    "at": (pa.timestamp("us"), st.datetimes()),
    "ms": (pa.timestamp("ms", "UTC"), st.integers(-(2**50), 2**50)),
    "small": (pa.decimal128(7, 3), st.integers(-(10**7) + 1, 10**7 - 1).map(lambda n: Decimal(n).scaleb(-3))),
    "large": (pa.decimal128(38, 10), st.integers(-(10**27), 10**27).map(lambda n: Decimal(n).scaleb(-10))),
    "double": (pa.float64(), st.floats()),
}


def polars_writes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    frame.write_parquet(sink, row_group_size=3)
    return sink.getvalue()


def arrow_writes(table: pa.Table) -> bytes:
    return arrow(table, row_group_size=3)


@pytest.mark.parametrize("write", [arrow_writes, polars_writes])
@given(data=st.data())
def test_a_bound_is_the_columns_own_minimum_or_maximum(data: st.DataObject, write: Callable[[pa.Table], bytes]) -> None:
    name = data.draw(st.sampled_from(sorted(ORDERED)))
    kind, values = ORDERED[name]
    column = pa.array(data.draw(st.lists(st.none() | values, max_size=8)), kind)
    record = described(write(pa.table({name: column})))
    file = EventReader().read(record)
    (bounds,) = read_bounds(statistics_type(file.layout.file), [file.columns]).flatten()
    low, high, nulls = bounds.flatten()
    assert nulls[0].as_py() in (None, column.null_count)
    expected = pc.min_max(column)
    assert not low[0].is_valid or low[0].equals(expected["min"])
    assert not high[0].is_valid or high[0].equals(expected["max"])
    if name in ("int8", "int64", "uint32", "day", "small", "large") and len(column) > column.null_count:
        assert low[0].is_valid, "it is known"


def test_types_are_described_as_our_writers_describe_them() -> None:
    table = pa.table(
        {
            "large": pa.array(["a"], pa.large_string()),
            "view": pa.array(["a"], pa.string_view()),
            "dictionary": pa.array(["a"]).dictionary_encode(),
            "list": pa.array([[1]], pa.large_list(pa.int8())),
            "fixed": pa.array([[1, 2]], pa.list_(pa.int8(), 2)),
            "map": pa.array([[("a", 1)]], pa.map_(pa.large_string(), pa.int8())),
            "uuid": pa.array([b"0123456789abcdef"], pa.uuid()),
        }
    )
    fields = {field["name"]: field["type"] for field in described(arrow(table))["schema"]["fields"]}
    assert (fields["large"], fields["view"], fields["dictionary"]) == ("string", "string", "string")
    assert fields["list"]["list"]["type"] == fields["fixed"]["list"]["type"] == "int8"
    assert [field["type"] for field in fields["map"]["map"]] == ["string", "int8"]
    assert fields["uuid"] == "fixed_size_binary[16]"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"a,b\n1,2\n", "not Parquet: the file does not end with the bytes PAR1"),
        (b"PAR1" + b"\xff\xff\xff\x7fPAR1", "its footer has 2,147,483,655 bytes, and the file 12 bytes"),
        (b"PAR1xxxx\x04\x00\x00\x00PAR1", "its Parquet footer cannot be read"),
        (b"PAR1xxxx\x04\x00\x00\x00PARE", "encrypted"),
    ],
)
def test_what_is_not_parquet_says_so(data: bytes, reason: str) -> None:
    tail = Tail(data, len(data), None, NOW)
    with pytest.raises(UndiscoverableError, match=reason):
        look_at(tail)


def look_at(tail: Tail) -> None:
    assert footer_bytes(tail) <= tail.size
    describe("s3://bucket/a", tail)

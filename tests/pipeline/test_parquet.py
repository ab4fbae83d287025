"""The files: what is in their columns, their footer and their statistics."""

import datetime as dt
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_pipeline import parquet
from dagfusion_pipeline.parquet import FileFacts, ParquetEncoder, ParquetFile, decode

NOWHERE = Path("/nowhere")


def encode(*tables: pa.Table, spill: Path = NOWHERE) -> ParquetFile:
    encoder = ParquetEncoder(tables[0].schema, "zstd", [], spill)
    for table in tables:
        encoder.write(table)
    return encoder.finish()


def facts_of(values: Sequence[object], data_type: pa.DataType) -> dict[str, Any]:
    return dict(encode(pa.table({"x": pa.array(values, data_type)})).facts.columns["x"])


def content_of(file: ParquetFile) -> pa.Buffer:
    assert isinstance(file.content, pa.Buffer)
    return file.content


@pytest.mark.parametrize(
    ("values", "data_type", "facts"),
    [
        ([3, None, 1], pa.int64(), {"min": 1, "max": 3, "nulls": 1}),
        ([2**64 - 1], pa.uint64(), {"min": 2**64 - 1, "max": 2**64 - 1, "nulls": 0}),
        ([1.5, -2.0], pa.float64(), {"min": -2.0, "max": 1.5, "nulls": 0}),
        ([0.1], pa.float32(), {"min": 0.10000000149011612, "max": 0.10000000149011612, "nulls": 0}),
        ([1.0, math.nan], pa.float64(), {"nulls": 0}),
        ([1.0, math.inf], pa.float64(), {"nulls": 0}),
        ([-math.inf, math.inf], pa.float64(), {"nulls": 0}),
        ([1e308, 1e308], pa.float64(), {"min": 1e308, "max": 1e308, "nulls": 0}),
        ([True, False, None], pa.bool_(), {"min": False, "max": True, "nulls": 1}),
        (["b", "ä", "a"], pa.string(), {"min": "a", "max": "ä", "nulls": 0}),
        (["x" * 64], pa.string(), {"min": "x" * 64, "max": "x" * 64, "nulls": 0}),
        (["a", "x" * 65], pa.string(), {"nulls": 0}),
        ([dt.date(2024, 2, 1), None], pa.date32(), {"min": "2024-02-01", "max": "2024-02-01", "nulls": 1}),
        ([10**8], pa.int32(), {"min": 10**8, "max": 10**8, "nulls": 0}),
        ([2**50], pa.timestamp("ms"), {"nulls": 0}),
        (
            [0, 1],
            pa.timestamp("us"),
            {"min": "1970-01-01T00:00:00.000000", "max": "1970-01-01T00:00:00.000001", "nulls": 0},
        ),
        (
            [0],
            pa.timestamp("ms", "UTC"),
            {"min": "1970-01-01T00:00:00.000Z", "max": "1970-01-01T00:00:00.000Z", "nulls": 0},
        ),
        ([1], pa.time64("us"), {"min": "00:00:00.000001", "max": "00:00:00.000001", "nulls": 0}),
        ([None, None], pa.int64(), {"nulls": 2}),
        ([], pa.int64(), {"nulls": 0}),
        ([None], pa.null(), {"nulls": 1}),
        ([b"x"], pa.binary(), {"nulls": 0}),
        ([1], pa.duration("us"), {"nulls": 0}),
        ([[1], None], pa.list_(pa.int8()), {"nulls": 1}),
        ([{"a": 1}], pa.struct([("a", pa.int8())]), {"nulls": 0}),
    ],
)
def test_facts(values: Sequence[object], data_type: pa.DataType, facts: dict[str, object]) -> None:
    assert facts_of(values, data_type) == facts


@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"])))))
def test_bounds_of_text_follow_its_bytes(values: list[str | None]) -> None:
    known = sorted((value for value in values if value is not None), key=str.encode)
    expected = {"min": known[0], "max": known[-1]} if known and max(len(known[0]), len(known[-1])) <= 64 else {}
    assert facts_of(values, pa.string()) == {**expected, "nulls": values.count(None)}


@given(st.lists(st.one_of(st.none(), st.floats(width=64))))
def test_bounds_of_floats_are_exact_or_absent(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    expected = {"min": min(known), "max": max(known)} if known and all(map(math.isfinite, known)) else {}
    assert facts_of(values, pa.float64()) == {**expected, "nulls": values.count(None)}


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))), min_size=1))
def test_facts_of_many_row_groups_are_those_of_one(groups: list[list[int | None]]) -> None:
    tables = [pa.table({"x": pa.array(group, pa.int64())}) for group in groups]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_BYTES", 1)
        encoder = ParquetEncoder(tables[0].schema, "zstd", [], Path("/dev/null"))
        for table in tables:
            encoder.write(table)
            assert not encoder.held_bytes
        facts = encoder.finish().facts
    assert facts == encode(pa.concat_tables(tables)).facts


def test_row_groups_go_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1000)
    tables = [pa.table({"x": pa.array(range(n * 100, n * 100 + 100))}) for n in range(5)]
    encoder = ParquetEncoder(tables[0].schema, "snappy", [], tmp_path / "spill")
    assert encoder.held_rows() is not None
    for table in tables:
        encoder.write(table)
    assert encoder.held_rows() is None
    file = encoder.finish()
    assert file.content == tmp_path / "spill"
    assert decode(file.content).equals(pa.concat_tables(tables))
    assert file.facts == FileFacts(500, {"x": {"min": 0, "max": 499, "nulls": 0}})
    assert pq.ParquetFile(tmp_path / "spill").num_row_groups == 3


def test_discarded_file_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)
    encoder = ParquetEncoder(pa.schema([("x", pa.int64())]), "zstd", [], tmp_path / "spill")
    encoder.write(pa.table({"x": [1]}))
    assert (tmp_path / "spill").exists()
    encoder.discard()
    assert not (tmp_path / "spill").exists()


@pytest.mark.parametrize("compression", ["zstd", "snappy"])
def test_file_has_codec_statistics_and_page_index(compression: parquet.Compression) -> None:
    encoder = ParquetEncoder(pa.schema([("x", pa.int64())]), compression, [], NOWHERE)
    encoder.write(pa.table({"x": [1, 2]}))
    column = pq.ParquetFile(pa.BufferReader(content_of(encoder.finish()))).metadata.row_group(0).column(0)
    assert column.compression == compression.upper()
    assert (column.statistics.min, column.statistics.max, column.statistics.null_count) == (1, 2, 0)
    assert column.has_column_index
    assert column.has_offset_index


@pytest.mark.parametrize(("rows", "encoding"), [(8191, "PLAIN"), (8192, "RLE_DICTIONARY")])
def test_dictionaries_from_a_few_thousand_rows_on(rows: int, encoding: str) -> None:
    file = encode(pa.table({"x": ["a", "b"] * rows}).slice(0, rows))
    column = pq.ParquetFile(pa.BufferReader(content_of(file))).metadata.row_group(0).column(0)
    assert encoding in column.encodings
    assert column.has_dictionary_page == (encoding == "RLE_DICTIONARY")


def test_empty_file_has_its_schema() -> None:
    schema = pa.schema([pa.field("n", pa.int32(), nullable=False), pa.field("s", pa.string())])
    encoder = ParquetEncoder(schema, "zstd", [], NOWHERE)
    table = decode(encoder.finish().content)
    assert table.schema == schema
    assert table.num_rows == 0


def test_partition_columns_in_the_file_win_over_the_footer() -> None:
    entries = [{"name": "x", "type": "int64", "value": 7}]
    encoder = ParquetEncoder(pa.schema([("x", pa.int64())]), "zstd", entries, NOWHERE)
    encoder.write(pa.table({"x": [1]}))
    assert decode(encoder.finish().content).to_pydict() == {"x": [1]}


def test_files_of_others_are_read() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), sink)
    assert decode(sink.getvalue()).to_pydict() == {"x": [1]}


def test_a_column_with_nan_has_no_bounds_in_the_file_so_that_no_reader_skips_its_rows() -> None:
    file = encode(pa.table({"x": [1.0, math.nan], "y": [1.0, 2.0], "n": [1, 2]}))

    group = pq.ParquetFile(pa.BufferReader(content_of(file))).metadata.row_group(0)

    assert [group.column(i).statistics is not None for i in range(3)] == [False, True, True]


def test_float_columns_of_a_file_of_many_row_groups_have_no_bounds_because_a_nan_may_come_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 1)
    tables = [pa.table({"x": [1.0, last], "n": [1, 2]}) for last in (2.0, math.nan)]

    file = encode(*tables, spill=tmp_path / "spill")

    metadata = pq.ParquetFile(file.content).metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    assert [[group.column(i).statistics is not None for i in range(2)] for group in groups] == [[False, True]] * 2
    (above,) = duckdb.sql(f"SELECT count(*) FROM read_parquet('{file.content}') WHERE x > 5").fetchone() or ()
    assert above == 1  # NaN is above every number


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        ({"x": math.nan}, pa.struct([("x", pa.float64())])),
        ([math.nan], pa.list_(pa.float32())),
        ([("a", math.nan)], pa.map_(pa.string(), pa.float64())),
        ([{"y": [math.nan]}], pa.list_(pa.struct([("y", pa.list_(pa.float64()))]))),
    ],
)
def test_floats_inside_other_types_have_no_bounds_in_the_file(value: object, data_type: pa.DataType) -> None:
    file = encode(pa.table({"x": pa.array([value], data_type), "n": [1]}))

    group = pq.ParquetFile(pa.BufferReader(content_of(file))).metadata.row_group(0)
    bounded = {
        column.path_in_schema: column.statistics is not None for column in map(group.column, range(group.num_columns))
    }
    assert bounded.pop("n")
    assert not any(bounded.values())


def test_half_floats_are_written_without_bounds() -> None:
    assert facts_of([np.float16(1.5), None], pa.float16()) == {"nulls": 1}

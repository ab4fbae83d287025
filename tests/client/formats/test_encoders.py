"""Encoded results read back as what they were."""

import csv
import io
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import UnsupportedTypeError
from dagfusion_client.formats import Format
from dagfusion_client.formats.text_values import json_values, unique_names

MAP_OF_NULL_LISTS = pa.map_(pa.string(), pa.list_(pa.null()))
COLUMNS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    pa.binary(): st.binary(max_size=6),
    pa.date32(): st.dates(date(1, 1, 1), date(9999, 12, 31)),
    pa.timestamp("us"): st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001  # naive
    pa.timestamp("us", "UTC"): st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    pa.time64("us"): st.times(),
    pa.duration("us"): st.timedeltas(timedelta(-1000), timedelta(1000)),
    pa.decimal128(20, 8): st.decimals(-(10**11), 10**11, places=8),
    pa.decimal128(10, 2): st.decimals(-(10**7), 10**7, places=2),
    pa.list_(pa.int64()): st.lists(st.none() | st.integers(0, 9), max_size=3),
    pa.struct({"a": pa.int64(), "b": pa.list_(pa.string())}): st.fixed_dictionaries(
        {"a": st.none() | st.integers(0, 9), "b": st.none() | st.lists(st.text("xy", max_size=2), max_size=2)}
    ),
    pa.map_(pa.string(), pa.int64()): st.dictionaries(st.text("ab", max_size=2), st.integers(0, 9), max_size=2).map(
        lambda entries: list(entries.items())
    ),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, list[int]]:
    """A table and how it is cut into batches."""
    types = draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=4))
    rows = draw(st.integers(0, 8))
    columns = [draw(st.lists(st.none() | COLUMNS[kind], min_size=rows, max_size=rows)) for kind in types]
    fields = [pa.field(f"c{number}", kind) for number, kind in enumerate(types)]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields)), draw(st.lists(st.integers(1, 4), max_size=4))


def encoded(form: str, table: pa.Table, cuts: list[int]) -> bytes:
    batch = table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)
    encoder, pieces, at = Format(form).encoder(table.schema), [], 0
    for cut in (*cuts, len(table)):
        if at < len(table):
            pieces += encoder.write(batch.slice(at, cut))
            at += cut
    return b"".join(bytes(piece) for piece in [*pieces, *encoder.finish()])


@given(tables())
def test_arrow_and_parquet_come_back(drawn: tuple[pa.Table, list[int]]) -> None:
    table, cuts = drawn
    arrow = pa.ipc.open_stream(encoded("arrow", table, cuts)).read_all()
    assert arrow.schema == table.schema
    assert str(arrow.to_pylist()) == str(table.to_pylist())
    parquet = pq.read_table(pa.BufferReader(encoded("parquet", table, cuts)))
    assert str(parquet.to_pylist()) == str(table.to_pylist())


def test_batches_of_any_size_make_one_arrow_stream() -> None:
    row_counts = [3, 0, 1, 100_000, 2, 0, 50_000]  # some of which are copied, and some are not
    schema = pa.schema({"n": pa.int64(), "text": pa.string()})
    batches = [
        pa.RecordBatch.from_pydict({"n": range(count), "text": [f"t{n}" for n in range(count)]}, schema)
        for count in row_counts
    ]
    for start in range(len(batches)):
        encoder = Format.arrow.encoder(batches[0].schema)
        parts = [b"".join(map(bytes, encoder.write(batch))) for batch in batches[start:]]
        for number, part in enumerate(parts):  # each call's bytes are whole messages
            messages = [*pa.ipc.MessageReader.open_stream(part)]
            assert [message.type for message in messages] == ["schema", "record batch"][number > 0 :]
        stream = b"".join([*parts, *map(bytes, encoder.finish())])
        assert [*pa.ipc.open_stream(stream)] == batches[start:]


def test_dictionaries_are_in_an_arrow_stream() -> None:
    flat = pa.array(["a", "b", "a"]).dictionary_encode()
    table = pa.table({"flat": flat, "lists": pa.ListArray.from_arrays([0, 2, 2, 3], flat)})
    for columns in (["flat"], ["lists"], ["flat", "lists"]):
        some = table.select(columns)
        assert pa.ipc.open_stream(encoded("arrow", some, [1])).read_all() == some


def test_a_batch_of_another_schema_is_no_part_of_an_arrow_stream() -> None:
    encoder = Format.arrow.encoder(pa.schema({"n": pa.int64()}))
    encoder.write(pa.RecordBatch.from_pydict({"n": [1]}))
    with pytest.raises(pa.ArrowInvalid, match="different schema"):
        encoder.write(pa.RecordBatch.from_pydict({"n": ["1"]}))


@given(tables())
def test_json_and_json_lines_say_the_same(drawn: tuple[pa.Table, list[int]]) -> None:
    table, cuts = drawn
    document = json.loads(encoded("json", table, cuts))
    lines = [json.loads(line) for line in encoded("jsonl", table, cuts).splitlines()]
    assert document["columns"] == [{"name": field.name, "type": str(field.type)} for field in table.schema]
    assert [list(line.values()) for line in lines] == document["rows"]
    assert all(list(line) == table.schema.names for line in lines)
    for field, column in zip(table.schema, table.columns, strict=True):
        number = table.schema.get_field_index(field.name)
        for row, value in zip(document["rows"], column.to_pylist(), strict=True):
            assert_same(row[number], value, field.type)


def assert_same(plain: Any, value: Any, kind: pa.DataType) -> None:
    """Compare a JSON value with the Arrow value that it stands for."""
    if value is None:
        assert plain is None
    elif isinstance(value, float):
        assert plain == value or plain == {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    elif isinstance(value, Decimal):
        assert isinstance(plain, str)
        assert (Decimal(plain), len(plain.partition(".")[2])) == (value, kind.scale)
    elif isinstance(value, datetime):
        assert datetime.fromisoformat(plain) == value
        assert plain.endswith("Z") == (kind.tz is not None)
    elif isinstance(value, timedelta):
        seconds = Decimal(plain.removeprefix("PT").removesuffix("S"))
        assert seconds * 1_000_000 == value // timedelta(microseconds=1)
    elif isinstance(value, bytes):
        assert plain == orjson.loads(orjson.dumps(json_values(pa.array([value]))[0]))
    elif pa.types.is_map(kind):
        assert [tuple(entry) for entry in plain] == value
    elif hasattr(value, "isoformat"):
        assert type(value).fromisoformat(plain) == value
    else:
        assert plain == value


@given(tables())
def test_csv_tells_null_from_empty_text_and_says_what_json_says(drawn: tuple[pa.Table, list[int]]) -> None:
    table, cuts = drawn
    text = encoded("csv", table, cuts).decode()
    header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert header == table.schema.names
    if table.num_columns == 1:
        return  # a line of one NULL is empty, which this reader skips
    expected = json.loads(encoded("json", table, cuts))["rows"]
    assert len(rows) == len(expected)
    for row, values in zip(rows, expected, strict=True):
        for cell, value in zip(row, values, strict=True):
            if isinstance(value, float):
                assert float(cell) == value
            elif value is None or isinstance(value, str):
                assert cell == (value or "")
            else:
                assert json.loads(cell) == value


def test_csv_quotes_empty_text_and_leaves_null_out() -> None:
    table = pa.table({"a": ["", None], "b": [1, 2]})
    assert encoded("csv", table, []) == b'a,b\r\n"",1\r\n,2\r\n'


def test_a_header_is_quoted_where_it_must_be() -> None:
    assert encoded("csv", pa.table({'a,"b': [1], "c": [2]}), []) == b'"a,""b",c\r\n1,2\r\n'


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (pa.array([0.1, None], pa.float32()), [0.1, None]),
        (pa.array([1.5, float("nan")], pa.float16()), [1.5, "NaN"]),
        (pa.array([1, None], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001", None]),
        (pa.array([0], pa.timestamp("s", "America/New_York")), ["1970-01-01T00:00:00Z"]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
        (pa.array([(1, 2, 3_000_000_000)], pa.month_day_nano_interval()), ["P1M2DT3S"]),
        (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
        (pa.array([["x"], None], pa.large_list(pa.string())).slice(1), [None]),
        (pa.array([[("a", [b"\xff"])], None], pa.map_(pa.string(), pa.list_(pa.binary()))), [[["a", ["/w=="]]], None]),
        (
            pa.array([[("a", [])], [("b", [None] * 3), ("c", None)], None, []], MAP_OF_NULL_LISTS).slice(1),
            [[["b", [None, None, None]], ["c", None]], None, []],
        ),
        (pa.array(["a", None], pa.string_view()), ["a", None]),
        (pa.nulls(2), [None, None]),
        (pa.array([Decimal("0.00000001")]), ["0.00000001"]),
        (pa.array([{}, None], pa.struct([])), [{}, None]),
    ],
)
def test_values_that_json_has_not(array: pa.Array, values: list[Any]) -> None:
    assert json_values(array) == values


def test_what_no_text_can_hold_is_refused() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])
    with pytest.raises(UnsupportedTypeError, match="cast it"):
        json_values(union)


def test_what_parquet_cannot_hold_is_refused() -> None:
    with pytest.raises(UnsupportedTypeError, match="cast it"):
        Format.parquet.encoder(pa.schema({"a": pa.month_day_nano_interval()}))


def test_columns_of_one_name_are_told_apart() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["id", "id"])
    for form, read in READERS.items():
        encoder = Format(form).encoder(batch.schema)
        document = b"".join(bytes(piece) for piece in [*encoder.write(batch), *encoder.finish()])
        assert read(document) == {"id": 1, "id:1": 2}


READERS: dict[str, Callable[[bytes], Any]] = {
    "jsonl": json.loads,
    "parquet": lambda document: pq.read_table(pa.BufferReader(document)).to_pylist()[0],
}


@given(st.lists(st.sampled_from(["a", "b", "a:1", "a:2", "b:1"]), max_size=6))
def test_unique_names_are_unique_and_keep_what_was(names: list[str]) -> None:
    unique = unique_names(names)
    assert len(set(unique)) == len(names)
    assert all(new.startswith(old) for new, old in zip(unique, names, strict=True))
    if len(set(names)) == len(names):
        assert unique == names


@pytest.mark.usefixtures("heavy")
def test_a_large_result_has_row_groups_of_bounded_size() -> None:
    batch = pa.record_batch({"a": pa.array(range(500_000))})
    encoder = Format.parquet.encoder(batch.schema)
    pieces = [bytes(piece) for _ in range(5) for piece in encoder.write(batch)]
    assert pieces, "a row group was given before the end"
    document = b"".join([*pieces, *(bytes(piece) for piece in encoder.finish())])
    found = pq.ParquetFile(pa.BufferReader(document)).metadata
    assert (found.num_rows, found.num_row_groups) == (2_500_000, 2)

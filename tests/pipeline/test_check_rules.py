"""The rules over statistics that real files have, against the rows of the files."""

import datetime as dt
import math
import sys
import weakref
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.record import WrittenFile, file_entry, schema_entry
from dagfusion_contract.values import partition_entry
from dagfusion_pipeline.check_definitions import PlannedCheck
from dagfusion_pipeline.check_results import Checked, check_result
from dagfusion_pipeline.check_rules import HOLDS, InBounds, NotNull, Partition, PartitionReader, RowCount, SameColumns
from dagfusion_pipeline.latest_events import LatestEvent
from dagfusion_pipeline.parquet import ParquetEncoder

NOW = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
NEW_YEAR = dt.datetime.fromisoformat("2024-01-01")  # without a zone
ZONED = st.datetimes(*(NEW_YEAR.replace(year=year) for year in (1900, 2200)), timezones=st.just(dt.UTC))
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.int8(): st.integers(-128, 127),
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.decimal128(20, 4): st.decimals("-999999", "999999", places=4),
    pa.string(): st.text(max_size=80),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("ns"): st.datetimes(*(NEW_YEAR.replace(year=year) for year in (1700, 2200))),
    pa.timestamp("s", "UTC"): ZONED.map(lambda at: at.replace(microsecond=0)),
    pa.timestamp("us", "America/New_York"): ZONED,
    pa.time64("us"): st.times(),
    pa.binary(): st.binary(max_size=4),
}


def partition_of(table: pa.Table, **values: pa.Scalar) -> Partition:
    encoder = ParquetEncoder(table.schema, "zstd", [], Path("unused"))
    encoder.write(table)
    facts = encoder.finish().facts
    return partition(facts.rows, facts.columns, table.schema, **values)


def partition(rows: int, columns: Any, schema: pa.Schema, **values: pa.Scalar) -> Partition:
    read = PartitionReader().read(record(rows, columns, schema, **values))
    assert isinstance(read, Partition)
    return read


def record(rows: int, columns: Any, schema: pa.Schema, **values: pa.Scalar) -> dict[str, Any]:
    entries = [partition_entry(name, value) for name, value in values.items()]
    return file_entry(WrittenFile("s3://b/a", 1, None, NOW, rows, entries, schema_entry(schema), columns))


@st.composite
def cases(draw: st.DrawFn) -> tuple[pa.DataType, list[Any], Any, Any]:
    data_type = draw(st.sampled_from(list(VALUES)))
    values = VALUES[data_type]
    bound = st.none() | values.filter(lambda value: value == value)  # noqa: PLR0124 - NaN
    return data_type, draw(st.lists(st.none() | values, max_size=5)), draw(bound), draw(bound)


@given(cases())
def test_a_verdict_is_what_the_rows_say(case: tuple[pa.DataType, list[Any], Any, Any]) -> None:
    data_type, values, least, most = case
    one = partition_of(pa.table({"x": pa.array(values, data_type)}))
    nulls = NotNull("x").evaluate(one)
    assert (nulls.state == "broken") == (None in values)
    assert nulls.state != "unknown"
    assert (RowCount(2, 4).evaluate(one).state == "holds") == (2 <= len(values) <= 4)
    seen = [value for value in values if value is not None]
    within = all((least is None or value >= least) and (most is None or value <= most) for value in seen)
    verdict = InBounds("x", least, most).evaluate(one)
    unknown = (
        data_type == pa.binary()
        or any(isinstance(value, float) and not math.isfinite(value) for value in seen)
        or any(isinstance(value, str) and len(value) > 64 for value in seen)
    )
    if verdict.state == "unknown":
        assert unknown
        assert seen
    else:
        assert (verdict.state == "holds") == within


def test_bounds_are_exact_where_floats_are_not() -> None:
    one = partition_of(pa.table({"d": pa.array([Decimal("0.1")]), "n": [2**53 + 1], "t": [NEW_YEAR]}))
    assert InBounds("d", None, Decimal("0.1")).evaluate(one) == HOLDS._replace(
        lowest=(Decimal("0.1"), "0.1"), highest=(Decimal("0.1"), "0.1")
    )
    assert InBounds("n", None, 2.0**53).evaluate(one).state == "broken"
    after = pa.array([NEW_YEAR]).cast(pa.timestamp("ns")).cast(pa.int64())[0].as_py() + 1
    nanosecond = partition_of(pa.table({"t": pa.array([after], pa.timestamp("ns"))}))
    assert InBounds("t", None, NEW_YEAR).evaluate(one).state == "holds"
    assert InBounds("t", None, NEW_YEAR).evaluate(nanosecond).state == "broken"


@pytest.mark.parametrize(
    ("bound", "data_type"),
    [
        (NEW_YEAR, pa.timestamp("us", "UTC")),
        (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), pa.timestamp("us")),
        (dt.date(2024, 1, 1), pa.timestamp("us")),
        (NEW_YEAR, pa.date32()),
        ("2024-01-01Z", pa.date32()),
        ("2024-01-01T00:00:00", pa.timestamp("us", "UTC")),
        ("1", pa.int64()),
        (True, pa.int64()),
        (1, pa.string()),
        (1, pa.bool_()),
        (1, pa.list_(pa.int64())),
    ],
)
def test_bounds_of_another_kind_are_unknown(bound: Any, data_type: pa.DataType) -> None:
    one = partition(1, {"x": {"min": "2024-01-01", "max": "2024-01-01", "nulls": 0}}, pa.schema([("x", data_type)]))
    assert InBounds("x", bound, None).evaluate(one).state == "unknown"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.date(2024, 1, 1), "2024-01-01"),
        (dt.time(7, 30), "07:30"),
        (NEW_YEAR, "2024-01-01T00:00:00"),
        (NEW_YEAR.replace(tzinfo=dt.UTC), "2024-01-01T01:00:00+01:00"),
    ],
)
def test_dates_and_times_may_be_text(value: Any, text: str) -> None:
    one = partition_of(pa.table({"x": [value]}))
    assert InBounds("x", text, text).evaluate(one).state == "holds"
    later = text.replace("2024", "2025").replace("07", "08")
    assert InBounds("x", later, None).evaluate(one).state == "broken"


def test_columns_that_are_absent_or_of_the_partition() -> None:
    schema = pa.schema([("n", pa.int64())])
    one = partition(3, {}, schema, day=pa.scalar(dt.date(2024, 1, 1)), state=pa.scalar(None, pa.string()))
    assert NotNull("gone").evaluate(one).state == "broken"
    assert NotNull("n").evaluate(one).state == "unknown"
    assert NotNull("DAY").evaluate(one).state == "holds"
    assert NotNull("state").evaluate(one).state == "broken"
    assert InBounds("gone", 1, 2).evaluate(one).state == "unknown"
    assert InBounds("n", 1, 2).evaluate(one).state == "unknown"
    assert InBounds("day", dt.date(2024, 1, 2), None).evaluate(one).state == "broken"
    assert InBounds("state", "a", None).evaluate(one).state == "holds"
    assert SameColumns({"n": "int64"}).evaluate(one) == HOLDS
    assert SameColumns({"n": "int32", "day": None}).evaluate(one).found == "n is int64, not int32"


def test_the_columns_of_earlier_runs_are_not_kept() -> None:
    """The rule lives as long as the process, and each run reads the records anew."""
    rule, schema = SameColumns({"n": "int64"}), pa.schema([("n", pa.int64())])
    first = partition(1, {}, schema)
    layout = weakref.ref(first.file.layout)
    assert rule.evaluate(first) == HOLDS
    del first
    for _ in range(200):
        rule.evaluate(partition(1, {}, schema))
    assert layout() is None


@pytest.mark.parametrize("fields", [{"version": 2}, {"rows": -1}, {"columns": None}, {"schema": {}}])
def test_a_record_that_cannot_be_read_is_unknown(fields: dict[str, Any]) -> None:
    whole = record(1, {}, pa.schema([("n", pa.int64())]))
    read = PartitionReader().read(whole | fields)
    assert not isinstance(read, Partition)
    assert read.state == "unknown"


class Key(str):
    """A partition key whose comparisons are calls of Python's, so that a profile counts them."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True

    def __hash__(self) -> int:
        return str.__hash__(self)


@pytest.mark.usefixtures("heavy")
def test_a_result_names_few_partitions_of_many_and_needs_work_as_they_are_many() -> None:
    def calls(count: int) -> int:
        entry = record(1, {"x": {"min": 1, "max": 9, "nulls": 0}}, pa.schema([("x", pa.int64())]))
        keys = [Key(f"p{number}") for number in range(count)]
        events = {key: LatestEvent(number, NOW, entry) for number, key in enumerate(keys)}
        check = PlannedCheck("x_in_bounds", "", InBounds("x", 0, 5))
        counted: Counter[str] = Counter()
        sys.setprofile(lambda _frame, event, _argument: counted.update([event]))
        try:
            result = check_result(check, Checked(keys, events, NOW), dg.AssetCheckSeverity.ERROR, "warn")
        finally:
            sys.setprofile(None)
        table = result.metadata["first_broken"]
        assert isinstance(table, dg.TableMetadataValue)
        assert [one.data["partition"] for one in table.records] == keys[:20]
        assert result.metadata["broken_partitions"].value == count
        return counted.total()

    calls(100)  # imports, and fills caches
    assert calls(1_600) < 8 * 2 * calls(200)  # with the square it would be 64 times

"""Partition keys as columns: names, order, and the value that stands for each key."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow as pa
import pytest

from dagfusion_contract.layout import HIVE_NULL
from dagfusion_pipeline.dimensions import Dimension, dimension_keys, dimensions, in_definition_order
from dagfusion_pipeline.errors import ColumnTypeError, ConfigurationError, PartitionError

DAILY = dg.DailyPartitionsDefinition("2024-01-01")
HOURLY = dg.HourlyPartitionsDefinition("2024-01-01-00:00")
STATIC = dg.StaticPartitionsDefinition(["small", "medium", "large"])
DYNAMIC = dg.DynamicPartitionsDefinition(name="tenants")
MULTI = dg.MultiPartitionsDefinition({"date": DAILY, "state": STATIC})


def dimensions_of(
    definition: dg.PartitionsDefinition[Any], metadata: Mapping[str, object] | None = None, order: Sequence[str] = ()
) -> list[tuple[str, str]]:
    return [(d.name, d.column) for d in dimensions(definition, metadata or {}, order, "Silver/orgs")]


def values_of(
    definition: dg.PartitionsDefinition[Any], keys: list[str], data_type: pa.DataType | None = None
) -> pa.Array:
    dimension = Dimension("k", "column", definition)
    return dimension.values(keys, data_type or dimension.default_type, "Silver/orgs")


@pytest.mark.parametrize(
    ("definition", "column", "data_type"),
    [
        (DAILY, "date", pa.date32()),
        (dg.WeeklyPartitionsDefinition("2024-01-01"), "date", pa.date32()),
        (dg.MonthlyPartitionsDefinition("2024-01-01"), "date", pa.date32()),
        (HOURLY, "hour", pa.timestamp("us")),
        (
            dg.TimeWindowPartitionsDefinition(start="2024-01-01", cron_schedule="0 0 1 1 *", fmt="%Y-%m-%d"),
            "date",
            pa.date32(),
        ),
        (
            dg.TimeWindowPartitionsDefinition(
                start="2024-01-01 00:00", cron_schedule="*/5 * * * *", fmt="%Y-%m-%d %H:%M"
            ),
            "hour",
            pa.timestamp("us"),
        ),
        (STATIC, "partition", pa.string()),
        (DYNAMIC, "partition", pa.string()),
    ],
)
def test_one_dimension(definition: dg.PartitionsDefinition[Any], column: str, data_type: pa.DataType) -> None:
    (dimension,) = dimensions(definition, {}, [], "a")
    assert dimension.column == column
    assert dimension.default_type == data_type


def test_partition_expr_names_the_column() -> None:
    assert dimensions_of(DAILY, {"partition_expr": "day"}) == [("date", "day")]
    assert dimensions_of(DAILY, {"partition_expr": dg.MetadataValue.text("day")}) == [("date", "day")]
    assert dimensions_of(MULTI, {"partition_expr": {"date": "day"}}) == [("state", "state"), ("date", "day")]


def test_time_is_last_and_the_rest_by_name() -> None:
    assert dimensions_of(dg.MultiPartitionsDefinition({"a_day": DAILY, "b": STATIC})) == [
        ("b", "b"),
        ("a_day", "a_day"),
    ]
    two = dg.MultiPartitionsDefinition({"z": STATIC, "y": DYNAMIC})
    assert dimensions_of(two) == [("y", "y"), ("z", "z")]


def test_declared_order() -> None:
    first_date = [("date", "date"), ("state", "state")]
    assert dimensions_of(MULTI, {"partition_order": ["date", "state"]}) == first_date
    assert dimensions_of(MULTI, order=["date", "unknown"]) == first_date
    assert dimensions_of(MULTI, {"partition_order": ["state", "date"]}, order=["date"]) == first_date[::-1]


@pytest.mark.parametrize(
    ("definition", "metadata", "message"),
    [
        (MULTI, {"partition_expr": "date"}, r"must map its dimensions \['date', 'state'\] to column names; got 'date'"),
        (MULTI, {"partition_expr": {"day": "date"}}, "must map its dimensions"),
        (MULTI, {"partition_expr": {"date": 1}}, "must map its dimensions"),
        (MULTI, {"partition_expr": {"date": "state"}}, "must name a column of its own for each dimension"),
        (DAILY, {"partition_expr": {"date": "x"}}, "must be the name of one column; got {'date': 'x'}"),
        (DAILY, {"partition_expr": ""}, "must be the name of one column"),
        (
            MULTI,
            {"partition_order": ["date"]},
            r"must name each of its dimensions \['date', 'state'\] once; got \['date'\]",
        ),
        (MULTI, {"partition_order": "date"}, "must name each of its dimensions"),
        (MULTI, {"partition_order": [1, 2]}, "must name each of its dimensions"),
    ],
)
def test_metadata_that_does_not_fit(
    definition: dg.PartitionsDefinition[Any], metadata: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"of asset 'Silver/orgs' {message}"):
        dimensions_of(definition, metadata)


def test_keys_in_each_dimension() -> None:
    order = dimensions(MULTI, {}, [], "a")
    key = dg.MultiPartitionKey({"date": "2024-01-15", "state": "small"})
    assert dimension_keys(key, MULTI, order) == ("small", "2024-01-15")
    assert dimension_keys("2024-01-15|small", MULTI, order) == ("small", "2024-01-15")
    assert dimension_keys("a|b", STATIC, dimensions(STATIC, {}, [], "a")) == ("a|b",)


def test_definition_order() -> None:
    assert in_definition_order(["large", "small", "gone", "medium"], STATIC) == ["small", "medium", "large", "gone"]
    assert in_definition_order(["b", "a"], DYNAMIC) == ["a", "b"]
    german = dg.DailyPartitionsDefinition("01.01.2024", fmt="%d.%m.%Y")
    assert in_definition_order(["01.02.2024", "31.01.2024"], german) == ["31.01.2024", "01.02.2024"]
    keys = ["2024-01-02|small", "2024-01-01|large", "2024-01-01|medium"]
    assert in_definition_order(keys, MULTI) == ["2024-01-01|medium", "2024-01-01|large", "2024-01-02|small"]
    assert in_definition_order([], MULTI) == []


def test_time_values() -> None:
    start = dt.datetime.fromisoformat("2024-01-15")
    assert values_of(DAILY, ["2024-01-15"]).to_pylist() == [dt.date(2024, 1, 15)]
    assert values_of(DAILY, ["2024-01-15"], pa.string()).to_pylist() == ["2024-01-15"]
    assert values_of(DAILY, ["2024-01-15"], pa.timestamp("ms")).to_pylist() == [start]
    assert values_of(dg.MonthlyPartitionsDefinition("2024-01", fmt="%Y-%m"), ["2024-03"]).to_pylist() == [
        dt.date(2024, 3, 1)
    ]
    assert values_of(HOURLY, ["2024-01-15-03:00"]).to_pylist() == [start.replace(hour=3)]


def test_time_values_in_a_zone() -> None:
    zoned = dg.DailyPartitionsDefinition("2024-01-01", timezone="America/New_York")
    midnight = dt.datetime(2024, 7, 1, tzinfo=ZoneInfo("America/New_York"))
    (value,) = values_of(zoned, ["2024-07-01"], pa.timestamp("us", "UTC")).to_pylist()
    assert value == midnight
    assert values_of(zoned, ["2024-07-01"], pa.timestamp("us")).to_pylist() == [midnight.replace(tzinfo=None)]
    assert values_of(zoned, ["2024-07-01"]).to_pylist() == [midnight.date()]


def test_other_values() -> None:
    assert values_of(STATIC, ["small", HIVE_NULL, ""]).to_pylist() == ["small", None, ""]
    assert values_of(DYNAMIC, ["7", HIVE_NULL], pa.int16()).to_pylist() == [7, None]
    assert values_of(DYNAMIC, ["true"], pa.bool_()).to_pylist() == [True]
    assert values_of(DYNAMIC, ["2024-01-15"], pa.date32()).to_pylist() == [dt.date(2024, 1, 15)]


def test_values_come_in_the_order_of_the_keys() -> None:
    assert values_of(STATIC, ["b", "a", "b"]).to_pylist() == ["b", "a", "b"]


def test_key_that_is_no_value_of_the_column() -> None:
    with pytest.raises(
        PartitionError,
        match=r"partition 'CA' of asset 'Silver/orgs' must be a value of column 'column', whose type is int64",
    ):
        values_of(STATIC, ["CA"], pa.int64())


@pytest.mark.parametrize("data_type", [pa.float64(), pa.list_(pa.int8()), pa.binary()])
def test_type_that_is_no_partition_column(data_type: pa.DataType) -> None:
    with pytest.raises(
        ColumnTypeError, match=r"partition column 'column' of asset 'Silver/orgs' must be string, .*; got"
    ):
        values_of(STATIC, ["1"], data_type)


def test_type_that_is_no_time() -> None:
    with pytest.raises(
        ColumnTypeError, match=r"is partitioned by time and must be date, timestamp or string; got int64"
    ):
        values_of(DAILY, ["2024-01-15"], pa.int64())

"""Time partitions in zones whose offset changes: each key has a value and an object of its own."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.layout import file_key, hive_key, parse_hive_key
from dagfusion_contract.values import parse_partition_entry, partition_entry
from dagfusion_pipeline import PartitionedS3ParquetIOManager
from dagfusion_pipeline.dimensions import Dimension
from dagfusion_pipeline.errors import PartitionError
from tests.pipeline.written import entry_of, materializations

NEW_YORK = "America/New_York"
MINUTES, DAYS = "%Y-%m-%d-%H:%M", "%Y-%m-%d"
# Daylight saving time begins or ends on these days; some end it at midnight, by half an hour, or during Ramadan.
CHANGES = [
    (NEW_YORK, dt.date(2024, 3, 10)),
    (NEW_YORK, dt.date(2024, 11, 3)),
    ("Europe/Berlin", dt.date(2024, 3, 31)),
    ("Europe/Berlin", dt.date(2024, 10, 27)),
    ("Australia/Lord_Howe", dt.date(2024, 4, 7)),
    ("Australia/Lord_Howe", dt.date(2024, 10, 6)),
    ("America/Havana", dt.date(2024, 11, 3)),
    ("Africa/Casablanca", dt.date(2024, 3, 10)),
    ("Africa/Casablanca", dt.date(2024, 4, 14)),
    ("America/Santiago", dt.date(2024, 4, 7)),
    ("Asia/Kolkata", dt.date(2024, 5, 5)),
    ("UTC", dt.date(2024, 5, 5)),
]
crons = st.one_of(
    st.tuples(st.sampled_from(["0 * * * *", "30 * * * *", "*/20 * * * *", "0,45 * * * *"]), st.just(MINUTES)),
    st.tuples(st.sampled_from(["0 * * * *", "*/15 * * * *"]), st.just(MINUTES + "%z")),
    st.tuples(st.sampled_from(["0 */2 * * *", "30 1,2,3 * * *", "0 0-4 * * *", "15 1 * * *"]), st.just(MINUTES)),
    st.tuples(st.sampled_from(["0 0 * * *", "0 2 * * *", "30 1 * * *", "0 0 * * 1", "0 0 1 * *"]), st.just(DAYS)),
)


def definition_of(zone: str, day: dt.date, cron: str, fmt: str) -> dg.TimeWindowPartitionsDefinition:
    start, end = (
        dt.datetime.combine(day + dt.timedelta(days), dt.time(), ZoneInfo(zone))
        for days in (-2, 75 if fmt == DAYS else 2)
    )
    return dg.TimeWindowPartitionsDefinition(start=start, end=end, cron_schedule=cron, fmt=fmt, timezone=zone)


@pytest.mark.usefixtures("heavy")
@given(st.sampled_from(CHANGES), crons)
def test_each_key_has_a_value_and_an_object_of_its_own_in_the_order_of_time(
    change: tuple[str, dt.date], schedule: tuple[str, str]
) -> None:
    definition = definition_of(*change, *schedule)
    keys = list(definition.get_partition_keys())
    assert len(set(keys)) == len(keys) > 0
    dimension = Dimension("time", "time", definition)
    values = dimension.values(keys, dimension.default_type, "a")

    assert values.to_pylist() == sorted(set(values.to_pylist()))
    for key, value in zip(keys, values, strict=True):
        assert parse_partition_entry(partition_entry("time", value)) == ("time", value)
        assert parse_hive_key("p", ["a"], hive_key("p", ["a"], [("time", key)], None)) == [("time", key)]
    assert len({hive_key("p", ["a"], [("time", key)], None) for key in keys}) == len(keys)
    assert len({file_key("p", ["a"], ("time", key), None) for key in keys}) == len(keys)


@pytest.mark.usefixtures("heavy")
@given(
    st.sampled_from(CHANGES), crons, st.sampled_from([pa.timestamp("us"), pa.timestamp("ms", NEW_YORK), pa.string()])
)
def test_columns_of_the_frame_tell_all_keys_apart_or_refuse_one(
    change: tuple[str, dt.date], schedule: tuple[str, str], data_type: pa.DataType
) -> None:
    definition = definition_of(*change, *schedule)
    dimension = Dimension("time", "time", definition)
    values = []
    for key in definition.get_partition_keys():
        try:
            values.append(dimension.values([key], data_type, "a"))
        except PartitionError:  # the second of two equal local times
            assert data_type == pa.timestamp("us")
            assert definition.time_window_for_partition_key(key).start.fold == 1
    # As Python's datetimes two equal local times would be equal.
    assert len(pa.concat_arrays(values).unique()) == len(values)


def test_hours_are_local_times_only_where_no_two_are_equal() -> None:
    def default(zone: str, cron: str = "0 * * * *") -> pa.DataType:
        return Dimension("t", "t", definition_of(zone, dt.date(2024, 1, 1), cron, MINUTES)).default_type

    assert default(NEW_YORK) == default("Africa/Casablanca") == pa.timestamp("us", "UTC")
    assert default("UTC") == default("Asia/Kolkata") == default("Etc/GMT+5") == pa.timestamp("us")
    assert default(NEW_YORK, "0 1,5 * * *") == pa.timestamp("us")


def test_the_hour_that_is_repeated_is_two_partitions(
    hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    hours = dg.HourlyPartitionsDefinition("2024-11-03-00:00", end_date="2024-11-04-00:00", timezone=NEW_YORK)

    @dg.asset(partitions_def=hours)
    def hourly(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"key": [context.partition_key]})

    @dg.asset
    def day(hourly: pl.DataFrame) -> pl.DataFrame:
        return hourly

    resources = {"io_manager": hive}
    for key in hours.get_partition_keys():
        dg.materialize([hourly], partition_key=key, resources=resources, instance=instance)
    run = dg.materialize([hourly, day], selection=[day], resources=resources, instance=instance)
    frame = run.output_for_node("day")
    assert frame["key"].to_list() == hours.get_partition_keys()
    assert frame.schema["hour"] == pl.Datetime("us", "UTC")
    assert frame["hour"].diff().drop_nulls().unique().to_list() == [dt.timedelta(hours=1)]


def test_a_table_of_local_hours_keeps_them_and_refuses_the_second_of_two_equal_ones(
    hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    hours = dg.HourlyPartitionsDefinition("2024-11-03-00:00", end_date="2024-11-04-00:00", timezone=NEW_YORK)
    local = pl.Series([dt.datetime(2024, 11, 3)], dtype=pl.Datetime("us"))  # noqa: DTZ001 - a local time
    with_hour = True

    @dg.asset(partitions_def=hours)
    def hourly() -> pl.DataFrame:
        return pl.DataFrame({"n": [1], **({"hour": local} if with_hour else {})})

    def materialize(key: str) -> dict[str, Any]:
        run = dg.materialize([hourly], partition_key=key, resources={"io_manager": hive}, instance=instance)
        return entry_of(materializations(run)[key])

    assert materialize("2024-11-03-00:00")["partition"][0]["type"] == "timestamp[us]"  # as all hours once were
    with_hour = False
    (column,) = materialize("2024-11-03-01:00")["partition"]
    assert column == {"name": "hour", "type": "timestamp[us]", "value": "2024-11-03T01:00:00.000000"}
    with pytest.raises(PartitionError, match="cannot tell it from the hour before, which has the same local time"):
        materialize("2024-11-03-01:00-0500")
    instance.wipe_assets([hourly.key])
    (column,) = materialize("2024-11-03-01:00-0500")["partition"]
    assert column == {"name": "hour", "type": "timestamp[us, tz=UTC]", "value": "2024-11-03T06:00:00.000000Z"}

"""pandas frames with periods, in any place of their index, through the IO managers and back."""

from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import obstore
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_pipeline.errors import FrameError
from tests.pipeline.any_frame import Layout, Returned
from tests.pipeline.in_memory import STORE, Hive
from tests.pipeline.test_any_frame import EXAMPLES, manager_of, through
from tests.tiers import examples

pytestmark = pytest.mark.usefixtures("heavy")
PLACES = ["column", "category", "named", "unnamed", "also a column", "level", "unnamed level", "first unnamed level"]
_UNPARTITIONED = Layout(None, None, {})
_FREQUENCIES = ["Y", "Y-JUN", "Q", "Q-NOV", "M", "3M", "W", "W-WED", "D", "h", "90min", "s", "ms", "us", "ns"]


@st.composite
def periods(draw: st.DrawFn) -> pd.PeriodIndex:
    """Periods of one frequency, some missing, some repeated."""
    frequency = draw(st.sampled_from(_FREQUENCIES))
    moments = draw(st.lists(st.one_of(st.none(), st.datetimes(pd.Timestamp(1680, 1, 1), pd.Timestamp(2260, 1, 1)))))
    return pd.PeriodIndex(moments, freq=frequency)


def framed(values: pd.PeriodIndex, place: str) -> tuple[pd.DataFrame, str]:
    """A frame with the periods in a place, and the name of the column that they become."""
    rows = pd.DataFrame({"n": range(len(values))})
    states = ["CA"] * len(values)
    levels: dict[str, tuple[list[Any], list[str | None], str]] = {
        "level": ([states, values], ["state", "month"], "month"),
        "unnamed level": ([states, values], ["state", None], "level_1"),
        "first unnamed level": ([values, states], [None, None], "level_0"),
    }
    if place in levels:
        arrays, names, column = levels[place]
        return rows.set_axis(pd.MultiIndex.from_arrays(arrays, names=names)), column
    if place in {"column", "category"}:
        return rows.assign(month=values if place == "column" else pd.Categorical(values)), "month"
    if place == "also a column":
        return rows.assign(month=values).set_index("month", drop=False), "month"
    return rows.set_axis(values.rename("month" if place == "named" else None)), "month" if place == "named" else "index"


@settings(max_examples=examples(EXAMPLES), suppress_health_check=list(HealthCheck))
@given(values=periods(), place=st.sampled_from(PLACES), data=st.data())
def test_periods_come_back_from_the_timestamps_of_their_starts(
    instance: dg.DagsterInstance, values: pd.PeriodIndex, place: str, data: st.DataObject
) -> None:
    frame, column = framed(values, place)
    manager = manager_of(data, hive=data.draw(st.booleans()))
    loaded = through(Returned(frame, pa.table({})), _UNPARTITIONED, manager, pd.DataFrame, instance)
    assert loaded["n"].tolist() == frame["n"].tolist()
    assert pd.PeriodIndex(loaded[column], freq=values.freq).equals(values.rename(column))
    assert loaded[column].equals(pd.Series(values.to_timestamp(), name=column))


@pytest.mark.parametrize("place", PLACES)
def test_files_and_events_have_timestamps(place: str, tmp_path: Path) -> None:
    frame, column = framed(pd.PeriodIndex(["2024-01", None, "2024-03"], freq="M"), place)

    @dg.asset
    def written() -> pd.DataFrame:
        return frame

    result = dg.materialize([written], resources={"io_manager": Hive(bucket="lake", prefix=f"periods-{place}")})
    (event,) = result.asset_materializations_for_node("written")
    entry: Any = event.metadata["dagfusion/file"].value
    types = {field["name"]: field["type"] for field in entry["schema"]["fields"]}
    assert types[column] == "timestamp[us]"
    assert entry["columns"][column] == {
        "nulls": 1,
        "min": "2024-01-01T00:00:00.000000",
        "max": "2024-03-01T00:00:00.000000",
    }
    file = tmp_path / "written.parquet"
    file.write_bytes(obstore.get(STORE.client, entry["uri"].removeprefix("s3://lake/")).bytes().to_bytes())
    expected = [pd.Timestamp(2024, 1, 1).to_pydatetime(), None, pd.Timestamp(2024, 3, 1).to_pydatetime()]
    assert pl.read_parquet(file)[column].to_list() == expected
    assert duckdb.read_parquet(str(file)).project(f'"{column}"').fetchall() == [(value,) for value in expected]


def test_periods_are_a_partition_column() -> None:
    daily = dg.DailyPartitionsDefinition("2024-03-01", end_date="2024-03-12")

    @dg.asset(partitions_def=daily)
    def written(context: dg.AssetExecutionContext) -> pd.DataFrame:
        days = pd.PeriodIndex(list(context.partition_keys), freq="D", name="date")
        return pd.DataFrame({"n": range(len(days))}, index=days)

    tags = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-03"}
    manager = Hive(bucket="lake", prefix="periods-as-partitions")
    result = dg.materialize([written], tags=tags, resources={"io_manager": manager})
    rows = {
        event.partition: event.metadata["dagster/partition_row_count"].value
        for event in result.asset_materializations_for_node("written")
    }
    assert rows == {"2024-03-01": 1, "2024-03-02": 1, "2024-03-03": 1}


def test_a_level_without_a_name_does_not_replace_a_column(instance: dg.DagsterInstance) -> None:
    frame, column = framed(pd.PeriodIndex(["2024-01"], freq="M"), "unnamed level")
    twice = Returned(frame.assign(**{column: 1}), pa.table({}))
    with pytest.raises(FrameError, match="must return columns of different names; got 'level_1' more than once"):
        through(twice, _UNPARTITIONED, Hive(bucket="lake"), pd.DataFrame, instance)

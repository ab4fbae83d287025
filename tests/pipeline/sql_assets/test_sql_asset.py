"""Runs of assets that are defined by SQL, over a real S3 server and event log."""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl
import pytest

from dagfusion_client.errors import ExecutionError, PlanError
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager, sql_asset
from dagfusion_pipeline.consolidate import consolidate_asset
from dagfusion_pipeline.errors import ConfigurationError, MissingObjectError, PartitionError
from dagfusion_pipeline.sql_assets.engine_run import _variables
from dagfusion_query.connection import EmbeddedConnection
from dagfusion_query.settings import Settings

DAYS = dg.DailyPartitionsDefinition("2024-01-01")
STATES = ["CA", "NY", "TX"]
DAYS_BY_STATE = dg.MultiPartitionsDefinition({"date": DAYS, "state": dg.StaticPartitionsDefinition(STATES)})
ORGS, RATES = dg.AssetKey(["Silver", "TaxID", "orgs"]), dg.AssetKey(["rates"])


@dg.asset(key=ORGS, partitions_def=DAYS_BY_STATE, io_manager_key="hive")
def orgs(context: dg.AssetExecutionContext) -> pl.DataFrame:
    keys = [DAYS_BY_STATE.get_partition_key_from_str(key).keys_by_dimension for key in context.partition_keys]
    rows = [
        {"date": dt.date.fromisoformat(key["date"]), "state": key["state"], "n": row * int(key["date"][-2:])}
        for key in keys
        for row in range(1, 2 + STATES.index(key["state"]))
    ]
    return pl.DataFrame(rows)


@dg.asset(key=RATES, io_manager_key="flat")
def rates() -> pl.DataFrame:
    return pl.DataFrame({"state": STATES, "rate": [2, 3, 5]})


DAILY = """
    SELECT date, state, sum(n * rate) AS paid, count(*) AS orgs
    FROM silver_tax_id.orgs JOIN rates USING (state)
    GROUP BY ALL
"""


class Location:
    """The assets of a code location, run one at a time."""

    def __init__(self, instance: dg.DagsterInstance, resources: Mapping[str, object]) -> None:
        self.instance, self.resources = instance, resources

    def run(
        self, asset: dg.AssetsDefinition, first: str | None = None, last: str | None = None
    ) -> dict[str | None, dict[str, Any]]:
        """Materialize an asset and return the metadata of its events."""
        start, end = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
        assets = list({asset.key: asset for asset in (orgs, rates, asset)}.values())
        result = dg.materialize(
            assets,
            selection=[asset],
            instance=self.instance,
            resources=dict(self.resources),
            tags={} if first is None else {start: first, end: last or first},
        )
        events = [event.materialization for event in result.get_asset_materialization_events()]
        return {event.partition: {name: value.value for name, value in event.metadata.items()} for event in events}

    def rows(self, asset: dg.AssetsDefinition, partition: str | None = None) -> list[dict[str, Any]]:
        """The stored rows of an asset, or of one partition, as its IO manager loads them."""
        definitions = dg.Definitions(assets=[asset], resources=dict(self.resources))
        with definitions.get_asset_value_loader(instance=self.instance) as loader:
            loaded = loader.load_asset_value(asset.key, python_type=pl.DataFrame, partition_key=partition)
        assert isinstance(loaded, pl.DataFrame)
        return loaded.to_dicts()

    def last_read(self) -> tuple[int, int]:
        """How many files the engine read in the last run, and how many rows it made of them."""
        (run,) = self.instance.get_runs(limit=1)
        texts = [entry.user_message for entry in self.instance.all_logs(run.run_id)]
        (line,) = [text for text in texts if text.startswith("the SQL read")]
        files, _, rows = map(int, re.findall(r"\d+", line))
        return files, rows


@pytest.fixture(scope="module")
def location(s3_fields: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Location]:
    """Three days of three states, and the fourth day of one of them."""
    fields = {**s3_fields, "prefix": "sql-assets", "environment": "uat"}
    resources = {"hive": PartitionedS3ParquetIOManager(**fields), "flat": S3ParquetIOManager(**fields)}
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        there = Location(instance, resources)
        there.run(rates)
        there.run(orgs, "2024-01-01|CA", "2024-01-03|TX")
        there.run(orgs, "2024-01-04|CA")
        yield there


def expected(days: range, states: list[str]) -> list[dict[str, Any]]:
    factors = dict(zip(STATES, [2, 3, 5], strict=True))
    return [
        {
            "date": dt.date(2024, 1, day),
            "state": state,
            "paid": day * factors[state] * sum(range(1, 2 + STATES.index(state))),
            "orgs": 1 + STATES.index(state),
        }
        for day in days
        for state in states
    ]


def by_day_and_state(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["date"], row["state"]))


def daily(**options: Any) -> dg.AssetsDefinition:
    return sql_asset("gold/daily", DAILY, partitions_def=DAYS, io_manager_key="flat", assets=[orgs, rates], **options)


def test_a_range_of_days_is_one_query_over_their_partitions(location: Location) -> None:
    asset = daily()
    written = location.run(asset, "2024-01-02", "2024-01-03")
    assert written.keys() == {"2024-01-02", "2024-01-03"}
    for day in (2, 3):
        assert by_day_and_state(location.rows(asset, f"2024-01-0{day}")) == expected(range(day, day + 1), STATES)
    assert location.last_read() == (7, 6)
    event = written["2024-01-02"]
    assert event["dagster/table_name"] == "uat_gold.daily"
    schema = [(column.name, column.type) for column in event["dagster/column_schema"].columns]
    assert schema == [("date", "date32[day]"), ("state", "string"), ("paid", "int64"), ("orgs", "int64")]
    lineage = event["dagster/column_lineage"].deps_by_column
    assert lineage["paid"] == [dg.TableColumnDep(ORGS, "n"), dg.TableColumnDep(RATES, "rate")]
    assert lineage["orgs"] == []


def test_other_partitions_are_not_opened(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object that the engine names is that of a mapped partition, in the plan and in the requests."""
    opened: list[str] = []
    started = EmbeddedConnection.sql

    def sql(self: EmbeddedConnection, query: str, params: Any = None, **options: Any) -> Any:
        result = started(self, query, params, **options)
        opened.extend(uri for scan in result._prepared.scans for uri in scan.objects)
        return result

    monkeypatch.setattr(EmbeddedConnection, "sql", sql)
    location.run(daily(), "2024-01-02")
    assert sorted(uri.rpartition("sql-assets/")[2] for uri in opened) == [
        *(f"Silver/TaxID/orgs/state={state}/date=2024-01-02/data.parquet" for state in STATES),
        "rates.parquet",
    ]


def test_partitions_of_the_same_definition_are_the_same(location: Location) -> None:
    asset = sql_asset(
        "gold/kept",
        'SELECT o.*, $partition_key AS key FROM "Silver/TaxID/orgs" AS o',
        partitions_def=DAYS_BY_STATE,
        io_manager_key="hive",
        assets=[orgs],
    )
    location.run(asset, "2024-01-02|NY")
    assert [(row["n"], row["state"], row["key"]) for row in location.rows(asset, "2024-01-02|NY")] == [
        (2, "NY", "2024-01-02|NY"),
        (4, "NY", "2024-01-02|NY"),
    ]
    with pytest.raises(PartitionError, match=r"has \$partition_key, and this run has 2 partitions"):
        location.run(asset, "2024-01-02|NY", "2024-01-02|TX")


def test_an_asset_without_partitions_reads_what_there_is(location: Location) -> None:
    sql = "SELECT state, count(*) AS days FROM uat_silver_tax_id.orgs GROUP BY state"
    asset = sql_asset("gold/whole", sql, io_manager_key="flat", assets=[orgs])
    location.run(asset)
    assert sorted((row["state"], row["days"]) for row in location.rows(asset)) == [("CA", 4), ("NY", 6), ("TX", 9)]


def test_a_mapping_of_a_dependency_wins(location: Location) -> None:
    days = daily()
    location.run(days, "2024-01-01", "2024-01-03")
    two_days = dg.AssetDep(days.key, partition_mapping=dg.TimeWindowPartitionMapping(start_offset=-1))
    asset = sql_asset(
        "gold/two_days",
        "SELECT CAST($window_start AS DATE) AS date, sum(paid) AS paid, min(date) AS since FROM gold.daily",
        partitions_def=DAYS,
        io_manager_key="flat",
        deps=[two_days],
    )
    upstream = {ORGS: orgs, RATES: rates}
    result = dg.materialize(
        [*upstream.values(), days, asset],
        selection=[asset],
        instance=location.instance,
        resources=dict(location.resources),
        partition_key="2024-01-03",
    )
    assert result.success
    paid = sum(row["paid"] for row in expected(range(2, 4), STATES))
    assert location.rows(asset, "2024-01-03") == [
        {"date": dt.date(2024, 1, 3), "paid": paid, "since": dt.date(2024, 1, 2)}
    ]


def test_a_window_bounds_an_asset_without_partitions(location: Location) -> None:
    @dg.asset(key=["events"], io_manager_key="flat")
    def events() -> pl.DataFrame:
        return pl.DataFrame({"at": [dt.datetime(2024, 1, day, 12) for day in (1, 2, 2, 3)], "n": [1, 2, 3, 4]})  # noqa: DTZ001

    location.run(events)
    asset = sql_asset(
        "gold/events_of_day",
        "SELECT * FROM events WHERE at >= $window_start AND at < $window_end",
        partitions_def=DAYS,
        io_manager_key="flat",
        assets=[events],
    )
    location.run(asset, "2024-01-02")
    assert [row["n"] for row in location.rows(asset, "2024-01-02")] == [2, 3]


def test_the_window_of_several_dimensions_is_that_of_their_days(location: Location) -> None:
    asset = sql_asset(
        "gold/windows",
        "SELECT date, state, $window_start AS since, $window_end AS until FROM silver_tax_id.orgs",
        partitions_def=DAYS_BY_STATE,
        io_manager_key="hive",
        assets=[orgs],
    )
    location.run(asset, "2024-01-01|CA", "2024-01-02|NY")
    (row,) = {(row["since"], row["until"]) for row in location.rows(asset, "2024-01-02|NY")}
    assert row == (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 3, tzinfo=dt.UTC))


def test_a_partition_that_is_not_there_is_named(location: Location) -> None:
    message = (
        r"^asset 'gold/daily' reads 2 partitions of asset 'Silver/TaxID/orgs' that are not materialized:"
        r" 2024-01-04\|NY, 2024-01-04\|TX: materialize them, or set"
    )
    with pytest.raises(PartitionError, match=message):
        location.run(daily(), "2024-01-03", "2024-01-04")
    asset = daily(metadata={"allow_missing_partitions": True})
    location.run(asset, "2024-01-03", "2024-01-04")
    assert location.rows(asset, "2024-01-04") == expected(range(4, 5), ["CA"])


def test_partitions_that_are_all_missing_are_no_rows(location: Location) -> None:
    asset = daily(metadata={"allow_missing_partitions": True})
    location.run(asset, "2024-01-05", "2024-01-06")
    assert location.rows(asset, "2024-01-06") == []


def test_large_objects_are_read_for_whole_row_groups_only(location: Location) -> None:
    """A row group has the rows of partitions that the run does not read."""
    manager, logged = location.resources["hive"], list[dg.AssetObservation]()
    assert isinstance(manager, PartitionedS3ParquetIOManager)
    done = consolidate_asset(location.instance, manager, ORGS, "a-run", logged.append)
    assert (done.partitions, len(logged)) == (10, 1)
    location.instance.report_runless_asset_event(logged[0])
    asset = daily()
    location.run(asset, "2024-01-02")
    assert by_day_and_state(location.rows(asset, "2024-01-02")) == expected(range(2, 3), STATES)
    sql = "SELECT date, state, sum(n) AS n FROM silver_tax_id.orgs GROUP BY date, state"
    whole = sql_asset("gold/whole", sql, io_manager_key="flat", assets=[orgs])
    location.run(whole)
    found = sorted((row["date"].day, row["state"], row["n"]) for row in location.rows(whole))
    days = [(day, state, day * sum(range(2 + number))) for day in (1, 2, 3) for number, state in enumerate(STATES)]
    assert found == [*days, (4, "CA", 4)]


def test_a_table_that_is_not_there_is_named(location: Location) -> None:
    asset = sql_asset("gold/x", "SELECT * FROM nowhere", io_manager_key="flat")
    with pytest.raises(
        MissingObjectError, match=r"^asset 'gold/x' reads asset 'nowhere', which has no materialization"
    ):
        location.run(asset)
    guessed = sql_asset("gold/x", "SELECT * FROM silver_tax_id.orgs", io_manager_key="flat")
    message = (
        r"'silver_tax_id.orgs'. It was resolved to asset 'silver_tax_id/orgs' when the code location was loaded, but"
        r" belongs to asset 'Silver/Tax"
    )
    with pytest.raises(MissingObjectError, match=message):
        location.run(guessed)


def test_partitions_that_a_location_does_not_know_are_not_read_whole(location: Location) -> None:
    asset = sql_asset("gold/x", 'SELECT * FROM "Silver/TaxID/orgs"', partitions_def=DAYS, io_manager_key="flat")
    with pytest.raises(
        PartitionError, match=r"whose partitions this code location does not know: add AssetSpec\(\['Silver"
    ):
        dg.materialize(
            [asset], instance=location.instance, resources=dict(location.resources), partition_key="2024-01-01"
        )


def test_errors_of_the_engine_keep_their_types(location: Location) -> None:
    with pytest.raises(PlanError, match="nope"):
        location.run(sql_asset("gold/x", "SELECT nope FROM rates", io_manager_key="flat", assets=[rates]))
    with pytest.raises(ExecutionError, match=r"[Dd]ivide by zero"):
        location.run(
            sql_asset("gold/x", "SELECT 1 / (rate - 2) AS x FROM rates", io_manager_key="flat", assets=[rates])
        )


def test_an_event_log_in_memory_and_another_io_manager_are_refused(location: Location) -> None:
    asset = sql_asset("gold/x", "SELECT * FROM rates", io_manager_key="flat", assets=[rates])
    with pytest.raises(
        ConfigurationError, match=r"needs an event log in PostgreSQL or SQLite; .* InMemoryEventLogStorage"
    ):
        dg.materialize([asset], resources=dict(location.resources))
    with pytest.raises(
        ConfigurationError, match=r"resource 'flat' of asset 'gold/x' must be one of DagFusion's IO man"
    ):
        dg.materialize([asset], instance=location.instance, resources={"flat": dg.FilesystemIOManager()})


def test_another_environment_is_refused(location: Location) -> None:
    asset = sql_asset("gold/x", "SELECT * FROM prod_default.rates", io_manager_key="flat", assets=[rates])
    with pytest.raises(
        ConfigurationError, match=r"'prod_default.rates', which is not in environment 'uat' of its IO man"
    ):
        location.run(asset)


def test_no_rows_are_left_out_of_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGFUSION_ARCHIVED_AFTER_DAYS", "90")
    monkeypatch.setenv("DAGFUSION_PARALLELISM", "3")
    read = Settings.read(_variables(S3ParquetIOManager(bucket="lake")))
    assert (read.archived_after_days, read.parallelism) == (0, 3)

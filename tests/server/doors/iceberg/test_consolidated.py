"""Clients of the Iceberg catalog read large objects in place of small ones while all that they hold is current."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore import get

from dagfusion_contract.field_ids import KEY
from dagfusion_contract.uri import object_path
from dagfusion_pipeline import PartitionedS3ParquetIOManager
from dagfusion_pipeline.consolidate import consolidate_asset
from dagfusion_pipeline.vacuum import superseded_large_objects
from dagfusion_server.doors.iceberg.storage_credentials import large_object_places
from tests.interop.spark.spark_runtime import Spark
from tests.pipeline.written import HOSTILE, key_range
from tests.server.doors.iceberg.lake import PATIENCE_S, Lake, running
from tests.server.doors.iceberg.test_clients import same

DAYS = tuple(f"2024-01-{day:02}" for day in range(1, 9))
PLACES = HOSTILE[:4]
PREFIX = "large"
# Polars says that it plans with PyIceberg, and guesses no region.
pytestmark = pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")


@pytest.fixture(scope="module")
def large_lake(
    s3_fields: dict[str, Any], sqlite_pattern: Path, tmp_path_factory: pytest.TempPathFactory, spark: Spark | None
) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("iceberg")
    shutil.copytree(sqlite_pattern, folder / "home")
    tables = "uat_default.*"
    home = folder / "home"
    with running(home, folder, s3_fields, PREFIX, spark, DAGFUSION_ICEBERG_CONSOLIDATED=tables) as lake:
        yield lake


@pytest.fixture
def manager(s3_fields: dict[str, Any]) -> PartitionedS3ParquetIOManager:
    return PartitionedS3ParquetIOManager(**s3_fields, prefix=PREFIX)


@pytest.fixture
def consolidate(large_lake: Lake, manager: PartitionedS3ParquetIOManager, name: str) -> Callable[[], int]:
    def run() -> int:
        made = consolidate_asset(
            large_lake.instance,
            manager,
            dg.AssetKey(name),
            "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
            large_lake.instance.report_runless_asset_event,
            target_bytes=6_000,
        )
        large_lake.environments.refresh(PATIENCE_S)
        return made.objects

    return run


@pytest.mark.usefixtures("long")
def test_the_life_of_a_consolidated_table(
    large_lake: Lake, manager: PartitionedS3ParquetIOManager, name: str, consolidate: Callable[[], int]
) -> None:
    """Consolidated, rewritten in part, with a column more and a wider one, and consolidated again."""
    partitions = dg.MultiPartitionsDefinition(
        {
            "date": dg.DailyPartitionsDefinition(DAYS[0], end_date="2024-01-09"),
            "place": dg.StaticPartitionsDefinition([*PLACES]),
        }
    )
    more: list[dict[str, pl.Expr]] = [{"n": pl.col("n").cast(pl.Int32)}]

    @dg.asset(name=name, partitions_def=partitions)
    def made(context: dg.AssetExecutionContext) -> pl.DataFrame:
        keys = [dict(key.keys_by_dimension) for key in context.partition_keys]
        rows = [{**key, "n": n} for key in keys for n in range(20)]
        return pl.DataFrame(rows).with_columns(pl.col("date").str.to_date(), **more[-1])

    table, columns = f"uat_default.{name}", ["date", "place", "n"]
    last = PLACES[-1]
    large_lake.materialize(made, manager, tags=key_range(f"{DAYS[0]}|{PLACES[0]}", f"{DAYS[-1]}|{last}"))
    before = same(large_lake, table, columns)
    assert large_files(large_lake, table) == []

    written = consolidate()
    assert written > 1
    files = large_files(large_lake, table)
    assert len(files) == written
    assert same(large_lake, table, columns) == before
    assert len(scanned(large_lake, table)) == written
    check_filters(large_lake, table)
    assert all(KEY in field.metadata for uri in files for field in schema_of(large_lake, uri))
    assert large_lake.pyiceberg().load_table(table).spec().fields == (), "Daft would not filter by its fields"

    more.append({"n": pl.lit(2**40), "more": pl.lit(1.5)})
    large_lake.materialize(made, manager, partition_key=f"{DAYS[2]}|{last}")
    changed = same(large_lake, table, [*columns, "more"])
    assert len(changed) == len(before)
    assert len(large_files(large_lake, table)) == written - 1
    assert {row[3] for row in changed if str(row[0]) == DAYS[2] and row[1] == last} == {1.5}
    check_filters(large_lake, table)

    snapshots = large_lake.pyiceberg().load_table(table).metadata.snapshots
    assert len({one.sequence_number for one in snapshots}) == len(snapshots)
    consolidate()
    assert same(large_lake, table, [*columns, "more"]) == changed
    check_filters(large_lake, table)

    named = set(large_files(large_lake, table))
    large_lake.materialize(made, manager, tags=key_range(f"{DAYS[0]}|{PLACES[0]}", f"{DAYS[-1]}|{last}"))
    assert consolidate() > 1
    place = large_lake.config.environments[0].own.iceberg_metadata
    assert superseded(large_lake, manager, name, None) >= named
    assert superseded(large_lake, manager, name, place).isdisjoint(named), "no client has newer metadata"
    assert set(large_files(large_lake, table)).isdisjoint(named)
    assert superseded(large_lake, manager, name, place) >= named


def superseded(lake: Lake, manager: PartitionedS3ParquetIOManager, name: str, metadata: str | None) -> set[str]:
    """The large objects that the vacuum would delete in an hour."""
    since = datetime.now(UTC) + timedelta(hours=1)
    found = superseded_large_objects(lake.instance, manager, dg.AssetKey(name), since, metadata)
    return {manager.object_store.uri(one.key) for one in found}


def check_filters(lake: Lake, table: str) -> None:
    loaded = lake.pyiceberg().load_table(table)
    with lake.duckdb() as duck:
        for place in PLACES:
            for day in DAYS[1:4]:
                where = f"place = '{place}' AND date = '{day}'"
                (expected,) = lake.own(f"SELECT sum(n + 0) AS n FROM {table} WHERE {where}")["n"].to_pylist()
                assert duck.execute(f"SELECT sum(n) FROM lake.{table} WHERE {where}").fetchone() == (expected,)
                found = loaded.scan(where).to_arrow()["n"].to_pylist()
                assert sum(found) == expected, where


def scanned(lake: Lake, table: str) -> list[str]:
    return [task.file.file_path for task in lake.pyiceberg().load_table(table).scan().plan_files()]


def large_files(lake: Lake, table: str) -> list[str]:
    return [uri for uri in scanned(lake, table) if "/_consolidated/" in uri]


def schema_of(lake: Lake, uri: str) -> Any:
    return pq.read_schema(pa.BufferReader(bytes(get(lake.store, object_path(uri)).bytes())))


def test_the_setting_names_the_tables(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    @dg.asset(
        name=name, partitions_def=dg.StaticPartitionsDefinition([*"abcdefghijkl"]), metadata={"partition_expr": "p"}
    )
    def made() -> pl.DataFrame:
        return pl.DataFrame({"p": [*"abcdefghijkl"], "n": range(12)})

    lake.materialize(made, hive, tags=key_range("a", "l"))
    record = lake.instance.report_runless_asset_event
    assert consolidate_asset(lake.instance, hive, dg.AssetKey(name), "6f9619ff", record).objects == 1
    lake.environments.refresh(PATIENCE_S)
    assert large_files(lake, f"uat_default.{name}") == []
    (table,) = [
        one
        for state in lake.environments.states().values()
        for one in state.snapshot.tables.values()
        if str(one.name) == f"uat_default.{name}"
    ]
    folder = (lake.config.environments[0].own.iceberg_metadata or "").removesuffix("/_iceberg")
    assert large_object_places(table) == {f"{folder}/_consolidated/{name}/"}

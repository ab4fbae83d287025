"""What Spark has of its own among the clients, where its runtime is installed; `test_clients.py` compares all rows."""

import threading
from collections.abc import Sequence
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_contract.naming import TableName
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from tests.pipeline.written import key_range
from tests.query.doors.iceberg.lake import PATIENCE_S, Lake, event_of, loaded, rows_of, write_one_row
from tests.query.doors.iceberg.test_clients import HOSTILE, objects
from tests.query.spark.spark_runtime import SparkFailure, skip_without

Rows = list[tuple[Any, ...]]


@pytest.fixture(autouse=True)
def runtime(lake: Lake) -> None:
    skip_without(lake.spark)


def write(lake: Lake, manager: dg.ConfigurableIOManager, name: str, places: Sequence[str], **columns: Any) -> None:
    frame = pl.DataFrame({"place": places}).with_columns(**columns)

    @dg.asset(name=name, partitions_def=dg.StaticPartitionsDefinition([*HOSTILE]), metadata={"partition_expr": "place"})
    def made() -> pl.DataFrame:
        return frame

    lake.materialize(made, manager, tags=key_range(places[0], places[-1]))


def spark(lake: Lake, sql: str) -> Rows:
    return rows_of(skip_without(lake.spark).sql(sql))


def test_older_snapshots_and_tables_of_metadata(lake: Lake, per_run: PartitionedS3ParquetIOManager, name: str) -> None:
    table = f"uat_default.{name}"
    there = f"{lake.catalog}.{table}"
    write(lake, per_run, name, HOSTILE, n=pl.int_range(10).cast(pl.Int32), gone=pl.lit("é"))
    write(lake, per_run, name, HOSTILE[2:3], n=pl.lit(2**40), more=pl.lit(1.5))
    snapshots = loaded(lake, table, 2).snapshots()
    for snapshot, columns in zip(snapshots, ("place, n, gone", "place, n, gone, more"), strict=True):
        expected = rows_of(lake.own(f"SELECT {columns} FROM {table}", event_of(snapshot)))
        for as_of in (f"VERSION AS OF {snapshot.snapshot_id}", f"TIMESTAMP AS OF {snapshot.timestamp_ms / 1000}"):
            assert spark(lake, f"SELECT {columns} FROM {there} {as_of}") == expected
    ids = {snapshot.snapshot_id for snapshot in snapshots}
    assert {one for (one,) in spark(lake, f"SELECT snapshot_id FROM {there}.snapshots")} == ids
    assert spark(lake, f"SELECT sum(record_count), count(*) FROM {there}.files") == [(10, 10)]
    partitions = f"SELECT partition.place, record_count, file_count FROM {there}.partitions"
    assert spark(lake, partitions) == sorted(((place, 1, 1) for place in HOSTILE), key=repr)


def test_filters(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    write(lake, hive, name, HOSTILE, n=pl.int_range(10))
    for n, place in enumerate(HOSTILE):
        text = place.replace("\\", "\\\\").replace("'", "\\'")
        assert spark(lake, f"SELECT n FROM {lake.catalog}.uat_default.{name} WHERE place = '{text}'") == [(n,)]
    assert spark(lake, f"SELECT n FROM {lake.catalog}.uat_default.{name} WHERE place IS NULL") == []


def test_a_token_reads_what_it_may(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    write_one_row(lake, flat, name, f"{name}_secret")
    secret = lake.tokens.create(name, [f"uat_default.{name}"])
    try:
        skip_without(lake.spark).attach("granted", lake.url, token=secret)
        assert spark(lake, f"SELECT id FROM granted.uat_default.{name}") == [(1,)]
        assert spark(lake, "SHOW TABLES IN granted.uat_default") == [("uat_default", name, False)]
        with pytest.raises(SparkFailure, match="TABLE_OR_VIEW_NOT_FOUND"):
            spark(lake, f"SELECT id FROM granted.uat_default.{name}_secret")
    finally:
        lake.tokens.path.unlink()


def test_reads_while_runs_write(lake: Lake, per_run: PartitionedS3ParquetIOManager, name: str) -> None:
    """Each answer has all partitions once, as of some event; the last has the last run."""
    places, ended = HOSTILE[:4], threading.Event()
    write(lake, per_run, name, places, n=pl.lit(0))

    def rewrite() -> None:
        for n in range(1, 6):
            write(lake, per_run, name, places, n=pl.lit(n))
        ended.set()

    thread = threading.Thread(target=rewrite)
    thread.start()
    answers: list[Rows] = []
    while not ended.is_set() or not answers:
        answers.append(spark(lake, f"SELECT place, n FROM {lake.catalog}.uat_default.{name}"))
    thread.join(PATIENCE_S)
    assert all(sorted(place for place, _ in answer) == sorted(places) for answer in answers)
    assert all(max(ns) - min(ns) <= 1 for ns in ([n for _, n in answer] for answer in answers))
    assert {n for _, n in spark(lake, f"SELECT place, n FROM {lake.catalog}.uat_default.{name}")} == {5}


def test_writes_are_refused(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    """Spark has keys here that may write to the bucket, and deletes and leaves nothing among the tables."""
    write(lake, hive, name, HOSTILE[:2], n=pl.lit(1))
    table, before = f"{lake.catalog}.uat_default.{name}", objects(lake)
    orphans = f"CALL {lake.catalog}.system.remove_orphan_files(table => 'uat_default.{name}', prefix_listing => true)"
    for sql, message in (
        (f"INSERT INTO {table} VALUES (1, 'x')", "Server does not support endpoint"),
        (f"DROP TABLE {table}", "Server does not support endpoint"),
        (f"DROP TABLE {table} PURGE", "GC is disabled"),
        (orphans, "GC is disabled"),
    ):
        with pytest.raises(SparkFailure, match=message):
            spark(lake, sql)
        assert objects(lake) == before


def test_views(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    """Spark would run DataFusion's statement, if there were none in its own dialect."""

    @dg.asset(name=name)
    def made() -> pl.DataFrame:
        return pl.DataFrame({"n": [7, 8]})

    lake.materialize(made, flat)
    tables = (TableName("uat_default", name),)
    for view, expression in (("shared", "n * 2"), ("other", "n / 2")):
        sql = f"SELECT {expression} AS n FROM uat_default.{name}"
        entry = view_entry(View(sql, tables, pa.schema({"n": pa.int64()})))
        metadata = {VIEW_ENTRY: dg.MetadataValue.json(entry)}
        lake.instance.report_runless_asset_event(dg.AssetMaterialization(f"{name}_{view}", metadata=metadata))
    lake.environments.refresh(PATIENCE_S)
    assert spark(lake, f"SELECT n FROM {lake.catalog}.uat_default.{name}_shared") == [(14,), (16,)]
    for columns in ("n", "count(*)"):
        with pytest.raises(SparkFailure, match="the statement of this view may have other rows in Spark SQL"):
            spark(lake, f"SELECT {columns} FROM {lake.catalog}.uat_default.{name}_other")


def test_types_that_spark_does_not_read_are_errors(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    columns = {
        "n": pa.array([1]),
        "ms": pa.array([1], pa.timestamp("ms")),
        "small": pa.array([255], pa.uint8()),
        "large": pa.array([2**32 - 1], pa.uint32()),
    }

    @dg.asset(name=name)
    def made() -> pa.Table:
        return pa.table(columns)

    lake.materialize(made, flat)
    assert spark(lake, f"SELECT n, small FROM {lake.catalog}.uat_default.{name}") == [(1, 255)]
    for column in ("ms", "large"):
        with pytest.raises(SparkFailure, match="ClassCastException"):
            spark(lake, f"SELECT {column} FROM {lake.catalog}.uat_default.{name}")

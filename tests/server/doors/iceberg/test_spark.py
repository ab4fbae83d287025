"""What Spark has of its own among the clients, where its runtime is installed; `test_clients.py` compares all rows."""

import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_contract.naming import TableName
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from tests.interop.spark.spark_runtime import SparkFailure, skip_without
from tests.pipeline.written import HOSTILE, Places, key_range
from tests.server.doors.iceberg.lake import PATIENCE_S, Lake, event_of, loaded, rows_of, write_one_row
from tests.server.doors.iceberg.test_clients import objects

Rows = list[tuple[Any, ...]]


@pytest.fixture(autouse=True)
def runtime(lake: Lake) -> None:
    skip_without(lake.spark)


def write(lake: Lake, manager: dg.ConfigurableIOManager, name: str, places: Sequence[str], **columns: Any) -> None:
    lake.materialize(Places(name).of(places, **columns), manager, tags=key_range(places[0], places[-1]))


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


def publish_view(lake: Lake, name: str, table: str, sql: str, columns: pa.Schema) -> None:
    entry = view_entry(View(sql, (TableName("uat_default", table),), columns))
    metadata = {VIEW_ENTRY: dg.MetadataValue.json(entry)}
    lake.instance.report_runless_asset_event(dg.AssetMaterialization(name, metadata=metadata))


def test_views(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    """Spark would run DataFusion's statement, if there were none in its own dialect."""

    @dg.asset(name=name)
    def made() -> pl.DataFrame:
        return pl.DataFrame({"n": [7, 8]})

    lake.materialize(made, flat)
    for view, condition in (("shared", "n > 7"), ("other", "n / 2 > 3")):
        sql = f"SELECT n FROM uat_default.{name} WHERE {condition}"
        publish_view(lake, f"{name}_{view}", name, sql, pa.schema({"n": pa.int64()}))
    lake.environments.refresh(PATIENCE_S)
    assert spark(lake, f"SELECT n FROM {lake.catalog}.uat_default.{name}_shared") == [(8,)]
    for columns in ("n", "count(*)"):
        with pytest.raises(SparkFailure, match="the statement of this view may have other rows in Spark SQL"):
            spark(lake, f"SELECT {columns} FROM {lake.catalog}.uat_default.{name}_other")


OTHER_SETTINGS = {
    "spark.sql.ansi.enabled": "false",
    "spark.sql.caseSensitive": "true",
    "spark.sql.decimalOperations.allowPrecisionLoss": "true",
    "spark.sql.groupByOrdinal": "false",
    "spark.sql.orderByOrdinal": "false",
    "spark.sql.parser.escapedStringLiterals": "true",
    "spark.sql.session.timeZone": "America/Los_Angeles",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
}


def test_views_have_the_same_rows_or_an_error_whatever_the_settings_are(
    lake: Lake, flat: S3ParquetIOManager, name: str
) -> None:
    times = [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, 23, tzinfo=UTC)]
    columns = {
        "n": pa.array([1, 2**62]),
        "d": pa.array([date(2024, 1, 1), date(2024, 1, 2)]),
        "ts": pa.array(times, pa.timestamp("us")),
        "at": pa.array(times, pa.timestamp("us", "UTC")),
        "price": pa.array([Decimal("1.2345678901"), Decimal(2)], pa.decimal128(28, 10)),
    }

    @dg.asset(name=name)
    def made() -> pa.Table:
        return pa.table(columns)

    lake.materialize(made, flat)
    source = f"FROM uat_default.{name}"
    published = (
        f"SELECT CAST('2024-01-01' AS DATE) AS x, count(*) AS c {source} WHERE ts < '2024-01-02 12:00:00'",
        f"SELECT ts AS x, count(*) AS c {source} WHERE d <= ts AND d >= DATE '2024-01-02' GROUP BY ts",
        f"SELECT at AS x, n AS c {source} ORDER BY at DESC LIMIT 1",
        f"SELECT max(at) AS x, count(at) AS c {source} WHERE price > 1.5 OR n = -1",
        f"SELECT max(price) AS x, count(*) AS c {source} WHERE price < 2",
        f"SELECT d AS x, n AS c {source} WHERE d = '2024-01-01' ORDER BY n, d",
    )
    refused = (
        f"SELECT date_trunc('day', at) AS x, n AS c {source}",
        f"SELECT extract(DAY FROM at) AS x, n AS c {source}",
        f"SELECT at AS x, n AS c {source} WHERE at < '2024-01-01 01:00:00'",
        f"SELECT at AS x, n AS c {source} WHERE at < TIMESTAMP '2024-01-01 01:00:00'",
        f"SELECT price * price AS x, n AS c {source}",
        f"SELECT n + n AS x, n AS c {source}",
    )
    for number, sql in enumerate((*published, *refused)):
        publish_view(lake, f"{name}_{number}", name, sql, lake.own(sql).schema)
    lake.environments.refresh(PATIENCE_S)
    before = {key: spark(lake, f"SET {key}")[0][1] for key in OTHER_SETTINGS}
    for settings in (OTHER_SETTINGS, before):
        for key, value in settings.items():
            spark(lake, f"SET {key}={value}")
        for number, sql in enumerate(published):
            there = spark(lake, f"SELECT x, c FROM {lake.catalog}.uat_default.{name}_{number}")
            assert there == rows_of(lake.own(sql)), (sql, settings)
        for number, _ in enumerate(refused, len(published)):
            with pytest.raises(SparkFailure, match="the statement of this view may have other rows in Spark SQL"):
                spark(lake, f"SELECT x, c FROM {lake.catalog}.uat_default.{name}_{number}")


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

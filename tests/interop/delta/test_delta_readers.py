"""deltalake, DuckDB, Polars and Sail, unmodified, read from exported Delta logs what DagFusion answers."""

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_client.errors import UnknownTableError
from dagfusion_contract.record import schema_entry
from dagfusion_contract.tombstone import TOMBSTONE_ENTRY, Tombstone, tombstone_entry
from dagfusion_contract.uri import object_path, store_url
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_query.connection import connect_embedded
from dagfusion_query.object_store import open_store
from tests.interop.delta.delta_lake import Lake, duckdb_with, queried, rows_of, same
from tests.interop.spark.sail import local_cluster
from tests.pipeline.written import HOSTILE, Places, key_range
from tests.stores import s3_fields

__all__ = ["s3_fields"]

PLACES = (*HOSTILE, "a:b", "..")
# deltalake escapes these in the URIs that Polars asks it for, and Polars does not unescape them.
NOT_IN_POLARS = ("a b", "ü ñ")
PREFIX = "delta"
_names = itertools.count()
pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture(scope="module")
def lake(s3_fields: dict[str, Any], sqlite_pattern: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    home = tmp_path_factory.mktemp("delta") / "home"
    shutil.copytree(sqlite_pattern, home)
    variables = {
        "DAGFUSION_STATE_DIR": "none",
        "ENVIRONMENT": "uat",
        "AWS_ENDPOINT_URL": s3_fields["endpoint_url"],
        "AWS_REGION": s3_fields["region"],
        "AWS_ACCESS_KEY_ID": s3_fields["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3_fields["secret_access_key"],
    }
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        connect_embedded(str(home), settings=variables) as connection,
        duckdb_with(s3_fields) as duck,
    ):
        yield Lake(instance, connection, s3_fields, duck)


@pytest.fixture(scope="module")
def hive(s3_fields: dict[str, Any]) -> PartitionedS3ParquetIOManager:
    return PartitionedS3ParquetIOManager(**s3_fields, prefix=PREFIX)


@pytest.fixture(scope="module")
def flat(s3_fields: dict[str, Any]) -> S3ParquetIOManager:
    return S3ParquetIOManager(**s3_fields, prefix=PREFIX)


@pytest.fixture
def name() -> str:
    """Of an asset that no other test has."""
    return f"delta_{next(_names)}"


@pytest.fixture
def with_sail(lake: Lake, tmp_path: Path) -> Iterator[Lake]:
    """The lake with one more reader."""
    with local_cluster(tmp_path, lake.options | {"AWS_ENDPOINT": lake.s3["endpoint_url"]}) as remote:
        yield replace(lake, sail=remote)


def test_the_life_of_a_partitioned_table(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    """Hostile values, a rewrite, a column more, a wider column, a NULL partition, a wipe of one and of all."""
    places = Places(name, PLACES)
    table = f"uat_default.{name}"
    numbers = pl.int_range(len(PLACES)).cast(pl.Int32)
    lake.materialize(places.of(PLACES, n=numbers, text=pl.lit("é")), hive, tags=key_range(PLACES[0], PLACES[-1]))
    first = lake.export(table)
    location = first.location
    assert location == f"s3://{lake.s3['bucket']}/{PREFIX}/{name}/"
    assert first.commit is not None
    assert (first.version, first.commit.added, first.commit.removed) == (0, len(PLACES), 0)
    assert [row[0] for row in same(lake, table, ["place", "n", "text"], location, without=["polars"])] == sorted(
        PLACES, key=repr
    )
    assert lake.export(table).commit is None

    lake.materialize(places.of(["a/b"], n=pl.lit(2**40), more=pl.lit(1.5)), hive, partition_key="a/b")
    second = lake.export(table)
    assert second.commit is not None
    assert (second.version, second.commit.added, second.commit.removed) == (1, 1, 0)
    changed = same(lake, table, ["place", "n", "text", "more"], location, without=["polars"])
    assert ("a/b", 2**40, None, 1.5) in changed
    assert ("50%", 2, "é", None) in changed
    run = lake.open(location).history(1)[0]
    assert run["dagster.run-id"] == lake.instance.get_runs(limit=1)[0].run_id

    null = [{"name": "place", "type": "string", "value": None}]
    report(lake, name, "place=__HIVE_DEFAULT_PARTITION__/data.parquet", pa.table({"n": [7]}), null)
    lake.export(table)
    assert (None, 7, None, None) in same(lake, table, ["place", "n", "text", "more"], location, without=["polars"])
    check_filters(lake, location, {place: n for place, n, _, _ in changed} | {"a/b": 2**40, None: 7})
    check_readers_of_the_folder(lake, location, len(PLACES) + 1)

    tombstone = {TOMBSTONE_ENTRY: dg.MetadataValue.json(tombstone_entry(Tombstone("wiped")))}
    lake.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="50%", metadata=tombstone))
    removal = lake.export(table).commit
    assert removal is not None
    assert (removal.added, removal.removed) == (0, 1)
    assert "50%" not in {row[0] for row in same(lake, table, ["place", "n"], location, without=["polars"])}

    lake.instance.wipe_assets([dg.AssetKey(name)])
    with pytest.raises(UnknownTableError, match="--location"):
        lake.export(table)
    assert lake.export(table, location).table is None
    assert set(map(len, lake.answers(location, ["place", "n"], without=["polars"]).values())) == {0}
    lake.materialize(places.of(["50%"], n=pl.lit(1)), hive, partition_key="50%")
    lake.export(table)
    assert same(lake, table, ["place", "n"], location) == [("50%", 1)]


def report(lake: Lake, name: str, path: str, table: pa.Table, partition: Sequence[Mapping[str, Any]]) -> None:
    """Write an object below the folder of an asset, and log its materialization."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    content = sink.getvalue().to_pybytes()
    uri = f"s3://{lake.s3['bucket']}/{PREFIX}/{name}/{path}"
    store = open_store(store_url(uri), lake.connection.settings, connect_timeout="5s", timeout="30s")
    obstore.put(store, object_path(uri), content)
    record = {
        "version": 1,
        "uri": uri,
        "size_bytes": len(content),
        "etag": None,
        "modified": "2024-01-15T12:00:00.123456Z",
        "rows": len(table),
        "partition": [*partition],
        "schema": schema_entry(table.schema),
        "columns": {},
    }
    metadata = {"dagfusion/file": dg.MetadataValue.json(record)}
    lake.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="logged", metadata=metadata))


def check_filters(lake: Lake, location: str, expected: Mapping[str | None, int]) -> None:
    """Each value of the partition column, and each bound, selects its row in every reader."""
    opened, native = lake.open(location), lake.polars(location)
    for place, n in expected.items():
        text = "NULL" if place is None else "'" + place.replace("'", "''") + "'"
        where = f"SELECT n FROM t WHERE (place IS NOT DISTINCT FROM {text}) AND n = {n}"
        found = queried(opened, where)
        assert found["n"].to_pylist() == [n], where
        assert lake.duckdb.execute(where.replace(" t ", f" delta_scan('{location}') ")).fetchall() == [(n,)], where
        is_place = pl.col("place").is_null() if place is None else pl.col("place") == place
        if place in NOT_IN_POLARS:
            with pytest.raises(FileNotFoundError):
                native.filter(is_place).collect()
        else:
            assert native.filter(is_place, pl.col("n") == n).select("n").collect().rows() == [(n,)], where


def check_readers_of_the_folder(lake: Lake, location: str, rows: int) -> None:
    """The log is not taken for data."""
    pattern = f"{location}**/*.parquet"
    assert lake.duckdb.execute(f"SELECT count(*) FROM read_parquet('{pattern}')").fetchall() == [(rows,)]
    options = {name.removeprefix("AWS_").lower(): value for name, value in lake.options.items()}
    scan = pl.scan_parquet(pattern, storage_options=options, missing_columns="insert", extra_columns="ignore")
    assert scan.select(pl.len()).collect().item() == rows


def test_objects_named_after_runs(lake: Lake, s3_fields: dict[str, Any], name: str) -> None:
    """A version of before reads what it read, until the vacuum deletes its objects."""
    manager = PartitionedS3ParquetIOManager(**s3_fields, prefix=PREFIX, file_naming="per_run")
    numbers = itertools.count()

    @dg.asset(name=name, partitions_def=dg.StaticPartitionsDefinition(["a", "b"]), metadata={"partition_expr": "place"})
    def made() -> pl.DataFrame:
        return pl.DataFrame({"n": [next(numbers)]})

    for key in ("a", "b"):
        lake.materialize(made, manager, partition_key=key)
    location = lake.export(f"uat_default.{name}").location
    lake.materialize(made, manager, partition_key="a")
    commit = lake.export(f"uat_default.{name}").commit
    assert commit is not None
    assert (commit.version, commit.added, commit.removed) == (1, 1, 1)
    assert same(lake, f"uat_default.{name}", ["place", "n"], location) == [("a", 2), ("b", 1)]
    assert sorted(lake.open(location, 0).to_pyarrow_table()["n"].to_pylist()) == [0, 1]


TYPES = pa.table(
    {
        "id": [1, 2, 3],
        "i8": pa.array([-128, 127, None], pa.int8()),
        "u8": pa.array([255, 0, None], pa.uint8()),
        "u16": pa.array([65535, 0, None], pa.uint16()),
        "u32": pa.array([2**32 - 1, 0, None], pa.uint32()),
        "f32": pa.array([0.1, -0.0, None], pa.float32()),
        "f64": [1e300, float("nan"), None],
        "price": pa.array(["1.25", "-99.99", None]).cast(pa.decimal128(6, 2)),
        "huge": pa.array(["9" * 38, "-1", None]).cast(pa.decimal128(38, 0)),
        "day": pa.array(["2024-02-29", "1969-12-31", None]).cast(pa.date32()),
        "local": pa.array(["2024-02-29T12:34:56.789", None, None]).cast(pa.timestamp("ms")),
        "at": pa.array(["2024-02-29T12:34:56.123456Z", None, None]).cast(pa.timestamp("us", "UTC")),
        "zoned": pa.array(["2024-02-29T12:34:56.123456Z", None, None]).cast(pa.timestamp("us", "America/New_York")),
        "flag": [True, False, None],
        "raw": [b"\0\xff", b"", None],
        "fixed": pa.array([b"ab", b"cd", None], pa.binary(2)),
        "list": [[1, None], [], None],
        "struct": [{"a": 1, "b": "x"}, {"a": None, "b": None}, None],
        "with.dot and, more": ['ü"\\\n', "", None],
    }
)


def test_types_of_an_unpartitioned_table(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    @dg.asset(name=name)
    def made() -> pa.Table:
        return TYPES

    lake.materialize(made, hive)
    table = f"uat_default.{name}"
    location = lake.export(table).location
    columns = [column for column in TYPES.column_names if column != "f64"]  # a NaN does not equal itself
    assert len(same(lake, table, columns, location)) == 3
    bounds = {"u32": 2**32 - 1, "price": "1.25", "day": "DATE '2024-02-29'", "f64": "1e300", "i8": -128}
    for column, value in bounds.items():
        found = lake.duckdb.execute(f"SELECT id FROM delta_scan('{location}') WHERE {column} = {value}").fetchall()
        assert found == [(1,)], column


def test_a_file_beside_its_folder(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    """Its path is absolute, which deltalake's own engine reads; the others read it with a location above it."""

    @dg.asset(name=name, key_prefix=f"only_{name}")
    def made() -> pl.DataFrame:
        return pl.DataFrame({"n": [1, 2]})

    lake.materialize(made, flat)
    table = f"uat_only_{name}.{name}"
    opened = lake.open(lake.export(table).location)
    rows = queried(opened, "SELECT n FROM t")
    assert rows_of(rows) == [(1,), (2,)]
    above = f"s3://{lake.s3['bucket']}/{PREFIX}/only_{name}"
    assert same(lake, table, ["n"], lake.export(table, above).location) == [(1,), (2,)]


def test_partitions_without_folders(lake: Lake, flat: S3ParquetIOManager, name: str) -> None:
    """Polars takes partition values from paths; with deltalake's reader it takes them from the log."""

    @dg.asset(name=name, partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))
    def made(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"n": [context.partition_time_window.start.day]})

    for day in ("2024-01-01", "2024-01-02"):
        lake.materialize(made, flat, partition_key=day)
    table = f"uat_default.{name}"
    location = lake.export(table).location
    rows = same(lake, table, ["date", "n"], location, without=["polars"])
    assert [n for _, n in rows] == [1, 2]
    assert lake.polars(location).select("date").collect()["date"].null_count() == 2, (
        "say in docs/how-to/delta.md if not"
    )


def test_partitions_of_hours(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    @dg.asset(name=name, partitions_def=dg.HourlyPartitionsDefinition("2024-01-01-00:00", timezone="America/New_York"))
    def made() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    for hour in ("2024-01-01-05:00", "2024-01-02-05:00"):
        lake.materialize(made, hive, partition_key=hour)
    table = f"uat_default.{name}"
    location = lake.export(table).location
    assert len(same(lake, table, ["hour", "n"], location, without=["polars"])) == 2


def test_partition_columns_of_types(lake: Lake, name: str) -> None:
    values = [
        ("i", "int8", -7),
        ("u", "uint64", 2**64 - 1),
        ("dec", "decimal128(9, 2)", "1.50"),
        ("flag", "bool", True),
        ("day", "date32[day]", "2024-02-29"),
    ]
    path = "/".join(f"{column}={str(value).lower()}" for column, _, value in values)
    partition = [{"name": column, "type": kind, "value": value} for column, kind, value in values]
    report(lake, name, f"{path}/data.parquet", pa.table({"n": [1]}), partition)
    table = f"uat_default.{name}"
    assert len(same(lake, table, ["n", *(column for column, _, _ in values)], lake.export(table).location)) == 1


def test_sail_reads_the_same(
    with_sail: Lake,
    *,
    hive: PartitionedS3ParquetIOManager,
    flat: S3ParquetIOManager,
    s3_fields: dict[str, Any],
    name: str,
    long: None,  # noqa: ARG001  # a cluster is started
) -> None:
    test_the_life_of_a_partitioned_table(with_sail, hive, name)
    test_objects_named_after_runs(with_sail, s3_fields, f"{name}_runs")
    test_partitions_without_folders(with_sail, flat, f"{name}_days")
    test_partitions_of_hours(with_sail, hive, f"{name}_hours")
    test_partition_columns_of_types(with_sail, f"{name}_values")
    test_types_of_an_unpartitioned_table(with_sail, hive, f"{name}_types")
    test_a_file_beside_its_folder(with_sail, flat, f"{name}_file")

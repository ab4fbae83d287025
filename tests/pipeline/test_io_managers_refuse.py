"""What the IO managers refuse: each with an error that says what and why, and with no event."""

import datetime as dt
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pydantic
import pytest
from obstore.store import MemoryStore
from polars.io.plugins import register_io_source

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.errors import (
    ColumnTypeError,
    ConfigurationError,
    FrameError,
    LayoutError,
    PartitionError,
    PipelineError,
    StoreError,
    UnsortedStreamError,
)
from dagfusion_pipeline.store import ObjectStore, StoredObject
from dagfusion_stack import object_store
from tests.pipeline.written import key_range

DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
STATES = dg.StaticPartitionsDefinition(["CA", "NY"])
MULTI = dg.MultiPartitionsDefinition({"date": DAILY, "state": STATES})
DAY = dt.date(2024, 1, 1)
ONE_DAY = {"dagster/asset_partition_range_start": "2024-01-01|CA", "dagster/asset_partition_range_end": "2024-01-01|NY"}


class InMemory(PartitionedS3ParquetIOManager):
    """Writes to this process's memory."""

    @property
    def object_store(self) -> ObjectStore:
        return ObjectStore(MemoryStore(), "memory://lake")


def asset_of(value: Any, **options: Any) -> dg.AssetsDefinition:
    def orgs() -> Any:
        return value

    asset: dg.AssetsDefinition = dg.asset(key_prefix="Silver", **options)(orgs)
    return asset


def refused(
    error: type[PipelineError], asset: dg.AssetsDefinition, manager: dg.ConfigurableIOManager | None = None, **run: Any
) -> str:
    """The message of a run that fails without an event."""
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"io_manager": manager or InMemory(bucket="lake")}
        with pytest.raises(error) as failure:
            dg.materialize([asset], resources=resources, instance=instance, **run)
        assert instance.get_latest_materialization_event(asset.key) is None
    return str(failure.value)


def test_rows_of_no_partition_of_the_run() -> None:
    rows = pl.DataFrame(
        {"state": ["CA", "NY", "TX", None], "date": [DAY, dt.date(2024, 1, 2), DAY, DAY], "n": [1, 2, 3, 4]}
    )
    message = refused(PartitionError, asset_of(rows, partitions_def=MULTI), tags=ONE_DAY)
    assert message.startswith(
        "3 rows of asset 'Silver/orgs' belong to no partition of this run, such as state=NY, date=2024-01-02;"
        " state=TX, date=2024-01-01; state=None, date=2024-01-01; the run's partitions are '2024-01-01|CA',"
        " '2024-01-01|NY' (2)"
    )


@pytest.mark.parametrize("manager", [InMemory, S3ParquetIOManager])
def test_rows_of_another_partition_than_the_one(manager: type[Any], fields: dict[str, Any]) -> None:
    rows = pl.DataFrame({"date": [dt.date(2024, 1, 2)], "n": [1]})
    message = refused(
        PartitionError, asset_of(rows, partitions_def=DAILY), manager(**fields), partition_key="2024-01-01"
    )
    assert "1 rows of asset 'Silver/orgs' belong to no partition of this run, such as date=2024-01-02;" in message


def test_days_inside_a_week_are_not_its_start() -> None:
    rows = pl.DataFrame({"date": [dt.date(2024, 1, 9)], "n": [1]})
    asset = asset_of(rows, partitions_def=dg.WeeklyPartitionsDefinition("2024-01-07"))
    message = refused(PartitionError, asset, partition_key="2024-01-07")
    assert "a partition column holds exactly the partition's value (a time partition's start)" in message
    assert "give the partition column another name with the metadata partition_expr" in message


def test_missing_partition_columns() -> None:
    rows = pl.DataFrame({"state": ["CA"], "day": [DAY], "n": [1]})
    assert refused(PartitionError, asset_of(rows, partitions_def=MULTI), tags=ONE_DAY) == (
        "asset 'Silver/orgs' must return the partition columns ['state', 'date'] in a run of 2 partitions; ['date'] are"
        " missing from ['state', 'day', 'n']: add them, or name other columns in the metadata partition_expr"
    )


def test_only_partition_columns() -> None:
    rows = pl.DataFrame({"state": ["CA"], "date": [DAY]})
    message = refused(FrameError, asset_of(rows, partitions_def=MULTI), tags=ONE_DAY)
    assert (
        message == "asset 'Silver/orgs' must return columns besides its partition columns ['date', 'state']; got none"
    )


@pytest.mark.usefixtures("heavy")
def test_partition_columns_of_other_types() -> None:
    rows = pl.DataFrame({"state": [1.5], "date": [DAY], "n": [1]})
    message = refused(ColumnTypeError, asset_of(rows, partitions_def=MULTI), tags=ONE_DAY)
    assert "partition column 'state' of asset 'Silver/orgs' must be string, integer, boolean" in message
    rows = pl.DataFrame({"state": [1], "date": [DAY], "n": [1]})
    message = refused(PartitionError, asset_of(rows, partitions_def=MULTI), tags=ONE_DAY)
    assert "partition 'CA' of asset 'Silver/orgs' must be a value of column 'state', whose type is int64" in message


def test_dates_that_cannot_tell_hours_apart() -> None:
    hourly = dg.HourlyPartitionsDefinition("2024-01-01-00:00")
    asset = asset_of(pl.DataFrame({"hour": [DAY], "n": [1]}), partitions_def=hourly)
    tags = {
        "dagster/asset_partition_range_start": "2024-01-01-00:00",
        "dagster/asset_partition_range_end": "2024-01-01-01:00",
    }
    message = refused(PartitionError, asset, tags=tags)
    assert "partitions '2024-01-01-00:00' and '2024-01-01-01:00' of asset 'Silver/orgs' have the same value" in message


def test_columns_that_parquet_cannot_hold() -> None:
    rows = pl.DataFrame({"n": pl.Series([object()], dtype=pl.Object)})
    message = refused(ColumnTypeError, asset_of(rows))
    assert (
        message
        == "column 'n' of asset 'Silver/orgs' has type Object, which Parquet cannot hold: cast it or leave it out"
    )


def test_values_that_are_no_frame() -> None:
    assert "asset 'Silver/orgs' must return a polars.DataFrame" in refused(FrameError, asset_of([1, 2]))


def test_values_too_long_for_a_key() -> None:
    long = "x" * 1100
    asset = asset_of(pl.DataFrame({"n": [1]}), partitions_def=dg.StaticPartitionsDefinition([long]))
    message = refused(LayoutError, asset, partition_key=long)
    assert "asset 'Silver/orgs', partition column 'partition', value 'xxx" in message


def test_two_partitions_of_one_object() -> None:
    definition = dg.StaticPartitionsDefinition(["a", "", "__HIVE_DEFAULT_PARTITION__"])
    asset = asset_of(pl.DataFrame({"partition": [""], "n": [1]}), partitions_def=definition)
    tags = {
        "dagster/asset_partition_range_start": "a",
        "dagster/asset_partition_range_end": "__HIVE_DEFAULT_PARTITION__",
    }
    message = refused(LayoutError, asset, tags=tags)
    assert "partitions '' and '__HIVE_DEFAULT_PARTITION__' of asset 'Silver/orgs' would both be object" in message


def test_flat_refuses_several_dimensions(flat: S3ParquetIOManager) -> None:
    asset = asset_of(pl.DataFrame({"n": [1]}), partitions_def=MULTI)
    assert refused(PartitionError, asset, flat, partition_key="2024-01-01|CA") == (
        "S3ParquetIOManager keeps assets with one dimension of partitions; asset 'Silver/orgs' has ['state', 'date']:"
        " use PartitionedS3ParquetIOManager"
    )


def test_unsorted_stream_beyond_its_budget() -> None:
    def chunks(*_pushed_down: object) -> Iterator[pl.DataFrame]:
        for state in ("CA", "NY", "CA"):
            yield pl.DataFrame({"state": [state] * 500, "date": [DAY] * 500, "n": [1] * 500})

    rows = register_io_source(chunks, schema=pl.Schema({"state": pl.String, "date": pl.Date, "n": pl.Int64}))
    small = InMemory(bucket="lake", memory_budget_bytes=100)
    assert refused(UnsortedStreamError, asset_of(rows, partitions_def=MULTI), small, tags=ONE_DAY) == (
        "the LazyFrame of asset 'Silver/orgs' came back to partition '2024-01-01|CA' after its file was closed to stay"
        " within memory_budget_bytes=100: sort it by the partition columns, or raise the budget"
    )


def test_ops_are_refused() -> None:
    @dg.op
    def numbers() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.job(resource_defs={"io_manager": InMemory(bucket="lake").get_resource_definition()})
    def job() -> None:
        numbers()

    with pytest.raises(
        ConfigurationError, match="InMemory stores assets; 'result' belongs to an op: make the op an asset"
    ):
        job.execute_in_process()


@pytest.mark.parametrize("prefix", ["/a", "a/", "a//b", "../a", "a/./b", "/"])
def test_prefixes_that_are_no_folders(prefix: str) -> None:
    message = refused(ConfigurationError, asset_of(pl.DataFrame({"n": [1]})), InMemory(bucket="lake", prefix=prefix))
    assert message == f"prefix of InMemory must be folder names joined by slashes, got {prefix!r}"


def test_links_to_objects_that_name_none() -> None:
    manager = InMemory(bucket="lake", object_url="https://s3.example/{bucket}")
    message = refused(ConfigurationError, asset_of(pl.DataFrame({"n": [1]})), manager)
    assert message == "object_url of InMemory must be a URL with {key} in it, got 'https://s3.example/{bucket}'"


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(
    ("field", "value", "requirement"),
    [
        ("bucket", "Lake", "a bucket name (3 to 63 lower-case letters, digits, dots and hyphens)"),
        ("region", "us east", "a region such as us-east-2"),
        ("endpoint_url", "localhost:8333", "a URL such as http://127.0.0.1:8333, without a user or password"),
        ("console_url", "console", "a URL such as http://localhost:8080, without a user or password"),
    ],
)
def test_fields_that_are_variables_too_are_checked_alike(field: str, value: str, requirement: str) -> None:
    fields: dict[str, Any] = {"bucket": "lake", field: value}
    message = refused(ConfigurationError, asset_of(pl.DataFrame({"n": [1]})), InMemory(**fields))
    assert message == f"{field} of InMemory must be {requirement}, got {value!r}"


@pytest.mark.parametrize("field", ["upload_concurrency", "memory_budget_bytes"])
def test_numbers_below_one(field: str) -> None:
    manager: dict[str, Any] = {"bucket": "lake", field: 0}
    message = refused(ConfigurationError, asset_of(pl.DataFrame({"n": [1]})), InMemory(**manager))
    assert message == f"{field} of InMemory must be at least 1; got 0"


@pytest.mark.parametrize(
    "fields", [{"file_naming": "daily"}, {"compression": "gzip"}, {"secret_access_key": 5}, {"buckets": "x"}]
)
def test_fields_that_do_not_exist_or_fit(fields: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError) as refused_fields:
        S3ParquetIOManager(
            **{"bucket": "lake", "access_key_id": "id-8361", "secret_access_key": "secret-8361", **fields}
        )
    assert next(iter(fields)) in str(refused_fields.value)
    assert "8361" not in str(refused_fields.value)


SECRETS: dict[str, Any] = {
    "access_key_id": "id-8361",
    "secret_access_key": "secret-8361",
    "session_token": "token-8361",
}


def test_secrets_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    manager = S3ParquetIOManager(bucket="lake", endpoint_url="http://127.0.0.1:9", **SECRETS)
    assert "8361" not in repr(manager) + str(manager) + repr(manager.object_store)
    schema = manager.get_resource_definition().config_schema.as_field().config_type
    assert isinstance(schema, dg.Shape)
    assert all(schema.fields[name].is_secret for name in SECRETS)
    with pytest.raises(ConfigurationError) as failure:
        dg.materialize(
            [asset_of(pl.DataFrame({"n": [1]}))],
            resources={"io_manager": S3ParquetIOManager(bucket="lake", prefix="/", **SECRETS)},
        )
    captured = capfd.readouterr()
    assert "8361" not in str(failure.value) + captured.out + captured.err


def test_no_failed_upload_is_claimed() -> None:
    class Failing(InMemory):
        @property
        def object_store(self) -> ObjectStore:
            return FailsAtTheLast(MemoryStore(), "memory://lake")

    rows = pl.DataFrame({"state": ["CA", "NY"], "date": [DAY, DAY], "n": [1, 2]})
    assert (
        refused(StoreError, asset_of(rows, partitions_def=MULTI), Failing(bucket="lake"), tags=ONE_DAY) == "disk full"
    )


class FailsAtTheLast(ObjectStore):
    async def put(self, key: str, content: Any) -> StoredObject:
        if "state=NY" in key:
            raise StoreError("disk full")
        return await super().put(key, content)


@pytest.mark.usefixtures("processes")
def test_server_that_stops_is_an_error_and_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_pipeline.store._RETRIES", {"max_retries": 1})
    server = object_store.start(tmp_path / "s3", buckets=["lake"])
    stopped = False

    def rows() -> Iterator[pl.DataFrame]:
        nonlocal stopped
        yield pl.DataFrame({"n": [1]})
        server.stop()
        stopped = True
        yield pl.DataFrame({"n": [2]})

    @dg.asset(key_prefix="Silver")
    def orgs() -> pl.DataFrame:
        return pl.concat(rows())

    manager = S3ParquetIOManager(
        bucket="lake",
        endpoint_url=server.endpoint,
        region=object_store.REGION,
        access_key_id=server.credentials.access_key_id,
        secret_access_key=server.credentials.secret_access_key,
    )
    try:
        message = refused(StoreError, orgs, manager)
    finally:
        if not stopped:
            server.stop()
    assert re.match(r"could not write s3://lake/datafusion_test/Silver/orgs\.parquet: ", message)


def test_plain_use_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        InMemory(bucket="lake")
        rows = pl.DataFrame({"state": ["CA", "NY"], "date": [DAY, DAY], "n": [1, 2]})
        assert dg.materialize(
            [asset_of(rows, partitions_def=MULTI)], resources={"io_manager": InMemory(bucket="lake")}, tags=ONE_DAY
        ).success


@pytest.mark.parametrize(("first", "last"), [("2024-01-02|CA", "2024-01-01|CA"), ("2024-01-01|NY", "2024-01-02|CA")])
def test_a_range_without_partitions_is_refused(
    first: str, last: str, hive: PartitionedS3ParquetIOManager, instance: dg.DagsterInstance
) -> None:
    @dg.asset(partitions_def=MULTI)
    def nothing() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    with pytest.raises(PartitionError, match="partition range of this run selects no partition of asset 'nothing'"):
        dg.materialize([nothing], resources={"io_manager": hive}, instance=instance, tags=key_range(first, last))

"""The repair of events: what is logged of missing and changed objects, and what is not."""

import uuid
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, LargeObject, RowGroup, consolidated_entry, utc_text
from dagfusion_contract.repair import FailedRepair, Repair, RepairedTable
from dagfusion_pipeline import PartitionedS3ParquetIOManager, maintenance, repair
from dagfusion_pipeline.commands import commands
from dagfusion_pipeline.errors import BusyAssetError, ConfigurationError, PipelineError
from dagfusion_pipeline.latest_events import latest_events
from dagfusion_pipeline.repair import repair_asset, repair_tables
from dagfusion_pipeline.replacing import found_objects
from tests.pipeline.in_memory import STORE, Hive
from tests.pipeline.written import check_objects

pytestmark = pytest.mark.usefixtures("heavy")
KEY = dg.AssetKey(["Silver", "orders"])
TABLE = "local_silver.orders"
LETTERS = ["a", "b", "c"]
ALL = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "c"}


@dg.asset(key=KEY, partitions_def=dg.StaticPartitionsDefinition(LETTERS), metadata={"partition_expr": "letter"})
def orders(context: dg.AssetExecutionContext) -> pl.DataFrame:
    return pl.DataFrame({"letter": context.partition_keys, "n": range(len(context.partition_keys))})


@pytest.fixture
def manager(request: pytest.FixtureRequest, instance: dg.DagsterInstance) -> Hive:
    made = Hive(bucket="lake", prefix=request.node.name)
    write(instance, made)
    return made


def write(instance: dg.DagsterInstance, manager: dg.ConfigurableIOManager, letter: str | None = None) -> None:
    tags = ALL if letter is None else dict.fromkeys(ALL, letter)
    assert dg.materialize([orders], instance=instance, resources={"io_manager": manager}, tags=tags).success


def key(manager: Hive, letter: str) -> str:
    return f"{manager.prefix}/Silver/orders/letter={letter}/data.parquet"


def put(manager: Hive, letter: str, content: pa.Buffer) -> None:
    with STORE.uploads(1) as uploads:
        uploads.put(key(manager, letter), content, lambda _: None)


def parquet(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_missing_objects_get_a_tombstone_and_changed_ones_an_event(instance: dg.DagsterInstance, manager: Hive) -> None:
    assert repair_asset(instance, manager, KEY) == Repair("Silver/orders", 3, [], [], {})
    STORE.delete_objects([key(manager, "a")])
    rows = pa.table({"n": pa.array([7, None, 9], pa.int64()), "s": pa.array(["x", "y", "z"]).dictionary_encode()})
    put(manager, "b", parquet(rows))
    before = latest_events(instance, KEY)
    found = Repair("Silver/orders", 3, ["a"], ["b"], {})
    assert repair_asset(instance, manager, KEY, dry_run=True) == found
    assert latest_events(instance, KEY) == before

    assert repair_asset(instance, manager, KEY) == found
    after = latest_events(instance, KEY)
    assert after.keys() == {"b", "c"}
    assert after["c"] == before["c"]
    record: Any = after["b"].record
    assert record["rows"] == 3
    assert record["columns"] == {"n": {"min": 7, "max": 9, "nulls": 1}, "s": {"min": "x", "max": "z", "nulls": 0}}
    assert [(one["name"], one["type"]) for one in record["schema"]["fields"]] == [("n", "int64"), ("s", "string")]
    assert record["partition"] == before["b"].record["partition"]  # type: ignore[index]
    assert repair_asset(instance, manager, KEY) == Repair("Silver/orders", 2, [], [], {}), "now they agree"


def test_a_corrected_event_names_the_version_that_a_server_gives(
    fields: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    real = PartitionedS3ParquetIOManager(**fields)
    write(instance, real)
    with real.object_store.uploads(1) as uploads:
        other = parquet(pa.table({"n": pa.array([1, 2, 3], pa.int64())}))
        uploads.put(f"{fields['prefix']}/Silver/orders/letter=b/data.parquet", other, lambda _: None)
    assert repair_asset(instance, real, KEY).changed == ["b"]
    (record,) = instance.fetch_materializations(KEY, limit=1).records
    assert record.asset_materialization is not None
    check_objects({"b": record.asset_materialization}, real.object_store)
    assert repair_asset(instance, real, KEY).changed == []


def test_an_object_that_is_no_parquet_file_is_told_and_left(instance: dg.DagsterInstance, manager: Hive) -> None:
    put(manager, "b", pa.py_buffer(b"not a file"))
    found = repair_asset(instance, manager, KEY)
    assert (found.missing, found.changed) == ([], [])
    ((uri, why),) = found.not_repaired.items()
    assert uri.endswith("letter=b/data.parquet")
    assert "is not a Parquet file" in why


def test_a_partition_whose_rows_are_in_a_large_object_gets_no_tombstone(
    instance: dg.DagsterInstance, manager: Hive
) -> None:
    events = latest_events(instance, KEY)
    large = f"{manager.prefix}/_consolidated/Silver/orders/data-0-{uuid.uuid4()}-0.parquet"
    groups = (RowGroup(4, 2, tuple(sorted(events[letter].event_id for letter in "ab")), 1),)
    one = LargeObject(STORE.uri(large), 4, "e", None, utc_text(datetime.now(UTC)), [], {}, groups)
    metadata = {CONSOLIDATED_ENTRY: consolidated_entry([one])}
    instance.report_runless_asset_event(dg.AssetObservation(KEY, metadata=metadata))
    STORE.delete_objects([key(manager, "a")])
    assert repair_asset(instance, manager, KEY, dry_run=True).missing == ["a"], "the large object is not there"
    with STORE.uploads(1) as uploads:
        uploads.put(large, pa.py_buffer(b"rows"), lambda _: None)
    found = repair_asset(instance, manager, KEY)
    assert (found.missing, [*found.not_repaired]) == ([], [STORE.uri(key(manager, "a"))])
    assert "its rows are in a large object: materialize" in found.described(dry_run=False)
    assert "a" in latest_events(instance, KEY)
    write(instance, manager, "b")  # queries no longer read this row group
    assert repair_asset(instance, manager, KEY).missing == ["a"]


def test_a_table_without_any_object_is_not_wiped(instance: dg.DagsterInstance, manager: Hive) -> None:
    run = dg.DagsterRun(job_name="nightly", run_id="1" * 8, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(run)
    with pytest.raises(BusyAssetError, match="try again when it has ended"):
        repair_asset(instance, manager, KEY)
    assert repair_asset(instance, manager, KEY, dry_run=True).examined == 3
    instance.delete_run(run.run_id)
    STORE.delete_objects([key(manager, letter) for letter in LETTERS])
    with pytest.raises(ConfigurationError, match="none of the 3 objects of asset 'Silver/orders' is in s3://lake"):
        repair_asset(instance, manager, KEY)


@pytest.fixture
def deployed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hive:
    """The table of a DAGSTER_HOME, without one of its objects."""
    for name, value in {"DAGSTER_HOME": str(tmp_path), "ENVIRONMENT": "local", "S3_BUCKET": "lake"}.items():
        monkeypatch.setenv(name, value)
    made = Hive(bucket="lake", prefix=tmp_path.name)
    monkeypatch.setattr(maintenance, "PartitionedS3ParquetIOManager", lambda **_: made)
    (tmp_path / "dagster.yaml").touch()
    with dg.DagsterInstance.get() as instance:
        write(instance, made)
    STORE.delete_objects([key(made, "a")])
    return made


@pytest.mark.usefixtures("processes", "deployed")
def test_the_command_repairs_a_table() -> None:
    app = typer.Typer()
    commands(app)

    def run(*options: str) -> list[str]:
        result = CliRunner().invoke(app, ["repair", "local_silver.orders", *options])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    said = ["Silver/orders: 3 objects examined", "1 tombstones of missing objects would be logged", "  a"]
    assert run() == [*said, "This is a dry run. Add --yes to log them."]
    assert run("--yes") == [said[0], "1 tombstones of missing objects are logged", "  a"]
    assert run() == ["Silver/orders: 2 objects examined"]


@pytest.mark.usefixtures("processes")
def test_a_table_that_cannot_be_repaired_does_not_stop_the_others(deployed: Hive) -> None:
    (entry,) = entry_points(group="dagfusion.repair")
    assert entry.load() is repair_tables
    uris = [STORE.uri(key(deployed, letter)) for letter in LETTERS]
    both = {"uat_silver.orders": [], "local_silver.orders": uris}
    refused, done = repair_tables(both, dict.fromkeys(both), dry_run=True)
    assert isinstance(refused, FailedRepair)
    assert refused.table == "uat_silver.orders"
    assert "no asset with the table 'uat_silver.orders' in ENVIRONMENT=local" in refused.error
    assert done == RepairedTable("Silver/orders", 3, ["a"], [], {}, table="local_silver.orders")


@pytest.mark.usefixtures("processes")
def test_only_the_objects_that_were_found_are_repaired(deployed: Hive) -> None:
    def repaired(uri: str, endpoint: str | None = None) -> Any:
        (done,) = repair_tables({TABLE: [uri]}, {TABLE: endpoint}, dry_run=False)
        return done.error if isinstance(done, FailedRepair) else done.missing

    STORE.delete_objects([key(deployed, "b")])
    gone = STORE.uri(key(deployed, "a"))
    assert (
        "the objects were searched at https://other, and AWS_ENDPOINT_URL of the IO managers is that of AWS"
        in repaired(gone, "https://other")
    )
    assert "s3://other/a is outside of s3://lake/" in repaired("s3://other/a")
    assert repaired(STORE.uri(key(deployed, "c"))) == []
    assert repaired(gone) == ["a"]
    (again,) = repair_tables({TABLE: [gone]}, {TABLE: None}, dry_run=False)
    assert isinstance(again, RepairedTable)
    assert again.missing == []
    assert again.not_repaired == {gone: "no current event in the event log of DAGSTER_HOME names it"}


@pytest.mark.usefixtures("processes")
def test_any_error_of_a_table_is_reported(deployed: Hive, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: Any) -> Any:
        raise RuntimeError("the connection was lost")

    monkeypatch.setattr(repair, "refuse_busy", lost)
    uris = [STORE.uri(key(deployed, "a"))]
    (done,) = repair_tables({TABLE: uris}, {TABLE: None}, dry_run=False)
    assert done == FailedRepair(TABLE, "RuntimeError: the connection was lost")


@pytest.mark.usefixtures("processes")
def test_the_command_fails_if_an_object_is_not_repaired(deployed: Hive) -> None:
    put(deployed, "b", pa.py_buffer(b"not a file"))
    assert "not repaired: " in repair.repair_table(TABLE, dry_run=True)
    with pytest.raises(PipelineError, match=r"(?s)1 tombstones .* are logged.*not repaired: .* is not a Parquet file"):
        repair.repair_table(TABLE, dry_run=False)


@pytest.mark.usefixtures("processes", "deployed")
@pytest.mark.parametrize("retried", [False, True])
def test_the_command_says_that_the_database_failed(monkeypatch: pytest.MonkeyPatch, *, retried: bool) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        error = OperationalError("SELECT secret", {}, Exception("connection refused"))
        if retried:  # as Dagster does, which then raises an error of its own
            raise RuntimeError("too many retries for DB connection") from error
        raise error

    app = typer.Typer()
    commands(app)
    monkeypatch.setattr(repair, "repair_asset", fails)
    result = CliRunner().invoke(app, ["repair", TABLE])
    assert result.exit_code == 1
    assert result.output.startswith("error: the database of DAGSTER_HOME failed: connection refused: check it")


@pytest.mark.usefixtures("processes", "deployed")
def test_the_command_fails_if_a_repair_stopped_early(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Repair("Silver/orders", 3, ["a"], [], {}, stopped="BusyAssetError: a run began")
    monkeypatch.setattr(repair, "repair_asset", lambda *_, **__: stopped)
    with pytest.raises(PipelineError, match=r"(?s)1 tombstones .* are logged.*stopped early: BusyAssetError: a run"):
        repair.repair_table(TABLE, dry_run=False)


def test_a_partition_that_is_written_during_the_repair_is_not_lost(instance: dg.DagsterInstance, manager: Hive) -> None:
    STORE.delete_objects([key(manager, "a"), key(manager, "b")])

    def log(event: dg.AssetMaterialization) -> None:
        instance.report_runless_asset_event(event)
        write(instance, manager, "b")

    assert repair_asset(instance, manager, KEY, log=log).missing == ["a"]
    assert latest_events(instance, KEY).keys() == {"b", "c"}


@pytest.mark.parametrize("is_run", [True, False])
def test_an_object_that_is_back_is_not_missing(
    *, is_run: bool, instance: dg.DagsterInstance, manager: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = STORE.client.get(key(manager, "b")).bytes()
    STORE.delete_objects([key(manager, "b")])

    def looked(*arguments: Any) -> Any:
        found = found_objects(*arguments)
        if is_run:
            write(instance, manager)  # the same bytes by the same names
        else:
            put(manager, "b", pa.py_buffer(content))
        return found

    monkeypatch.setattr(repair, "found_objects", looked)
    assert repair_asset(instance, manager, KEY) == Repair("Silver/orders", 3, [], [], {})
    assert latest_events(instance, KEY).keys() == {"a", "b", "c"}


def test_a_run_that_begins_ends_the_repair_and_what_was_logged_is_told(
    request: pytest.FixtureRequest, instance: dg.DagsterInstance
) -> None:
    one_by_one = Hive(bucket="lake", prefix=request.node.name, upload_concurrency=1)
    write(instance, one_by_one)
    STORE.delete_objects([key(one_by_one, "a"), key(one_by_one, "b")])

    def log(event: dg.AssetMaterialization) -> None:
        instance.report_runless_asset_event(event)
        instance.add_run(dg.DagsterRun(job_name="nightly", run_id="1" * 8, status=dg.DagsterRunStatus.STARTED))

    found = repair_asset(instance, one_by_one, KEY, log=log)
    assert found.missing == ["a"]
    assert latest_events(instance, KEY).keys() == {"b", "c"}
    assert found.stopped is not None
    assert "run 11111111 of job 'nightly' may write asset" in found.stopped
    assert found.described(dry_run=False).endswith(f"stopped early: {found.stopped}")


def test_an_object_below_an_earlier_prefix_is_not_taken_for_missing(
    instance: dg.DagsterInstance, manager: Hive
) -> None:
    later = Hive(bucket="lake", prefix="later")
    write(instance, later, "a")
    STORE.delete_objects([key(manager, "b")])
    assert repair_asset(instance, later, KEY, dry_run=True) == Repair("Silver/orders", 3, ["b"], [], {})

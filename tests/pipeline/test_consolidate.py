"""The consolidation as a job, a schedule and a command over anybody's assets."""

import inspect
import io
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, read_consolidated
from dagfusion_pipeline import (
    PartitionedS3ParquetIOManager,
    S3ParquetIOManager,
    build_consolidate_job,
    build_consolidate_schedule,
)
from dagfusion_pipeline.commands import commands, consolidate
from dagfusion_pipeline.consolidate import ConsolidateConfig, consolidate_asset
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.logged_files import current_files, logged_consolidations

LETTERS = list("abcdef")
PARTITIONS = dg.StaticPartitionsDefinition(LETTERS)


@dg.asset(
    key=["Silver", "parts"], io_manager_key="hive", partitions_def=PARTITIONS, metadata={"partition_expr": "letter"}
)
def parts(context: dg.AssetExecutionContext) -> pl.DataFrame:
    keys = [key for key in context.partition_keys for _ in range(2)]
    return pl.DataFrame({"letter": keys, "n": range(len(keys)), "x": [float("nan")] * len(keys)})


@dg.asset(io_manager_key="whole")
def whole() -> pl.DataFrame:
    return pl.DataFrame({"n": [1]})


def location(fields: dict[str, Any], *jobs: dg.JobDefinition) -> dg.Definitions:
    managers = {
        "hive": PartitionedS3ParquetIOManager(**fields),
        "whole": S3ParquetIOManager(**fields),
    }
    return dg.Definitions(assets=[parts, whole], jobs=jobs, resources=managers)


def write(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "f"}
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, asset_selection=[parts.key], tags=tags).success


def test_the_job_writes_large_objects_and_logs_them(fields: dict[str, Any], instance: dg.DagsterInstance) -> None:
    job = build_consolidate_job([parts], io_manager_key="hive")
    defs = location(fields, job)
    dg.Definitions.validate_loadable(defs)
    write(defs, instance)
    run = defs.resolve_job_def("consolidate").execute_in_process(instance=instance)
    assert run.success
    (record,) = instance.fetch_observations(parts.key, limit=5).records
    metadata = record.event_log_entry.asset_observation.metadata  # type: ignore[union-attr]
    assert metadata["consolidated_partitions"].value == len(LETTERS)
    (one,) = read_consolidated(metadata[CONSOLIDATED_ENTRY].value, fields["bucket"])
    assert one.uri.startswith(f"s3://{fields['bucket']}/{fields['prefix']}/_consolidated/Silver/parts/data-")
    assert one.uri.endswith(f"-{run.run_id}-0.parquet")
    (layout,) = current_files(instance, parts.key)
    assert [event for group in one.row_groups for event in group.events] == sorted(layout.files["event_id"].to_pylist())

    store = PartitionedS3ParquetIOManager(**fields).object_store
    (content,) = store.read_many([one.uri.removeprefix(store.uri(""))], 1)
    assert content is not None
    file = pq.ParquetFile(io.BytesIO(bytes(content)))
    rows = file.read()
    assert rows["letter"].to_pylist() == [letter for letter in LETTERS for _ in range(2)]
    assert not rows.schema.field("letter").nullable
    columns = [file.metadata.row_group(0).column(number) for number in range(3)]
    statistics = {column.path_in_schema: column.statistics for column in columns}
    assert statistics["x"] is None  # bounds would leave NaN out
    assert statistics["n"].max == 11


def test_the_command_and_the_job_make_objects_of_one_size() -> None:
    by_default = inspect.signature(consolidate).parameters["target_mb"].default
    assert by_default == ConsolidateConfig().target_mb


def test_a_schedule_runs_the_job_every_night() -> None:
    schedule = build_consolidate_schedule(build_consolidate_job([parts], name="nightly"))
    assert (schedule.name, schedule.cron_schedule) == ("nightly_schedule", "30 3 * * *")


@pytest.mark.usefixtures("heavy")
def test_another_io_manager_is_refused(instance: dg.DagsterInstance) -> None:
    job = build_consolidate_job([parts])
    with pytest.raises(
        ConfigurationError, match=r"resource 'io_manager' of job 'consolidate' must be one of DagFusion's"
    ):
        job.execute_in_process(instance=instance)


def test_what_queries_would_not_read_is_not_written(fields: dict[str, Any], instance: dg.DagsterInstance) -> None:
    defs = location(fields)
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, asset_selection=[whole.key]).success
    manager = S3ParquetIOManager(**fields)
    found = consolidate_asset(instance, manager, whole.key, "run", instance.report_runless_asset_event)
    assert (found.objects, found.unfit) == (0, ("an asset without partition columns is not consolidated",))
    write(defs, instance)
    elsewhere = PartitionedS3ParquetIOManager(**{**fields, "bucket": "other"})
    found = consolidate_asset(instance, elsewhere, parts.key, "run", instance.report_runless_asset_event)
    assert found.unfit == ("some objects are outside of s3://other/",)
    assert logged_consolidations(instance, parts.key) == []


@pytest.mark.parametrize("name", ["uri", "rows", "etag", "event_id", "partition"])
def test_a_partition_column_may_have_a_name_of_the_records(
    name: str, fields: dict[str, Any], instance: dg.DagsterInstance
) -> None:
    @dg.asset(partitions_def=PARTITIONS, metadata={"partition_expr": name})
    def named(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({name: context.partition_keys, "n": range(len(context.partition_keys))})

    manager = PartitionedS3ParquetIOManager(**fields)
    defs = dg.Definitions(assets=[named], resources={"io_manager": manager})
    tags = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "f"}
    job = defs.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, tags=tags).success
    found = consolidate_asset(instance, manager, named.key, "run", instance.report_runless_asset_event)
    assert (found.partitions, found.unfit) == (len(LETTERS), ())
    (logged,) = logged_consolidations(instance, named.key)
    store = manager.object_store
    (content,) = store.read_many([logged.objects[0].uri.removeprefix(store.uri(""))], 1)
    assert content is not None
    rows = pq.ParquetFile(io.BytesIO(bytes(content))).read()
    assert rows.select([name, "n"]).to_pydict() == {name: LETTERS, "n": [*range(len(LETTERS))]}


def test_a_run_without_news_reads_no_materialization(
    fields: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    defs, manager = location(fields), PartitionedS3ParquetIOManager(**fields)
    write(defs, instance)

    def consolidated() -> int:
        run = consolidate_asset(instance, manager, parts.key, "run", instance.report_runless_asset_event)
        return run.partitions

    assert consolidated() == len(LETTERS)
    reads = 0
    fetch = instance.fetch_materializations

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        return fetch(*args, **options)

    monkeypatch.setattr(instance, "fetch_materializations", counted)
    assert (consolidated(), reads) == (0, 0)
    # What cannot be consolidated is no news: the file of a partition that is large, or has no etag.
    write(defs, instance)
    with monkeypatch.context() as patched:
        patched.setattr("dagfusion_pipeline.consolidation_plan.LARGE_FILE_BYTES", 1)
        assert (consolidated(), reads) == (0, 1)
    # Files that were written again are, and a partition whose latest event has no file has the file before.
    assert (consolidated(), reads) == (len(LETTERS), 3)
    instance.report_runless_asset_event(dg.AssetMaterialization(parts.key, partition="a"))
    reads = 0
    assert (consolidated(), reads) == (0, 2)


def test_the_command_consolidates_a_table(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        "DAGSTER_HOME": str(tmp_path),
        "ENVIRONMENT": "local",
        "S3_BUCKET": fields["bucket"],
        "S3_PREFIX": fields["prefix"],
        "AWS_ENDPOINT_URL": fields["endpoint_url"],
        "AWS_REGION": fields["region"],
        "AWS_ACCESS_KEY_ID": fields["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": fields["secret_access_key"],
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")
    app = typer.Typer()
    app.callback()(lambda: None)
    commands(app)
    with dg.DagsterInstance.get() as instance:
        write(location(fields), instance)
    answer = CliRunner().invoke(app, ["consolidate", "local_silver.parts"])
    assert answer.exit_code == 0, answer.output
    assert "Silver/parts: 6 partitions written to 1 large objects" in answer.output
    answer = CliRunner().invoke(app, ["consolidate", "local_silver.partz"])
    assert answer.exit_code == 1
    assert "'local_silver.partz' in ENVIRONMENT=local; its tables are local_silver.parts" in answer.output
    for name in variables:
        monkeypatch.delenv(name)
    answer = CliRunner().invoke(app, ["consolidate", "local_silver.parts"])
    assert answer.exit_code == 1
    assert "DAGSTER_HOME must be set" in answer.output
    monkeypatch.setenv("DAGFUSION_HOME", str(tmp_path))
    stack = {"DAGFUSION_EVENT_LOG": str(tmp_path), **variables}
    (tmp_path / "stack.env").write_text("".join(f"{name}={value}\n" for name, value in stack.items()))
    answer = CliRunner().invoke(app, ["consolidate", "local_silver.parts"])
    assert answer.exit_code == 0, answer.output
    assert "Silver/parts: 0 partitions written" in answer.output

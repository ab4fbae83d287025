"""The vacuum as a job over anybody's assets."""

import datetime as dt
from typing import Any

import dagster as dg
import polars as pl
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager, build_vacuum_job, vacuum
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.maintenance import asset_keys

OLD = {"config": {"dry_run": False, "older_than_hours": 1}}


@dg.asset(io_manager_key="whole")
def whole() -> pl.DataFrame:
    return pl.DataFrame({"n": [1]})


@dg.asset(io_manager_key="hive", partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def parts(context: dg.AssetExecutionContext) -> pl.DataFrame:
    return pl.DataFrame({"partition": context.partition_keys, "n": 1})


def location(fields: dict[str, Any], *jobs: dg.JobDefinition) -> dg.Definitions:
    managers = {
        "whole": S3ParquetIOManager(**fields, file_naming="per_run"),
        "hive": PartitionedS3ParquetIOManager(**fields, file_naming="per_run"),
    }
    return dg.Definitions(assets=[whole, parts], jobs=jobs, resources=managers)


def test_each_job_deletes_what_is_superseded_of_its_own_assets(
    fields: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = (
        build_vacuum_job([whole], io_manager_key="whole", name="vacuum_whole"),
        build_vacuum_job([parts.key], io_manager_key="hive"),
    )
    defs = location(fields, *jobs)
    dg.Definitions.validate_loadable(defs)
    manager = PartitionedS3ParquetIOManager(**fields)

    def objects() -> set[str]:
        found = manager.object_store.list_objects(fields["prefix"])
        return {stored.key.removeprefix(f"{fields['prefix']}/") for stored in found}

    def write(asset: dg.AssetsDefinition, partition_key: str | None = None) -> str:
        job = defs.resolve_implicit_global_asset_job_def()
        options: dict[str, Any] = {"asset_selection": [asset.key], "partition_key": partition_key, "instance": instance}
        return job.execute_in_process(**options).run_id

    def clean(name: str) -> None:
        job = defs.resolve_job_def(name)
        assert job.execute_in_process(instance=instance, run_config={"ops": {"delete_superseded": OLD}}).success

    first, second = write(whole), write(whole)
    of_a, of_b, again = write(parts, "a"), write(parts, "b"), write(parts, "a")
    in_two_hours = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    monkeypatch.setattr(vacuum, "_now", lambda: in_two_hours)
    kept = {
        f"whole-{second}.parquet",
        *(f"parts/partition={key}/data-{run}.parquet" for key, run in (("a", again), ("b", of_b))),
    }
    gone_of_parts = f"parts/partition=a/data-{of_a}.parquet"
    assert objects() == kept | {f"whole-{first}.parquet", gone_of_parts}
    clean("vacuum_whole")
    assert objects() == kept | {gone_of_parts}
    clean("vacuum")
    assert objects() == kept


def test_objects_of_runs_whose_events_were_purged_stay(
    fields: dict[str, Any], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query service serves them from the checkpoint of its catalog."""
    job = build_vacuum_job([parts], io_manager_key="hive")
    defs = location(fields, job)
    manager = PartitionedS3ParquetIOManager(**fields)
    run_ids = {}
    for key in ("a", "b"):
        run = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[parts.key], partition_key=key, instance=instance
        )
        run_ids[key] = run.run_id
    instance.delete_run(run_ids["a"])
    in_two_hours = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    monkeypatch.setattr(vacuum, "_now", lambda: in_two_hours)
    run_config = {"ops": {"delete_superseded": OLD}}
    assert defs.resolve_job_def("vacuum").execute_in_process(instance=instance, run_config=run_config).success
    found = {stored.key.rpartition("/")[2] for stored in manager.object_store.list_objects(fields["prefix"])}
    assert found == {f"data-{run_id}.parquet" for run_id in run_ids.values()}


def test_another_io_manager_is_refused(instance: dg.DagsterInstance) -> None:
    job = build_vacuum_job([whole])
    with pytest.raises(ConfigurationError, match=r"resource 'io_manager' of job 'vacuum' must be one of DagFusion's"):
        job.execute_in_process(instance=instance)


def test_assets_are_named_by_definition_spec_or_key() -> None:
    keys = asset_keys([whole, dg.AssetSpec("spec"), dg.AssetKey(["a", "b"])])
    assert list(keys) == [whole.key, dg.AssetKey("spec"), dg.AssetKey(["a", "b"])]

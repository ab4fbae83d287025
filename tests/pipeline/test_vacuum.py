"""The vacuum as a job over anybody's assets."""

import asyncio
import datetime as dt
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, LargeObject, RowGroup, consolidated_entry, utc_text
from dagfusion_contract.record import ENTRY
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager, build_vacuum_job, vacuum
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.maintenance import asset_keys, large_objects_of, objects_of
from dagfusion_pipeline.vacuum import superseded_large_objects, superseded_objects
from dagfusion_pipeline.vacuum_rule import run_of
from tests.pipeline.in_memory import STORE, Flat, Hive

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


@pytest.mark.parametrize("is_flat", [False, True], ids=["hive", "flat"])
def test_what_was_current_until_a_wipe_of_the_asset_stays_as_long_as_other_superseded_objects(
    instance: dg.DagsterInstance, manager: Hive, *, is_flat: bool
) -> None:
    """The event log hides the events from before the wipe. The partition c is not written again."""
    names = {name: dg.AssetKey(name) for name in ("parts", "other")}
    written = {name: write_a_run(instance, manager, key, "abc", is_flat=is_flat) for name, key in names.items()}
    one = LargeObject("", 4, "e", None, utc_text(dt.datetime.now(dt.UTC)), [], {}, (RowGroup(4, 1, (1,), 1),))
    large = f"{manager.prefix}/_consolidated/parts/data-0-{uuid.uuid4()}-0.parquet"
    put(large)
    metadata = {CONSOLIDATED_ENTRY: consolidated_entry([replace(one, uri=STORE.uri(large))])}
    instance.report_runless_asset_event(dg.AssetObservation("parts", metadata=metadata))
    before = dt.datetime.now(dt.UTC)
    instance.wipe_assets([names["parts"]])
    in_an_hour = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    assert superseded_objects(instance, manager, names["parts"], in_an_hour) == []  # Dagster does not say when
    assert superseded_large_objects(instance, manager, names["parts"], in_an_hour) == []
    for key in names.values():
        write_a_run(instance, manager, key, "ab", is_flat=is_flat)
    after = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)

    def found(name: str, since: dt.datetime) -> set[str]:
        return {one.key for one in superseded_objects(instance, manager, names[name], since)}

    assert found("parts", before) == found("other", before) == set()
    assert superseded_large_objects(instance, manager, names["parts"], before) == []
    assert found("parts", after) == set(written["parts"])
    assert found("other", after) == set(written["other"][:2])
    assert [one.key for one in superseded_large_objects(instance, manager, names["parts"], after)] == [large]


@pytest.mark.parametrize("is_flat", [False, True], ids=["hive", "flat"])
def test_objects_of_a_wiped_asset_with_a_longer_key_stay(
    instance: dg.DagsterInstance, manager: Hive, *, is_flat: bool
) -> None:
    """Dagster no longer lists it among its assets."""
    parent, child = dg.AssetKey(["s", "w"]), dg.AssetKey(["s", "w", "child"])
    first = write_a_run(instance, manager, parent, "ab")
    of_child = write_a_run(instance, manager, child, "ab", is_flat=is_flat)
    instance.wipe_assets([child])
    write_a_run(instance, manager, parent, "ab")
    since = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    found = {one.key for one in superseded_objects(instance, manager, parent, since)}
    assert found == set(first)
    assert {one.key for one in objects_of(manager, parent)} > set(of_child)


def test_flat_objects_of_a_deleted_run_stay_after_a_wipe_of_the_asset(
    instance: dg.DagsterInstance, manager: Hive
) -> None:
    """No record tells which asset they are of."""
    key = dg.AssetKey("parts")
    first = write_a_run(instance, manager, key, "ab", is_flat=True)
    instance.wipe_assets([key])
    write_a_run(instance, manager, key, "a", is_flat=True)
    since = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    assert {one.key for one in superseded_objects(instance, manager, key, since)} == set(first)
    (run,) = {run_of(one) for one in first}
    assert run is not None
    instance.delete_run(run)
    assert superseded_objects(instance, manager, key, since) == []


@pytest.mark.parametrize("is_logged", [True, False], ids=["logged", "planned"])
def test_the_file_of_a_wiped_asset_stays_though_a_run_of_its_parent_wrote_it(
    instance: dg.DagsterInstance, manager: Hive, *, is_logged: bool
) -> None:
    """The partition `c` of the flat parent would have the same name."""
    parent, child = dg.AssetKey(["s", "w"]), dg.AssetKey(["s", "w", "c"])
    first = write_both(instance, manager, parent, child, {"a": parent, "b": parent, "c": child})
    # The second run wrote the partition `b`, and stopped before its event, and perhaps before that of the child.
    second = write_both(instance, manager, parent, child, {"a": parent} | ({"c": child} if is_logged else {}))
    instance.wipe_assets([child])
    since = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    found = {one.key for one in superseded_objects(instance, manager, parent, since)}
    assert found == {first["a"], second["b"]}


def test_the_file_of_a_wiped_asset_stays_though_a_partition_of_its_parent_has_its_name(
    instance: dg.DagsterInstance, manager: Hive
) -> None:
    """A run of the child alone wrote it."""
    parent, child = dg.AssetKey(["s", "w"]), dg.AssetKey(["s", "w", "c"])
    first = write_a_run(instance, manager, parent, "c", is_flat=True)
    write_a_run(instance, manager, parent, "c", is_flat=True)

    @dg.asset(key=child)
    def made(context: dg.AssetExecutionContext) -> None:
        put(f"{manager.prefix}/s/w/c-{context.run.run_id}.parquet")

    assert dg.materialize([made], instance=instance).success
    instance.wipe_assets([child])
    since = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    assert [one.key for one in superseded_objects(instance, manager, parent, since)] == first


def test_the_events_of_a_run_are_read_once_for_all_assets(
    instance: dg.DagsterInstance, manager: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, child = dg.AssetKey(["s", "w"]), dg.AssetKey(["s", "w", "c"])
    write_both(instance, manager, parent, child, {"a": parent, "b": parent, "c": child})
    left = write_both(instance, manager, parent, child, {"a": parent})  # no event names b and c
    read: list[str] = []
    assets_of = vacuum._assets_of

    def counted(of: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
        read.append(run_id)
        return assets_of(of, run_id)

    monkeypatch.setattr(vacuum, "_assets_of", counted)
    in_two_hours = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    monkeypatch.setattr(vacuum, "_now", lambda: in_two_hours)
    job = build_vacuum_job([parent, child])
    config = {"ops": {"delete_superseded": OLD}}
    assert job.execute_in_process(run_config=config, instance=instance, resources={"io_manager": manager}).success
    assert read == [run_of(left["b"])]


def write_both(
    instance: dg.DagsterInstance,
    manager: Hive,
    parent: dg.AssetKey,
    child: dg.AssetKey,
    logged: dict[str, dg.AssetKey],
) -> dict[str, str]:
    """Write the objects a, b and c of two flat assets in one run, and log some; return their keys."""

    @dg.multi_asset(specs=[dg.AssetSpec(parent, skippable=True), dg.AssetSpec(child, skippable=True)])
    def both(context: dg.AssetExecutionContext) -> Iterator[dg.AssetMaterialization]:
        folder = f"{manager.prefix}/{'/'.join(parent.path)}"
        keys.update({name: f"{folder}/{name}-{context.run.run_id}.parquet" for name in "abc"})
        put(*keys.values())
        for name, asset in logged.items():
            record = {"uri": STORE.uri(keys[name]), "rows": 4, "partition": [], "schema": {"fingerprint": "f"}}
            partition = name if asset == parent else None
            context.log_event(dg.AssetMaterialization(asset, partition=partition, metadata={ENTRY: record}))
        yield from ()

    keys: dict[str, str] = {}
    assert dg.materialize([both], instance=instance).success
    return keys


def write_a_run(
    instance: dg.DagsterInstance, manager: Hive, key: dg.AssetKey, partitions: str, *, is_flat: bool = False
) -> list[str]:
    """Materialize partitions of an asset in one run, and return the keys of the objects."""

    @dg.asset(key=key, output_required=False)
    def asset(context: dg.AssetExecutionContext) -> Iterator[dg.Output[None]]:
        folder, run = f"{manager.prefix}/{'/'.join(key.path)}", context.run.run_id
        for one in partitions:
            name = f"{folder}/{one}-{run}.parquet" if is_flat else f"{folder}/partition={one}/data-{run}.parquet"
            put(name)
            objects.append(name)
            record = {"uri": STORE.uri(name), "rows": 4, "partition": [], "schema": {"fingerprint": "f"}}
            context.log_event(dg.AssetMaterialization(key, partition=one, metadata={ENTRY: record}))
        yield from ()

    objects: list[str] = []
    assert dg.materialize([asset], instance=instance).success
    return objects


def test_another_io_manager_is_refused(instance: dg.DagsterInstance) -> None:
    job = build_vacuum_job([whole])
    with pytest.raises(ConfigurationError, match=r"resource 'io_manager' of job 'vacuum' must be one of DagFusion's"):
        job.execute_in_process(instance=instance)


def test_assets_are_named_by_definition_spec_or_key() -> None:
    keys = asset_keys([whole, dg.AssetSpec("spec"), dg.AssetKey(["a", "b"])])
    assert list(keys) == [whole.key, dg.AssetKey("spec"), dg.AssetKey(["a", "b"])]


def put(*keys: str) -> None:
    for key in keys:
        asyncio.run(STORE.put(key, pa.py_buffer(b"rows")))


@pytest.fixture
def manager(request: pytest.FixtureRequest) -> Hive:
    """An IO manager with a prefix of its own in memory."""
    return Hive(bucket="lake", prefix=request.node.name)


def test_objects_of_an_asset_with_a_longer_name_are_not_those_of_the_shorter(manager: Hive) -> None:
    run, root = uuid.uuid4(), f"{manager.prefix}/Silver"
    own = {
        *(f"{root}/orgs{rest}.parquet" for rest in ("", f"-{run}", f"-{run}-1", "/2024", f"/2024-{run}")),
        f"{root}/orgs/day=2024-01-01/data-{run}.parquet",
    }
    others = {
        *(f"{root}/orgs{rest}.parquet" for rest in ("-archive", f"-archive-{run}", "-archive/2024", f"-{run}/x")),
        *(f"{root}/orgs/daily{rest}.parquet" for rest in ("", f"-{run}", "/2024", "/day=1/data")),
        f"{manager.prefix}/Silver.parquet",
    }
    large, other = (
        f"{manager.prefix}/_consolidated/Silver/orgs{rest}/data-0-{run}-0.parquet" for rest in ("", "/daily")
    )
    put(*own, *others, large, other)
    assets = [dg.AssetKey(["Silver", *rest]) for rest in (["orgs"], ["orgs-archive"], ["orgs", "daily"])]
    assert {one.key for one in objects_of(manager, assets[0], assets)} == own
    assert [one.key for one in large_objects_of(manager, assets[0])] == [large]
    without_prefix = Flat(bucket="lake", prefix="")
    put(f"at_the_root-{run}.parquet")
    assert [one.key for one in objects_of(without_prefix, dg.AssetKey("at_the_root"))] == [f"at_the_root-{run}.parquet"]


def test_superseded_objects_of_commands_are_deleted(instance: dg.DagsterInstance, manager: Hive) -> None:
    """They are named after runs that never start."""
    key = dg.AssetKey("parts")
    first, second, crashed = (f"{manager.prefix}/parts/partition=a/data-{uuid.uuid4()}.parquet" for _ in range(3))
    larges = [f"{manager.prefix}/_consolidated/large/data-0-{uuid.uuid4()}-0.parquet" for _ in range(2)]
    put(first, second, crashed, *larges)
    for name in (first, second):
        metadata = {ENTRY: {"uri": STORE.uri(name)}}
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="a", metadata=metadata))
    groups = (RowGroup(4, 1, (1,), 1),)
    one = LargeObject(STORE.uri(larges[0]), 4, "e", None, utc_text(dt.datetime.now(dt.UTC)), [], {}, groups)
    metadata = {CONSOLIDATED_ENTRY: consolidated_entry([one])}
    instance.report_runless_asset_event(dg.AssetObservation("large", metadata=metadata))
    since = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    assert [one.key for one in superseded_objects(instance, manager, key, since)] == [first]
    # Without a large object queries read the small ones, so also that of a crash goes.
    found = superseded_large_objects(instance, manager, dg.AssetKey("large"), since)
    assert sorted(one.key for one in found) == sorted(larges)


def test_an_object_with_a_stable_name_stays_if_it_was_written_since_it_was_found(
    instance: dg.DagsterInstance, manager: Hive
) -> None:
    key = dg.AssetKey("parts")
    put(*(f"{manager.prefix}/parts/partition={letter}/data.parquet" for letter in "abc"))
    found = sorted(objects_of(manager, key), key=lambda one: one.key)
    put(found[0].key)
    STORE.delete_objects([found[1].key])
    assert vacuum._unwritten(instance, manager, key, "", found) == found[2:]
    instance.add_run(dg.DagsterRun(job_name="some", run_id="2" * 8, status=dg.DagsterRunStatus.STARTED))
    assert vacuum._unwritten(instance, manager, key, "", found) == []

"""Wiped partitions: what inputs, checks, consolidations and the vacuum make of them, and the jobs and the command."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from dagfusion_contract.tombstone import TOMBSTONE_ENTRY
from dagfusion_pipeline import (
    build_retention_job,
    build_retention_schedule,
    build_vacuum_job,
    build_wipe_job,
    partition_checks,
    retention,
    vacuum,
    wipe,
    wipe_partitions,
)
from dagfusion_pipeline.commands import commands
from dagfusion_pipeline.consolidate import consolidate_asset
from dagfusion_pipeline.errors import ConfigurationError, MissingObjectError
from dagfusion_pipeline.logged_files import current_files
from dagfusion_pipeline.maintenance import known_partitions
from dagfusion_pipeline.partition_records import newest_records, records_of_run
from dagfusion_pipeline.wipe import Wiped, described
from tests.pipeline.in_memory import STORE, Hive

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05")
KEYS = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]
ALL = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]}
FIELDS: Any = {"bucket": "lake", "prefix": "wiping"}


@dg.asset(key=["Silver", "daily"], partitions_def=DAYS, metadata={"partition_expr": "day"})
def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
    days = [dt.date.fromisoformat(key) for key in context.partition_keys]
    return pl.DataFrame({"day": days, "n": range(len(days))})


@dg.asset(ins={"daily": dg.AssetIn(key=daily.key)})
def strict(daily: pl.DataFrame) -> pl.DataFrame:
    return daily


@dg.asset(ins={"daily": dg.AssetIn(key=daily.key, metadata={"allow_missing_partitions": True})})
def lenient(daily: pl.DataFrame) -> pl.DataFrame:
    return daily


@pytest.fixture
def manager(request: pytest.FixtureRequest) -> Hive:
    """An IO manager with a prefix of its own in memory."""
    return Hive(**{**FIELDS, "prefix": request.node.name})


def write(instance: dg.DagsterInstance, manager: Hive) -> None:
    assert dg.materialize([daily], instance=instance, resources={"io_manager": manager}, tags=ALL).success


def read(asset: dg.AssetsDefinition, instance: dg.DagsterInstance, manager: Hive) -> list[str]:
    """Return the days that an asset downstream loads."""
    resources = {"io_manager": manager}
    result = dg.materialize([daily, asset], selection=[asset], instance=instance, resources=resources)
    frame: pl.DataFrame = result.output_for_node(asset.node_def.name)
    return [str(day) for day in frame["day"]]


def objects(manager: Hive) -> set[str]:
    found = (one.key for one in STORE.list_objects(f"{manager.prefix}/Silver"))
    return {key.partition("day=")[2].partition("/")[0] for key in found}


@pytest.mark.usefixtures("heavy")
def test_a_wiped_partition_is_missing_for_inputs_checks_and_consolidations(
    instance: dg.DagsterInstance, manager: Hive
) -> None:
    write(instance, manager)
    assert wipe_partitions(instance, daily.key, [KEYS[1], "2023-01-01"]) == Wiped([KEYS[1]], [], ["2023-01-01"])
    assert wipe_partitions(instance, daily.key, [KEYS[1]]) == Wiped([], [KEYS[1]], []), "it was wiped before"

    assert read(lenient, instance, manager) == [KEYS[0], *KEYS[2:]]
    with pytest.raises(MissingObjectError, match=r"1 partitions .* are not in the store: .*1 of them were wiped"):
        read(strict, instance, manager)
    (layout,) = current_files(instance, daily.key)
    assert sorted(str(row["day"]) for row in layout.files["partition"].to_pylist()) == [KEYS[0], *KEYS[2:]]
    assert {record.partition for record in newest_records(instance, daily.key)} == {KEYS[0], *KEYS[2:]}
    assert KEYS[1] not in {record.partition for record in records_of_run(instance, "none", daily.key)}

    complete = partition_checks(daily, complete=True, rows=(1, None))
    checked = dg.materialize([daily, complete], selection=dg.AssetSelection.checks(complete), instance=instance,
                             resources={"io_manager": manager}, raise_on_error=False)  # fmt: skip
    found = {one.check_name: one for one in checked.get_asset_check_evaluations()}
    assert not found["partitions_complete"].passed
    assert "2024-01-02" in str(found["partitions_complete"].description)
    assert found["row_count"].passed

    write(instance, manager)
    assert read(strict, instance, manager) == KEYS


@pytest.mark.usefixtures("heavy")
def test_a_tombstone_says_what_it_is_to_people(instance: dg.DagsterInstance, manager: Hive) -> None:
    write(instance, manager)
    wipe_partitions(instance, daily.key, KEYS[:1], reason="asked for by the legal team")
    (record,) = instance.fetch_materializations(daily.key, limit=1).records
    event = record.asset_materialization
    assert event is not None
    assert (event.partition, event.description) == (KEYS[0], "The rows are gone: asked for by the legal team.")
    assert event.metadata["dagster/partition_row_count"].value == 0
    assert event.metadata[TOMBSTONE_ENTRY].value == {"version": 1, "reason": "asked for by the legal team"}


@pytest.mark.usefixtures("heavy")
def test_wiped_rows_are_not_consolidated_again_and_again(
    instance: dg.DagsterInstance, manager: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagfusion_pipeline.consolidation_plan.LEAST_FILES", 2)
    write(instance, manager)

    def consolidated() -> int:
        found = consolidate_asset(instance, manager, daily.key, "run", instance.report_runless_asset_event)
        return found.partitions

    assert consolidated() == len(KEYS)
    wipe_partitions(instance, daily.key, KEYS[:1])
    assert consolidated() == len(KEYS) - 1, "the row group that had the partition is not used any more"
    assert consolidated() == 0


@pytest.mark.usefixtures("heavy")
def test_the_vacuum_deletes_stable_objects_of_wiped_partitions(
    instance: dg.DagsterInstance, manager: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = build_vacuum_job([daily])
    config = {"ops": {"delete_superseded": {"config": {"dry_run": False, "older_than_hours": 1}}}}

    def clean() -> set[str]:
        resources = {"io_manager": manager}
        defs = dg.Definitions(jobs=[job], resources=resources)
        run = defs.resolve_job_def("vacuum").execute_in_process(instance=instance, run_config=config)
        assert run.success
        return objects(manager)

    write(instance, manager)
    wipe_partitions(instance, daily.key, KEYS[:2])
    assert clean() == {*KEYS}, "queries that began before the wipe may still read them"
    in_two_hours = dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)
    monkeypatch.setattr(vacuum, "_now", lambda: in_two_hours)
    unfinished = dg.DagsterRun(job_name="some", run_id="1" * 8, status=dg.DagsterRunStatus.STARTED)
    instance.add_run(unfinished)
    assert clean() == {*KEYS}, "a run may be writing them"
    (vacuumed,) = instance.get_runs(dg.RunsFilter(job_name="vacuum"), limit=1)
    told = [one.user_message for one in instance.all_logs(vacuumed.run_id)]
    assert "Silver/daily: 2 objects of wiped partitions stay while run 11111111 may write the asset" in told
    instance.delete_run(unfinished.run_id)
    assert clean() == {*KEYS[2:]}


def test_deleted_dynamic_partitions_are_wiped_where_that_is_asked_for(instance: dg.DagsterInstance) -> None:
    letters = dg.DynamicPartitionsDefinition(name="letters")
    both = dg.MultiPartitionsDefinition({"letter": letters, "day": DAYS})
    instance.add_dynamic_partitions("letters", ["a", "b"])
    for key in ("a", "b"):
        instance.report_runless_asset_event(dg.AssetMaterialization("one", partition=key))
        instance.report_runless_asset_event(dg.AssetMaterialization("two", partition=f"2024-01-01|{key}"))
    instance.delete_dynamic_partition("letters", "a")

    one, two = dg.AssetKey("one"), dg.AssetKey("two")
    assert wipe_partitions(instance, one, deleted_dynamic=letters, dry_run=True) == Wiped(["a"], [], [])
    assert wipe_partitions(instance, one, deleted_dynamic=letters) == Wiped(["a"], [], [])
    assert wipe_partitions(instance, one, deleted_dynamic=letters) == Wiped([], [], [])
    instance.report_runless_asset_event(dg.AssetMaterialization("two", partition="older"))
    assert wipe_partitions(instance, two, deleted_dynamic=both) == Wiped(["2024-01-01|a"], [], [])
    for wrong in (letters, dg.DynamicPartitionsDefinition(name="leters")):
        with pytest.raises(ConfigurationError, match="no materialized partition has one of them"):
            wipe_partitions(instance, two, deleted_dynamic=wrong)
    with pytest.raises(ConfigurationError, match="the definition is a Daily"):
        wipe_partitions(instance, one, deleted_dynamic=DAYS)


def test_a_partition_without_an_event_is_wiped_where_that_is_asked_for(instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("one", partition="a"))
    key = dg.AssetKey("one")
    assert wipe_partitions(instance, key, ["purged", "a"]) == Wiped(["a"], [], ["purged"])
    assert instance.get_materialized_partitions(key) == {"a"}
    found = wipe_partitions(instance, key, ["purged", "a"], also_unknown=True)
    assert found == Wiped(["purged"], ["a"], ["purged"])
    assert "misspelled keys: 1; also wiped" in described(key, found, dry_run=False)
    assert instance.get_materialized_partitions(key) == {"a", "purged"}
    assert wipe_partitions(instance, key, ["purged"], also_unknown=True) == Wiped([], ["purged"], [])


@pytest.mark.usefixtures("heavy")
def test_a_job_wipes_what_its_config_names(instance: dg.DagsterInstance, manager: Hive) -> None:
    write(instance, manager)
    defs = dg.Definitions(jobs=[build_wipe_job([daily, dg.AssetKey("other")])])
    dg.Definitions.validate_loadable(defs)

    def run(**config: Any) -> dict[str, Any]:
        job = defs.resolve_job_def("wipe_partitions")
        done = job.execute_in_process(instance=instance, run_config={"ops": {"log_tombstones": {"config": config}}})
        (handled,) = [one for one in done.all_events if one.event_type_value == "STEP_OUTPUT"]
        return {name: value.value for name, value in handled.step_output_data.metadata.items()}

    asked = {"asset": "Silver/daily", "partition_keys": KEYS[:2]}
    assert run(**asked) == {"dry_run": True, "wiped_partitions": 2, "first_partitions": {"Silver/daily": KEYS[:2]}}
    assert read(lenient, instance, manager) == KEYS
    assert run(**asked, dry_run=False)["wiped_partitions"] == 2
    assert read(lenient, instance, manager) == KEYS[2:]
    with pytest.raises(ConfigurationError, match="must be one of Silver/daily, other; got None"):
        run(partition_keys=KEYS)


@pytest.mark.usefixtures("heavy")
def test_the_retention_wipes_what_ended_longer_ago(
    instance: dg.DagsterInstance, manager: Hive, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(instance, manager)
    instance.report_runless_asset_event(dg.AssetMaterialization(daily.key, partition="of|another definition"))
    monkeypatch.setattr(retention, "_now", lambda: dt.datetime(2024, 1, 12, tzinfo=dt.UTC))
    job = build_retention_job([daily], keep=dt.timedelta(days=9))
    schedule = build_retention_schedule(job)
    assert (schedule.name, schedule.cron_schedule) == ("retention_schedule", "0 4 * * *")

    def run(config: Any) -> list[str]:
        assert job.execute_in_process(instance=instance, run_config=config).success
        return read(lenient, instance, manager)

    assert run({}) == KEYS
    (planned,) = schedule.evaluate_tick(dg.build_schedule_context(instance)).run_requests or ()
    assert run(planned.run_config) == KEYS[2:], "the second day ended nine days ago"
    assert run(planned.run_config) == KEYS[2:]
    (record,) = instance.fetch_materializations(daily.key, limit=1).records
    assert "older than 9 days" in str(record.asset_materialization)


def test_the_age_of_a_partition_is_that_of_its_time_dimension(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = dg.MultiPartitionsDefinition({"state": dg.StaticPartitionsDefinition(["CA"]), "day": DAYS})
    spec = dg.AssetSpec("both", partitions_def=both)
    for day in KEYS:
        instance.report_runless_asset_event(dg.AssetMaterialization("both", partition=f"{day}|CA"))
    for other in ("2024", "a|b|c"):
        instance.report_runless_asset_event(dg.AssetMaterialization("both", partition=other))
    monkeypatch.setattr(retention, "_now", lambda: dt.datetime(2024, 1, 4, tzinfo=dt.UTC))
    job = build_retention_job([spec], keep=dt.timedelta(days=1))
    config = {"ops": {"wipe_old_partitions": {"config": {"dry_run": False}}}}
    run = job.execute_in_process(instance=instance, run_config=config)
    assert run.success
    said = [one.user_message for one in instance.all_logs(run.run_id) if "another definition" in one.user_message]
    assert said == ["both: partitions of another definition, which have no age here and are kept: 2, such as '2024'"]
    wiped = instance.fetch_materializations(spec.key, limit=10).records[:-6]
    assert sorted(str(record.partition_key) for record in wiped) == [f"{KEYS[0]}|CA", f"{KEYS[1]}|CA"]


@pytest.mark.parametrize(
    ("assets", "said"),
    [
        ([dg.AssetSpec("a", partitions_def=dg.StaticPartitionsDefinition(["x"]))], "has no time partitions"),
        ([dg.AssetSpec("a")], "has no partitions in this code location"),
    ],
)
def test_an_asset_without_age_is_refused(instance: dg.DagsterInstance, assets: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        build_retention_job(assets, keep=dt.timedelta(days=1)).execute_in_process(instance=instance)
    with pytest.raises(ConfigurationError, match="keep must be longer than 0"):
        build_retention_job(assets, keep=dt.timedelta(0))


@pytest.mark.usefixtures("heavy")
def test_an_asset_that_is_given_by_its_key_has_the_partitions_of_the_code_location() -> None:
    context: Any = SimpleNamespace(repository_def=dg.Definitions(assets=[daily]).get_repository_def(), job_name="job")
    assert known_partitions(context, [daily.key], daily.key) == DAYS
    with pytest.raises(ConfigurationError, match="asset 'other' has no partitions in this code location"):
        known_partitions(context, [dg.AssetKey("other")], dg.AssetKey("other"))


@pytest.mark.usefixtures("heavy")
def test_the_command_wipes_partitions_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("ENVIRONMENT", "local")
    monkeypatch.setenv("S3_BUCKET", "lake")
    (tmp_path / "dagster.yaml").touch()
    app = typer.Typer()
    commands(app)
    key = dg.AssetKey(["Silver", "daily"])
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions("letters", ["a"])
        for partition in ("a", "b", "c"):
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))

    def run(*arguments: str) -> tuple[int, list[str]]:
        result = CliRunner().invoke(app, ["wipe", *arguments])
        return result.exit_code, result.output.splitlines()

    table = "local_silver.daily"
    assert run(table, "--partition", "b", "--partition", "x") == (
        0,
        [
            "Silver/daily: 1 partition would be wiped",
            "  b",
            f"without an event, so look for misspelled keys: 1; {wipe.LEFT}",
            "  x",
            "This is a dry run. Add --yes to wipe them.",
        ],
    )
    assert run(table, "--partition", "b", "--yes") == (0, ["Silver/daily: 1 partition is wiped", "  b"])
    assert run(table, "--deleted-dynamic", "letters", "--yes") == (
        0,
        ["Silver/daily: 1 partition is wiped", "  c"],
    )
    code, said = run(table, "--deleted-dynamic", "leters", "--yes")
    assert code == 1
    assert "'leters' have 0 keys now" in said[0]
    with dg.DagsterInstance.get() as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2024-01-01|a"))
    code, said = run(table, "--deleted-dynamic", "letters", "--yes")
    assert code == 1
    assert "has partitions of several dimensions, such as '2024-01-01|a'" in said[0]
    code, said = run(table)
    assert code == 1
    assert "no partition is named: use --partition KEY" in said[0]
    code, said = run("local_silver.other", "--partition", "b")
    assert code == 1
    assert "no asset with the table 'local_silver.other'" in said[0]

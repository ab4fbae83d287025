import datetime as dt
import subprocess
import sys
from datetime import UTC, datetime

import dagster as dg
import polars as pl
import pytest

from dagfusion_pipeline import vacuum as vacuum_module
from dagfusion_pipeline.environment import Environment
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.vacuum import superseded_objects
from dagfusion_reference.definitions import code_location, defs
from dagfusion_reference.defs.ecommerce.aggregates import sales_by_day
from dagfusion_reference.defs.ecommerce.export import export_of_orders
from dagfusion_reference.defs.ecommerce.sales import state_orders
from dagfusion_reference.defs.healthcare.aggregates import organizations_by_day
from dagfusion_reference.defs.healthcare.extracts import state_extracts
from dagfusion_reference.defs.healthcare.register import register_of_organizations
from dagfusion_reference.defs.partitions import StateDay
from dagfusion_reference.defs.policies import log_failure
from dagfusion_reference.defs.resources import METRICS, MeasuredHiveParquet, resources
from dagfusion_reference.defs.sql_twins import twins
from tests.reference.code_location import (
    DAYS,
    EXPORT,
    EXTRACTS,
    ORDERS,
    ORG_AGGREGATES,
    PARTITIONS,
    REGISTER,
    SALES,
    SEED,
    checks_of,
    days,
    metadata_of,
    rectangle,
    run,
)

SECRET = "do-not-show-this"
_SOURCE = dg.FreshnessPolicy.time_window(dt.timedelta(hours=72), warn_window=dt.timedelta(hours=48))
_SILVER = dg.FreshnessPolicy.cron("0 6 * * *", dt.timedelta(hours=6))
_GOLD = dg.FreshnessPolicy.cron("0 7 * * *", dt.timedelta(hours=7))
FRESHNESS = {
    REGISTER: _SOURCE,
    EXPORT: _SOURCE,
    EXTRACTS: _SILVER,
    ORDERS: _SILVER,
    ORG_AGGREGATES: _GOLD,
    SALES: _GOLD,
}


@pytest.mark.usefixtures("processes")
def test_the_code_location_loads_without_a_warning() -> None:
    program = "import dagster, dagfusion_reference.definitions as d; dagster.Definitions.validate_loadable(d.defs())"
    command = [sys.executable, "-W", "error", "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    assert (loaded.returncode, loaded.stderr) == (0, "")


def test_there_are_six_described_assets_with_metrics_and_checks(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    keys = {*FRESHNESS}
    assert graph.get_all_asset_keys() == keys | {twin.key for twin in twins} == METRICS.keys()
    for key in keys:
        node = graph.get(key)
        assert node.description
        assert node.owners
        assert node.group_name in {"healthcare", "ecommerce"}
        assert {"polars", "parquet", "s3"} <= node.kinds
        assert node.tags.keys() >= {"domain", "layer"}
        assert len(node.check_keys) >= 2
        spec = location.resolve_assets_def(key).get_asset_spec(key)
        assert spec.freshness_policy == FRESHNESS[key]
        op = location.resolve_assets_def(key).op
        assert op.retry_policy is not None
        assert (op.retry_policy.max_retries, op.retry_policy.backoff) == (2, dg.Backoff.EXPONENTIAL)
        assert location.resolve_assets_def(key).hook_defs == {log_failure}
        columns = spec.metadata["dagster/column_schema"].columns
        assert all(column.description for column in columns)
        lineage = spec.metadata.get("dagster/column_lineage")
        assert (lineage is None) == (key in {REGISTER, EXPORT})
        if lineage is not None:
            assert [*lineage.deps_by_column] == [column.name for column in columns]
    pools = {key for key in keys if location.resolve_assets_def(key).op.pool}
    assert pools == {EXTRACTS, ORDERS}
    for upstream, downstream in ((REGISTER, EXTRACTS), (EXTRACTS, ORG_AGGREGATES), (EXPORT, ORDERS), (ORDERS, SALES)):
        assert graph.get(downstream).parent_keys == {upstream}
    assert {graph.get(key).backfill_policy for key in (EXTRACTS, ORDERS)} == {dg.BackfillPolicy.single_run()}
    assert {graph.get(key).backfill_policy for key in (ORG_AGGREGATES, SALES)} == {dg.BackfillPolicy.multi_run(31)}


def test_partitions_are_days_from_2024_by_state(location: dg.Definitions) -> None:
    partitions = location.resolve_asset_graph().get(EXTRACTS).partitions_def
    assert isinstance(partitions, dg.MultiPartitionsDefinition)
    keys = partitions.get_partition_keys(current_time=datetime(2024, 12, 31, tzinfo=UTC))
    assert len(keys) == 365 * 50
    assert (keys[0], keys[-1]) == ("2024-01-01|AL", "2024-12-30|WY")


def test_healthcare_from_the_register_to_gold(location: dg.Definitions, instance: dg.DagsterInstance) -> None:
    registered = run(location, instance, REGISTER)
    assert set(checks_of(registered).values()) == {True}
    assert metadata_of(registered, REGISTER)[None]["organizations"] == 10_000

    written = run(location, instance, EXTRACTS, rectangle("AL", "WY"))
    assert set(checks_of(written).values()) == {True}
    expected = state_extracts(register_of_organizations(SEED), PARTITIONS, SEED).collect()
    recorded = metadata_of(written, EXTRACTS)
    assert recorded.keys() == {f"{partition.date}|{partition.state}" for partition in PARTITIONS}
    california = expected.filter((pl.col("state") == "CA") & (pl.col("date") == DAYS[1]))
    assert recorded[f"{DAYS[1]}|CA"]["organizations"] == california.height
    assert recorded[f"{DAYS[1]}|CA"]["providers"] == california["provider_count"].sum()

    gold = run(location, instance, ORG_AGGREGATES, days(*DAYS))
    assert set(checks_of(gold).values()) == {True}
    assert {key: found["states"] for key, found in metadata_of(gold, ORG_AGGREGATES).items()} == {
        str(day): 50 for day in DAYS
    }
    assert stored(location, instance, ORG_AGGREGATES, DAYS[0]).equals(
        organizations_by_day(expected.lazy().filter(pl.col("date") == DAYS[0]))
    )


def test_ecommerce_from_the_export_to_gold(location: dg.Definitions, instance: dg.DagsterInstance) -> None:
    exported = run(location, instance, EXPORT)
    assert set(checks_of(exported).values()) == {True}
    written = run(location, instance, ORDERS, rectangle("AL", "WY"))
    assert set(checks_of(written).values()) == {True}
    expected = state_orders(export_of_orders(SEED), PARTITIONS, SEED).collect()
    texas = expected.filter((pl.col("state") == "TX") & (pl.col("date") == DAYS[0]))
    recorded = metadata_of(written, ORDERS)[f"{DAYS[0]}|TX"]
    assert recorded["orders"] == texas.height
    assert recorded["revenue"] == float(texas["total_amount"].sum())

    gold = run(location, instance, SALES, days(*DAYS))
    assert set(checks_of(gold).values()) == {True}
    assert stored(location, instance, SALES, DAYS[1]).equals(
        sales_by_day(expected.lazy().filter(pl.col("date") == DAYS[1]))
    )


def stored(location: dg.Definitions, instance: dg.DagsterInstance, key: dg.AssetKey, day: dt.date) -> pl.DataFrame:
    with location.get_asset_value_loader(instance=instance) as loader:
        loaded = loader.load_asset_value(key, python_type=pl.DataFrame, partition_key=str(day))
    assert isinstance(loaded, pl.DataFrame)
    return loaded


def test_a_run_of_three_states_writes_only_those(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(location, instance, REGISTER)
    written = run(location, instance, EXTRACTS, rectangle("AL", "AZ"))
    partitions = [StateDay(day, state) for day in DAYS for state in ("AL", "AK", "AZ")]
    assert metadata_of(written, EXTRACTS).keys() == {f"{day}|{state}" for day, state in partitions}
    store = MeasuredHiveParquet(**environment.io_manager_fields()).object_store
    folder = f"{environment.prefix}/Silver/TaxID/partitioned_organizations"
    assert {found.key for found in store.list_objects(folder)} == {
        f"{folder}/state={state}/date={day}/data.parquet" for day, state in partitions
    }

    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda *_: 0)
    failed = run(location, instance, ORG_AGGREGATES, days(*DAYS), raise_on_error=False)
    assert not failed.success
    problem = str(failed.all_node_events)
    assert "94 partitions of asset" in problem
    assert f"{DAYS[0]}|AR" in problem
    assert [event.event_type_value for event in failed.all_node_events].count("STEP_UP_FOR_RETRY") == 2
    (logged,) = [line for line in capsys.readouterr().err.splitlines() if "CRITICAL" in line]  # by the hook
    assert f"daily_org_aggregates failed in run {failed.run_id}: MissingObjectError(" in logged


def test_another_seed_is_other_data(location: dg.Definitions, instance: dg.DagsterInstance) -> None:
    config = {"resources": {"seed": {"config": {"value": 99}}}}
    result = run(location, instance, EXPORT, run_config=config)
    revenue = metadata_of(result, EXPORT)[None]["revenue"]
    assert revenue == float(export_of_orders(99)["total_amount"].sum())
    assert revenue != float(export_of_orders(SEED)["total_amount"].sum())


def test_no_secret_is_in_what_dagster_shows(
    environment: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    shown = defs().get_repository_def().get_top_level_resources()
    configured = {name: str(found.config_schema.default_value_as_json_str) for name, found in shown.items()}
    assert '"secret_access_key": {"env": "AWS_SECRET_ACCESS_KEY"}' in configured["parquet"]
    assert SECRET not in str(configured)

    assert environment.credentials is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", environment.credentials.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", environment.credentials.secret_access_key)
    by_name = code_location(resources(environment, secrets_by_name=True))
    assert run(by_name, instance, REGISTER).success


def test_a_wrong_setting_of_the_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "prod")
    with pytest.raises(ConfigurationError, match=r"^PROD_S3_BUCKET is required when ENVIRONMENT=prod"):
        defs()


def test_the_vacuum_deletes_what_is_superseded(
    environment: Environment, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = code_location(resources(environment, file_naming="per_run"))
    manager = MeasuredHiveParquet(**environment.io_manager_fields(), file_naming="per_run")
    runs = [run(location, instance, REGISTER).run_id for _ in range(2)]
    runs += [run(location, instance, EXTRACTS, rectangle("AL", "AK")).run_id for _ in range(2)]
    folder = f"{environment.prefix}/Silver/TaxID"

    def objects() -> set[str]:
        return {found.key.removeprefix(f"{folder}/") for found in manager.object_store.list_objects(folder)}

    def vacuum(*, dry_run: bool) -> bool:
        config = {"ops": {"delete_superseded": {"config": {"dry_run": dry_run, "older_than_hours": 1}}}}
        return location.resolve_job_def("vacuum").execute_in_process(instance=instance, run_config=config).success

    before = objects()
    assert len(before) == 2 + 2 * 4
    assert vacuum(dry_run=False)
    assert objects() == before
    in_two_hours = datetime.now(UTC) + dt.timedelta(hours=2)
    monkeypatch.setattr(vacuum_module, "_now", lambda: in_two_hours)
    assert vacuum(dry_run=True)
    assert objects() == before
    assert vacuum(dry_run=False)
    assert objects() == {
        f"raw_organizations-{runs[1]}.parquet",
        *(
            f"partitioned_organizations/state={state}/date={day}/data-{runs[3]}.parquet"
            for day in DAYS
            for state in ("AL", "AK")
        ),
    }

    instance.wipe_assets([EXTRACTS])
    assert superseded_objects(instance, manager, EXTRACTS, in_two_hours) == []

"""Checks from what materializations recorded, over real runs."""

import datetime as dt
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import polars as pl
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager, asset_checks, check_results, partition_checks
from dagfusion_pipeline import checked_partitions as module
from dagfusion_pipeline.check_definitions import PlannedCheck
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.store import ObjectStore
from tests.pipeline.in_memory import Hive
from tests.pipeline.written import key_range

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05")
MULTI = dg.MultiPartitionsDefinition({"date": DAYS, "state": dg.StaticPartitionsDefinition(["CA", "NY"])})
KEYS = dg.StaticPartitionsDefinition(["a", "b", "c"])
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
SCHEMA = dg.TableSchema([dg.TableColumn("npi", "string"), dg.TableColumn("age", "int64")])
Results = Mapping[str, dg.AssetCheckEvaluation]


class NoStore(PartitionedS3ParquetIOManager):
    """An IO manager that fails when its bucket is touched."""

    @property
    def object_store(self) -> ObjectStore:
        raise AssertionError("a check read the store")


def orgs_asset(partitions_def: dg.PartitionsDefinition | None, **options: Any) -> dg.AssetsDefinition:
    def orgs(context: dg.AssetExecutionContext) -> pl.DataFrame:
        keys = context.partition_keys if context.has_partition_key or context.has_partition_key_range else [""]
        return pl.concat(rows_of(key) for key in keys)

    decorate: Callable[..., dg.AssetsDefinition] = dg.asset(
        partitions_def=partitions_def, io_manager_key="io", **options
    )
    return decorate(orgs)


def rows_of(key: str) -> pl.DataFrame:
    """Two rows; of a key with `b` or the 3rd of January, one of them is wrong."""
    bad = "b" in key or "-03" in key
    frame = pl.DataFrame({"npi": ["1", None if bad else "2"], "age": [5, 131 if bad else 6]})
    if "|" in key:
        day, _, state = key.partition("|")
        frame = frame.with_columns(date=pl.lit(dt.date.fromisoformat(day)), state=pl.lit(state))
    elif key.startswith("2024"):
        frame = frame.with_columns(date=pl.lit(dt.date.fromisoformat(key)))
    return frame


def run(
    assets: list[Any],
    checks: dg.AssetChecksDefinition,
    instance: dg.DagsterInstance,
    *,
    io: Any = None,
    selection: Any = None,
    **options: Any,
) -> tuple[dg.ExecuteInProcessResult, Results]:
    """Run a job over assets and checks; without a selection, the checks alone."""
    selection = selection or dg.AssetSelection.checks(checks)
    job = dg.define_asset_job("job", selection=selection)
    resources = {"io": io or NoStore(bucket="lake")}
    defs = dg.Definitions(assets=assets, asset_checks=[checks], jobs=[job], resources=resources)
    result = defs.resolve_job_def("job").execute_in_process(instance=instance, raise_on_error=False, **options)
    return result, {one.check_name: one for one in result.get_asset_check_evaluations()}


def write(asset: dg.AssetsDefinition, instance: dg.DagsterInstance, **options: Any) -> None:
    assert dg.materialize([asset], resources={"io": Hive(bucket="lake")}, instance=instance, **options).success


def failing(results: Results) -> set[str]:
    return {name for name, result in results.items() if not result.passed}


def numbers(result: dg.AssetCheckEvaluation) -> tuple[Any, ...]:
    names = ("partitions", "broken_partitions", "unknown_partitions")
    return tuple(result.metadata[name].value for name in names)


def first(result: dg.AssetCheckEvaluation, word: str) -> dict[str, str]:
    table = result.metadata[f"first_{word}"]
    assert isinstance(table, dg.TableMetadataValue)
    return {str(one.data["partition"]): str(one.data["found"]) for one in table.records}


def report(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))


def checked(instance: dg.DagsterInstance, key: dg.AssetKey, definition: dg.PartitionsDefinition) -> Any:
    """Return what a run without partitions checks."""
    context = SimpleNamespace(instance=instance, run=SimpleNamespace(tags={}))
    return module.checked_partitions(cast("Any", context), key, definition)


@pytest.mark.parametrize("names", [("date", "state"), ("kind", "date"), ("state", "kind"), ("team", "date")])
def test_keys_are_those_of_dagster_in_its_order(instance: dg.DagsterInstance, names: tuple[str, str]) -> None:
    teams, states = dg.DynamicPartitionsDefinition(name="teams"), dg.StaticPartitionsDefinition(["NY", "CA"])
    instance.add_dynamic_partitions("teams", ["b", "a"])
    kinds: dict[str, dg.PartitionsDefinition] = {"date": DAYS, "state": states, "kind": KEYS, "team": teams}
    definition = dg.MultiPartitionsDefinition({name: kinds[name] for name in names})
    expected = definition.get_partition_keys(dynamic_partitions_store=instance)
    assert module.partition_keys(definition, instance) == [str(key) for key in expected]


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("faulty", [{"npi_not_null"}, {"npi_not_null", "partitions_complete"}])
def test_a_check_that_raises_an_error_leaves_the_others_their_results(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, faulty: set[str]
) -> None:
    def evaluate(check: PlannedCheck, *given: Any) -> dg.AssetCheckResult:
        if check.name in faulty:
            raise ValueError(f"a fault of {check.name}")
        return check_results.check_result(check, *given)

    monkeypatch.setattr(asset_checks, "check_result", evaluate)
    asset = orgs_asset(KEYS)
    checks = partition_checks(asset, rows=(1, None), not_null=["npi"], complete=True, unknown="fail")
    done, results = run([asset], checks, instance)
    assert {*results} == {"row_count", "npi_not_null", "partitions_complete"} - faulty
    [step] = done.filter_events(lambda event: event.is_step_failure)
    text = step.step_failure_data.error_display_string
    assert [name for name in faulty if f"a fault of {name}" not in text] == []
    assert [name for name in faulty if name not in text] == []
    found = {key.name: _latest(instance, key).status.value for key in checks.check_keys}
    assert found == dict.fromkeys(results, "FAILED") | dict.fromkeys(faulty, "PLANNED")  # and their run failed


def _latest(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> Any:
    return instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]


@pytest.mark.usefixtures("heavy")
def test_a_failed_check_blocks_what_is_downstream(instance: dg.DagsterInstance) -> None:
    orgs = orgs_asset(KEYS)

    @dg.asset(deps=[orgs], partitions_def=KEYS)
    def after() -> None: ...

    checks = partition_checks(orgs, rows=(1, 10), not_null=["npi"], bounds={"age": (0, 130)}, blocking=True)
    everything = dg.AssetSelection.assets(orgs, after)
    options: dict[str, Any] = {"io": Hive(bucket="lake"), "selection": everything}
    done, results = run([orgs, after], checks, instance, partition_key="a", **options)
    assert done.success
    assert failing(results) == set()
    assert {key.to_user_string() for key in _materialized(done)} == {"orgs", "after"}
    done, results = run([orgs, after], checks, instance, partition_key="b", **options)
    assert failing(results) == {"npi_not_null", "age_in_bounds"}
    assert {key.to_user_string() for key in _materialized(done)} == {"orgs"}
    assert first(results["age_in_bounds"], "broken") == {"b": "age from 5 to 131"}
    assert results["age_in_bounds"].blocking


def _materialized(result: dg.ExecuteInProcessResult) -> set[dg.AssetKey]:
    return {event.asset_key for event in result.get_asset_materialization_events() if event.asset_key}


@pytest.mark.usefixtures("heavy")
def test_warnings_do_not_block(instance: dg.DagsterInstance) -> None:
    orgs = orgs_asset(KEYS)

    @dg.asset(deps=[orgs], partitions_def=KEYS)
    def after() -> None: ...

    checks = partition_checks(orgs, bounds={"age": (0, 130)}, severity=WARN, blocking=True)
    selection = dg.AssetSelection.assets(orgs, after)
    done, results = run([orgs, after], checks, instance, partition_key="b", io=Hive(bucket="lake"), selection=selection)
    assert failing(results) == {"age_in_bounds"}
    assert len(_materialized(done)) == 2


@pytest.mark.usefixtures("heavy")
def test_a_run_is_checked_over_its_partitions_and_another_over_all(instance: dg.DagsterInstance) -> None:
    orgs = orgs_asset(MULTI)
    tags = key_range("2024-01-01|CA", "2024-01-03|CA")
    write(orgs, instance, tags=tags)
    checks = partition_checks(
        orgs, rows=(2, 2), bounds={"age": (0, 130), "state": ("CA", "CA")}, complete=True, schema=True
    )
    _, results = run([orgs], checks, instance, tags=key_range("2024-01-01|CA", "2024-01-02|CA"))
    assert failing(results) == set()
    assert {numbers(result) for result in results.values()} == {(2, 0, 0)}
    assert (results["row_count"].metadata["lowest"].value, results["row_count"].metadata["highest"].value) == (2, 2)
    _, results = run([orgs], checks, instance)
    assert failing(results) == {"age_in_bounds", "partitions_complete"}
    assert numbers(results["age_in_bounds"]) == (3, 1, 0)
    assert numbers(results["partitions_complete"]) == (8, 5, 0)
    assert "2024-01-01|NY: not materialized" in str(results["partitions_complete"].description)
    assert results["age_in_bounds"].metadata["highest"].value == 131
    _, results = run([orgs], checks, instance, tags=key_range("2024-01-03|CA", "2024-01-04|CA"))
    assert failing(results) == {"age_in_bounds", "column_schema", "partitions_complete", "row_count", "state_in_bounds"}
    assert numbers(results["age_in_bounds"]) == (2, 1, 1)
    assert results["age_in_bounds"].severity == ERROR
    assert results["row_count"].severity == WARN
    assert first(results["row_count"], "unknown") == {"2024-01-04|CA": "not materialized"}


@pytest.mark.usefixtures("heavy")
def test_some_checks_run_without_the_others(instance: dg.DagsterInstance) -> None:
    orgs = orgs_asset(None)
    write(orgs, instance)
    checks = partition_checks(orgs, rows=(3, None), not_null=["npi"])
    one = dg.AssetSelection.checks(dg.AssetCheckKey(orgs.key, "row_count"))
    _, results = run([orgs], checks, instance, selection=one)
    assert failing(results) == {"row_count"} == {*results}
    assert results["row_count"].description == "1 of 1 partitions fail (2 rows)."


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(("unknown", "severity"), [("warn", WARN), ("fail", ERROR)])
def test_what_the_records_do_not_tell_never_passes(
    instance: dg.DagsterInstance, unknown: Any, severity: dg.AssetCheckSeverity
) -> None:
    orgs = orgs_asset(KEYS)
    checks = partition_checks(
        orgs, rows=(1, None), not_null=["npi"], bounds={"age": (0, 200), "nap": (0, 1)}, schema=True, unknown=unknown
    )
    _, results = run([orgs], checks, instance)
    assert failing(results) == {*results}
    assert {result.severity for result in results.values()} == {severity}
    write(orgs, instance, partition_key="a")
    report(instance, orgs.key, "c")  # by hand, or by another IO manager
    _, results = run([orgs], checks, instance)
    assert failing(results) == {*results}
    assert {result.severity for result in results.values()} == {severity}
    assert first(results["row_count"], "unknown") == {"c": "its latest materialization has no record of DagFusion"}
    assert first(results["nap_in_bounds"], "unknown")["a"] == "no column 'nap'"


@pytest.mark.usefixtures("heavy")
def test_partitions_that_the_definition_lacks_are_counted_and_not_checked(instance: dg.DagsterInstance) -> None:
    dynamic = dg.DynamicPartitionsDefinition(name="names")
    orgs = orgs_asset(dynamic)
    instance.add_dynamic_partitions("names", ["a", "b"])
    for key in ("a", "b"):
        write(orgs, instance, partition_key=key)
    checks = partition_checks(orgs, not_null=["npi"], complete=True)
    _, results = run([orgs], checks, instance)
    assert failing(results) == {"npi_not_null"}
    instance.delete_dynamic_partition("names", "b")
    _, results = run([orgs], checks, instance)
    assert failing(results) == set()
    assert results["npi_not_null"].metadata["partitions_outside_definition"].value == 1
    instance.wipe_assets([orgs.key])
    _, results = run([orgs], checks, instance)
    assert failing(results) == {"npi_not_null", "partitions_complete"}
    assert results["npi_not_null"].description == "1 of 1 partitions are unknown (nothing is materialized)."


@pytest.mark.usefixtures("heavy")
def test_columns_are_those_that_are_declared_or_those_of_the_newest_other_partition(
    instance: dg.DagsterInstance,
) -> None:
    other = dg.TableSchema([dg.TableColumn("npi", "string"), dg.TableColumn("age", "int32"), dg.TableColumn("x")])
    right, wrong = (orgs_asset(KEYS, metadata={"dagster/column_schema": declared}) for declared in (SCHEMA, other))
    write(right, instance, partition_key="a")
    _, results = run([right], partition_checks(right, schema=True), instance)
    assert failing(results) == set()
    _, results = run([wrong], partition_checks(wrong, schema=True), instance)
    assert first(results["column_schema"], "broken") == {"a": "missing: x; age is int64, not int32"}
    _, results = run([wrong], partition_checks(wrong, schema="names"), instance)
    assert first(results["column_schema"], "broken") == {"a": "missing: x"}

    @dg.asset(partitions_def=KEYS, io_manager_key="io")
    def orgs() -> pl.DataFrame:
        return pl.DataFrame({"npi": ["1"], "age": [1], "new": [True]})

    write(orgs, instance, partition_key="b")
    checks = partition_checks(orgs, schema=True)
    _, results = run([orgs], checks, instance, tags={"dagster/partition": "b"})
    assert first(results["column_schema"], "broken") == {"b": "unexpected: new"}
    _, results = run([orgs], checks, instance)
    assert first(results["column_schema"], "broken") == {"a": "missing: new"}


@pytest.mark.usefixtures("heavy")
def test_partitions_are_fresh_by_their_windows_and_others_by_their_age(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(dt.datetime):
        at = dt.datetime(2024, 1, 4, 1, tzinfo=dt.UTC)

        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return cls.at.astimezone(tz)

    monkeypatch.setattr(module, "datetime", Clock)
    key = dg.AssetKey("orgs")
    of_day = dg.AssetSpec(key, partitions_def=MULTI)
    for state in ("CA", "NY"):
        report(instance, key, f"2024-01-01|{state}")
    report(instance, key, "2024-01-02|CA")
    checks = partition_checks(of_day, fresh_within=dt.timedelta(hours=6))
    _, results = run([of_day], checks, instance)
    assert [*first(results["partitions_fresh"], "broken")] == ["2024-01-02|NY"]
    Clock.at = dt.datetime(2024, 1, 4, 7, tzinfo=dt.UTC)
    _, results = run([of_day], checks, instance)
    assert [*first(results["partitions_fresh"], "broken")] == ["2024-01-02|NY", "2024-01-03|CA", "2024-01-03|NY"]
    of_key = dg.AssetSpec(key, partitions_def=dg.StaticPartitionsDefinition(["2024-01-01|CA"]))
    checks = partition_checks(of_key, fresh_within=dt.timedelta(hours=6))
    Clock.at = dt.datetime.now(dt.UTC)
    assert failing(run([of_key], checks, instance)[1]) == set()
    Clock.at += dt.timedelta(hours=7)
    assert failing(run([of_key], checks, instance)[1]) == {"partitions_fresh"}


@pytest.mark.usefixtures("heavy")
def test_the_partitions_of_a_key_are_those_of_its_definition(instance: dg.DagsterInstance) -> None:
    orgs = orgs_asset(KEYS)
    write(orgs, instance, partition_key="a")
    checks = partition_checks(orgs.key, complete=True)
    _, results = run([orgs], checks, instance)
    assert numbers(results["partitions_complete"]) == (3, 2, 0)


@pytest.mark.usefixtures("heavy")
def test_a_run_over_partitions_of_another_asset_checks_all(instance: dg.DagsterInstance) -> None:
    orgs = orgs_asset(None)

    @dg.asset(partitions_def=DAYS, deps=[orgs])
    def other() -> None: ...

    checks = partition_checks(orgs, rows=(1, None))
    options: dict[str, Any] = {"io": Hive(bucket="lake"), "selection": dg.AssetSelection.assets(orgs, other)}
    _, results = run([orgs, other], checks, instance, partition_key="2024-01-01", **options)
    assert numbers(results["row_count"]) == (1, 0, 0)


@pytest.mark.usefixtures("heavy")
def test_dagster_keeps_a_result_for_each_partition_where_that_is_asked_for(instance: dg.DagsterInstance) -> None:
    orgs = orgs_asset(KEYS)
    if "partitions_def" not in inspect.signature(dg.AssetCheckSpec.__new__).parameters:
        with pytest.raises(ConfigurationError, match=r"use dagster 1\.13"):
            partition_checks(orgs, not_null=["npi"], partitioned=True)
        return
    write(orgs, instance, partition_key="b")
    with pytest.warns(dg.PreviewWarning):
        checks = partition_checks(orgs, not_null=["npi"], partitioned=True)
    _, results = run([orgs], checks, instance, tags={"dagster/partition": "b"})
    assert failing(results) == {"npi_not_null"}
    assert results["npi_not_null"].partition == "b"

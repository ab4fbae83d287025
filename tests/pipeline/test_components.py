"""The components: YAML files of a `dg` project that give IO managers, checks and jobs."""

import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.core.package_entry import discover_entry_point_package_objects

from dagfusion_pipeline import (
    Maintenance,
    ParquetTables,
    PartitionedS3ParquetIOManager,
    S3ParquetIOManager,
    SqlAssetComponent,
)
from dagfusion_pipeline.errors import ConfigurationError

Load = Callable[[str, str], dg.Definitions]
ASSETS = """\
import dagster as dg
import polars as pl

days = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-03")

@dg.asset(key=["Silver", "orgs"], io_manager_key="hive_parquet", partitions_def=days)
def orgs() -> pl.DataFrame:
    return pl.DataFrame({"npi": ["1"], "age": [131]})

@dg.asset(key=["Gold", "daily"], deps=[orgs], partitions_def=days)
def daily() -> None: ...
"""
TABLES = """\
type: dagfusion_pipeline.ParquetTables
attributes:
  fields: {fields}
  checks:
    - asset: Silver/orgs
      rows: [1, null]
      not_null: [npi]
      bounds: {{age: [0, {oldest}], date: [2024-01-01, null]}}
      fresh_within_hours: 24
      columns: true
      blocking: true
"""
PARTITIONED = """\
type: dagfusion_pipeline.ParquetTables
template_vars_module: .variables
attributes:
  fields: {{bucket: lake}}
  checks: [{{asset: Silver/orgs, rows: [1, null], partitions: "{partitions}"}}]
"""
VARIABLES = """\
import dagster as dg

@dg.template_var
def days(context: dg.ComponentLoadContext) -> dg.PartitionsDefinition:
    return dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-03")

@dg.template_var
def number(context: dg.ComponentLoadContext) -> int:
    return 1
"""
MAINTENANCE = """\
type: dagfusion_pipeline.Maintenance
attributes:
  vacuum: [Silver/orgs, Gold/daily]
  consolidate: [Silver/orgs]
  retention: [{assets: [Silver/orgs], keep_days: 0.5}]
  tags:
    ecs/task_overrides: {taskRoleArn: "{{ env.MAINTENANCE_ROLE_ARN }}"}
    team: data
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load a `dg` project with the assets and one component."""
    monkeypatch.syspath_prepend(tmp_path)
    package = f"project_{tmp_path.name.replace('-', '_')}"
    defs = tmp_path / package / "defs"

    def loaded(name: str, text: str) -> dg.Definitions:
        (defs / name).mkdir(parents=True)
        (defs / name / "variables.py").write_text(VARIABLES)
        for folder in (defs.parent, defs):
            (folder / "__init__.py").touch()
        (defs / "orgs.py").write_text(ASSETS)
        (defs / name / "defs.yaml").write_text(text)
        project = f'[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "{package}"\n'
        (tmp_path / "pyproject.toml").write_text(project)
        importlib.invalidate_caches()
        return dg.load_from_defs_folder(path_within_project=defs)

    return loaded


@pytest.mark.parametrize(("oldest", "broken"), [(130, {"age_in_bounds"}), (131, set())])
def test_a_few_lines_store_and_check_tables(
    load: Load, fields: dict[str, Any], instance: dg.DagsterInstance, oldest: int, broken: set[str]
) -> None:
    definitions = load("tables", TABLES.format(fields=fields, oldest=oldest))
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, partition_key="2024-01-01", raise_on_error=False
    )
    found = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert {name for name, passed in found.items() if not passed} == broken
    assert found.keys() == {
        *("age_in_bounds", "column_schema", "date_in_bounds", "npi_not_null", "partitions_fresh", "row_count")
    }
    assert result.success is not bool(broken)
    assert len(result.get_asset_materialization_events()) == (1 if broken else 2)


@pytest.mark.usefixtures("heavy")
def test_checks_have_a_result_for_each_partition(load: Load) -> None:
    definitions = load("tables", PARTITIONED.format(partitions="{{ days }}"))
    (spec,) = [one for checks in definitions.asset_checks or () for one in checks.check_specs]
    assert spec.partitions_def == dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-03")


def test_partitions_of_checks_are_a_partitions_definition(load: Load) -> None:
    with pytest.raises(Exception, match="error") as raised:
        load("tables", PARTITIONED.format(partitions="{{ number }}"))
    assert "instance of PartitionsDefinition" in "".join(traceback.format_exception(raised.value))


@pytest.mark.usefixtures("heavy")
def test_the_environment_says_where_objects_are(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ENVIRONMENT": "uat",
        "UAT_S3_BUCKET": "uat-lake",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
    }.items():
        monkeypatch.setenv(name, value)
    text = "type: dagfusion_pipeline.ParquetTables\nattributes: {io_manager_key: flat, fields: {prefix: bronze}}\n"
    definitions = load("tables", text)
    assert definitions.resources is not None
    managers = definitions.resources["flat"], definitions.resources["hive_parquet"]
    assert [type(one) for one in managers] == [S3ParquetIOManager, PartitionedS3ParquetIOManager]
    assert {(one.bucket, one.prefix, one.environment) for one in managers} == {("uat-lake", "bronze", "uat")}
    assert {one.secret_access_key for one in managers} == {"AWS_SECRET_ACCESS_KEY"}  # the variable, not its value


@pytest.mark.usefixtures("heavy")
def test_a_few_lines_make_the_jobs(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINTENANCE_ROLE_ARN", "arn:role")
    definitions = load("maintenance", MAINTENANCE)
    jobs = [job for job in definitions.jobs or () if isinstance(job, dg.JobDefinition)]
    assert {job.name for job in jobs} == {"vacuum", "consolidate", "retention_0_5_days"}
    tags = {"ecs/task_overrides": '{"taskRoleArn": "arn:role"}', "team": "data"}
    assert [job.run_tags for job in jobs] == [tags] * 3
    schedules = [one for one in definitions.schedules or () if isinstance(one, dg.ScheduleDefinition)]
    assert {one.name: one.cron_schedule for one in schedules} == {
        "consolidate_schedule": "30 3 * * *",
        "retention_0_5_days_schedule": "0 4 * * *",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ParquetTables\nattributes: {fields: {bukket: a}}", "got \\['bukket'\\]: use some of"),
        ("ParquetTables\nattributes: {checks: [{asset: a, rows: [1]}]}", "rows must be a list of two values"),
        ("ParquetTables\nattributes: {checks: [{asset: a}]}", "checks nothing"),
        ("Maintenance\nattributes: {}", "nothing to do: name assets"),
        ("Maintenance\nattributes: {retention: [{assets: [a], keep_days: -1}]}", "keep must be longer than 0; got -1"),
        (
            "Maintenance\nattributes: {retention: [{assets: [a], keep_days: 9}, {assets: [b], keep_days: 9}]}",
            "one entry for each keep_days, got",
        ),
    ],
)
def test_a_component_that_cannot_be_used_says_why(load: Load, text: str, said: str) -> None:
    with pytest.raises(Exception, match="error") as raised:
        load("wrong", f"type: dagfusion_pipeline.{text}\n")
    cause: BaseException | None = raised.value
    while cause is not None and not isinstance(cause, ConfigurationError):
        cause = cause.__cause__
    assert cause is not None
    with pytest.raises(ConfigurationError, match=said):
        raise cause


@pytest.mark.usefixtures("heavy")  # loads what every installed package registers
def test_dg_lists_the_components() -> None:
    """By the function from which `dg list components` takes its table."""
    found = {key.to_typename(): thing for key, thing in discover_entry_point_package_objects().items()}
    ours = {name: thing for name, thing in found.items() if name.startswith("dagfusion")}
    assert ours == {
        "dagfusion_pipeline.Maintenance": Maintenance,
        "dagfusion_pipeline.ParquetTables": ParquetTables,
        "dagfusion_pipeline.SqlAssetComponent": SqlAssetComponent,
    }
    assert all(isinstance(thing, type) and issubclass(thing, dg.Component) for thing in ours.values())

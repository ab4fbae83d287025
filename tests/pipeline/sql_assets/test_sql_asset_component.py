"""The component: a YAML file of a `dg` project that declares an asset by SQL."""

import importlib
import re
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from dagfusion_pipeline import S3ParquetIOManager
from dagfusion_pipeline.errors import SqlError

YAML = """\
type: dagfusion_pipeline.SqlAssetComponent
attributes:
  {query}
  io_manager_key: parquet
  asset:
    key: gold/doubled
    partitions_def: {{type: daily, start_date: "2024-01-01"}}
    group_name: gold
    owners: ["team:data"]
    tags: {{layer: gold}}
    description: Twice the numbers.
    metadata: {{mine: 1}}
    automation_condition: "{{{{ dg.AutomationCondition.eager() }}}}"
    deps: [Silver/Numbers/raw]
  op:
    backfill_policy: {{type: single_run}}
"""
ASSETS = """\
import dagster as dg
import polars as pl

days = dg.DailyPartitionsDefinition("2024-01-01")

@dg.asset(key=["Silver", "Numbers", "raw"], io_manager_key="parquet", partitions_def=days)
def raw() -> pl.DataFrame:
    return pl.DataFrame({"n": [1, 2, 3]})
"""
PROJECT = """\
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "{name}"
"""
QUERY = "SELECT date, n * 2 AS n FROM silver_numbers.raw WHERE date >= $window_start"


class Project:
    """A `dg` project with one folder of definitions."""

    def __init__(self, folder: Path, name: str) -> None:
        self.root, self.name = folder, name
        self.defs = folder / name / "defs"
        (self.defs / "doubled").mkdir(parents=True)
        (folder / name / "__init__.py").touch()
        (self.defs / "__init__.py").touch()
        (self.defs / "raw.py").write_text(ASSETS)
        (folder / "pyproject.toml").write_text(PROJECT.format(name=name))

    def load(self, query: str, manager: object = None) -> dg.Definitions:
        (self.defs / "doubled" / "defs.yaml").write_text(YAML.format(query=query))
        importlib.invalidate_caches()
        resources = dg.Definitions(resources={"parquet": manager or dg.FilesystemIOManager()})
        return dg.Definitions.merge(dg.load_from_defs_folder(path_within_project=self.defs), resources)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    name = f"project_{tmp_path.name.replace('-', '_')}"
    monkeypatch.syspath_prepend(tmp_path)
    return Project(tmp_path, name)


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_a_yaml_file_declares_an_asset_that_runs(
    project: Project, fields: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    (project.defs / "doubled" / "doubled.sql").write_text(QUERY)
    definitions = project.load("sql_file: doubled.sql", S3ParquetIOManager(**fields))
    key, raw = dg.AssetKey(["gold", "doubled"]), dg.AssetKey(["Silver", "Numbers", "raw"])
    node = definitions.resolve_asset_graph().get(key)
    assert node.parent_keys == {raw}
    assert (node.group_name, node.owners, node.description) == ("gold", ["team:data"], "Twice the numbers.")
    assert node.kinds == {"sql", "datafusion"}
    assert node.tags["layer"] == "gold"
    assert node.metadata["mine"] == 1
    assert node.automation_condition == dg.AutomationCondition.eager()
    assert node.backfill_policy == dg.BackfillPolicy.single_run()

    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        for day in ("2024-01-01", "2024-01-02"):
            assert job.execute_in_process(instance=instance, partition_key=day).success
        with definitions.get_asset_value_loader(instance=instance) as loader:
            rows = loader.load_asset_value(key, python_type=pl.DataFrame, partition_key="2024-01-02")
    assert isinstance(rows, pl.DataFrame)
    assert rows["n"].to_list() == [2, 4, 6]


@pytest.mark.usefixtures("heavy")
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_the_query_can_be_in_the_yaml(project: Project) -> None:
    definitions = project.load(f'sql: "{QUERY}"')
    (spec,) = [spec for spec in definitions.resolve_all_asset_specs() if spec.key.path[-1] == "doubled"]
    assert QUERY in spec.metadata["sql"].value


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{}", r"must have sql or sql_file, got neither"),
        ('sql: "SELECT 1"\n  sql_file: doubled.sql', r"must have sql or sql_file, got both"),
        ("sql_file: no.sql", r"sql_file of asset 'gold/doubled' cannot be read: .*no\.sql"),
        ('sql: "SELECT FROM"', r"the SQL of asset 'gold/doubled' does not parse"),
    ],
)
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_a_component_without_one_query_is_an_error(project: Project, query: str, message: str) -> None:
    with pytest.raises(Exception, match=r"SqlAssetComponent\) \(error\)") as raised:
        project.load(query.removeprefix("{}"))
    cause: BaseException | None = raised.value
    while cause is not None and not isinstance(cause, SqlError):
        cause = cause.__cause__
    assert re.search(message, str(cause))

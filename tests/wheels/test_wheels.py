"""The wheels hold what they should, and work where nothing but their requirements is installed."""

import datetime as dt
import email
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.server.processes.process import served
from tests.wheels.conftest import Run

pytestmark = pytest.mark.slow
PACKAGES = (
    "dagfusion_cli",
    "dagfusion_client",
    "dagfusion_contract",
    "dagfusion_interop",
    "dagfusion_pipeline",
    "dagfusion_query",
    "dagfusion_reference",
    "dagfusion_server",
    "dagfusion_stack",
)
EMBEDDED = ("dagfusion_contract", "dagfusion_client", "dagfusion_query")
QUERY = """
import importlib.util, json, sys
import dagfusion_query
strangers = (
    *("dagster", "polars", "pandas", "dagfusion_pipeline"),
    *("google", "prometheus_client", "starlette", "typer", "uvicorn"),
    *("dagfusion_cli", "dagfusion_interop", "dagfusion_server"),
)
present = [name for name in strangers if importlib.util.find_spec(name) is not None]
with dagfusion_query.connect(sys.argv[1], settings={"DAGFUSION_HOME": "none"}) as connection:
    result = connection.sql("select state, sum(n) n from local_default.counts where date = '2024-01-02' group by state")
    rows = result.to_arrow().to_pylist()
print(json.dumps({"present": present, "rows": rows, "files": [result.stats.files_read, result.stats.files_total]}))
"""
CLIENT = """
import importlib.util, sys
import dagfusion_client
strangers = ("datafusion", "dagfusion_query", "dagster", "google", "obstore", "psycopg")
print([name for name in strangers if importlib.util.find_spec(name) is not None])
with dagfusion_client.connect(sys.argv[1]) as connection:
    result = connection.sql("select sum(n) as n from local_default.counts where date = '2024-01-02'")
    print(result.to_arrow().to_pylist())
try:
    dagfusion_client.connect("grpc://localhost:1")
except dagfusion_client.QueryError as error:
    print(error)
"""
SQL_ASSET = """
from dagfusion_pipeline import sql_asset
print(*(key.to_user_string() for key in sql_asset('a', 'SELECT * FROM b').dependency_keys))
""".strip()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_holds_its_sources_and_nothing_else(wheels: Mapping[str, Path], root: Path, package: str) -> None:
    source = root / "packages" / package.removeprefix("dagfusion_") / "src"
    written = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    expected = {name for name in written if "__pycache__" not in name}
    with zipfile.ZipFile(wheels[package]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        licences = [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    assert f"{package}/py.typed" in held
    assert held == expected
    assert len(licences) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_wheel_describes_itself_and_links_to_the_repository(
    wheels: Mapping[str, Path], root: Path, package: str
) -> None:
    with zipfile.ZipFile(wheels[package]) as wheel:
        [name] = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(wheel.read(name))
    assert metadata.get_all("Project-URL") == [
        "Source, https://host.example/owner/project",
        "Documentation, https://host.example/owner/project/tree/c0ffee/docs",
        "Changelog, https://host.example/owner/project/blob/HEAD/CHANGELOG.md",
        "Issues, https://host.example/owner/project/issues",
    ]
    readme = root / "packages" / package.removeprefix("dagfusion_") / "README.md"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload() == readme.read_text()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.13"} <= {*metadata.get_all("Classifier", [])}
    assert "file://" not in metadata.as_string()


def test_there_is_a_wheel_of_each_package_and_no_other(wheels: Mapping[str, Path]) -> None:
    assert sorted(wheels) == sorted(PACKAGES)


@pytest.fixture(scope="module")
def everything(install: Callable[..., Path], wheels: Mapping[str, Path]) -> Path:
    """All wheels; the stack asks for the extras that it needs."""
    return install(*wheels.values())


def test_the_command_shows_its_parts(everything: Path, run: Run, tmp_path: Path) -> None:
    shown = run([everything / "dagfusion", "--help"], tmp_path)
    assert [name for name in ("sql", "tables", "explain", "up", "down", "status", "demo") if name not in shown] == []


def test_the_code_location_loads(everything: Path, run: Run, tmp_path: Path) -> None:
    command = [everything / "dagster", "definitions", "validate", "-m", "dagfusion_reference.definitions"]
    home = tmp_path / "home"
    home.mkdir()
    assert "successful" in run(command, tmp_path, DAGSTER_HOME=str(home), DAGSTER_DISABLE_TELEMETRY="yes")


@pytest.fixture(scope="module")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster whose event log has a table of two partitions."""
    folder = tmp_path_factory.mktemp("dagster")
    home = folder / "home"
    home.mkdir()
    materialize_counts(home, folder / "objects")
    return home


def test_the_query_package_alone_answers_sql(
    install: Callable[..., Path], wheels: Mapping[str, Path], run: Run, dagster_home: Path, tmp_path: Path
) -> None:
    programs = install(*(wheels[name] for name in EMBEDDED))
    answer = json.loads(run([programs / "python", "-c", QUERY, dagster_home], tmp_path).splitlines()[-1])
    assert answer == {"present": [], "rows": [{"state": "CA", "n": 12}], "files": [1, 2]}

    shown = run([programs / "dagfusion", "serve"], tmp_path, code=1)
    assert "Traceback" not in shown
    assert "pip install 'dagfusion-query[server]'" in shown
    remote = "import dagfusion_query; dagfusion_query.connect('grpc://localhost:1')"
    shown = run([programs / "python", "-c", remote], tmp_path, code=1)
    assert shown.splitlines()[-1].endswith("pip install 'dagfusion-query[flight]'")


def test_the_client_needs_no_engine(
    install: Callable[..., Path], wheels: Mapping[str, Path], run: Run, dagster_home: Path, tmp_path: Path
) -> None:
    programs = install(wheels["dagfusion_contract"], wheels["dagfusion_client"])
    with served(tmp_path, "--dagster-home", str(dagster_home)) as server:
        shown = run([programs / "python", "-c", CLIENT, server.url], tmp_path).splitlines()
    missing = "a connection over Arrow Flight SQL needs protobuf, which is not installed: "
    assert shown == ["[]", "[{'n': 12}]", f"{missing}pip install 'dagfusion-client[flight]'"]


def test_the_command_line_is_an_extra_and_the_service_another(
    install: Callable[..., Path], wheels: Mapping[str, Path], run: Run, dagster_home: Path, tmp_path: Path
) -> None:
    query = f"dagfusion-query[cli] @ {wheels['dagfusion_query'].as_uri()}"
    parts = ("contract", "client", "interop", "cli")
    programs = install(*(wheels[f"dagfusion_{part}"] for part in parts), query)
    statement = "select count(*) from local_default.counts"
    shown = run([programs / "dagfusion", "sql", statement], tmp_path, DAGSTER_HOME=str(dagster_home))
    assert "6" in shown

    shown = run([programs / "dagfusion", "serve"], tmp_path, code=1)
    missing = "error: `dagfusion serve` needs dagfusion-server, which is not installed"
    assert shown == f"{missing}: pip install 'dagfusion-query[server]'\n"


def test_the_service_runs_with_its_extra_alone(
    install: Callable[..., Path], wheels: Mapping[str, Path], run: Run, tmp_path: Path
) -> None:
    query = f"dagfusion-query[server] @ {wheels['dagfusion_query'].as_uri()}"
    parts = ("contract", "client", "interop", "server", "cli")
    programs = install(*(wheels[f"dagfusion_{part}"] for part in parts), query)
    shown = run([programs / "dagfusion", "serve"], tmp_path, code=1)
    assert "there is no event log to serve" in shown  # after all that it needs is imported


def test_the_pipeline_package_works_without_the_query_package(
    install: Callable[..., Path], wheels: Mapping[str, Path], run: Run, tmp_path: Path
) -> None:
    programs = install(wheels["dagfusion_contract"], wheels["dagfusion_pipeline"])
    program = "from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager, S3ParquetIOManager"
    run([programs / "python", "-c", program], tmp_path)
    shown = run([programs / "python", "-c", SQL_ASSET], tmp_path, code=1)
    assert shown.splitlines()[-1].endswith(
        "sql_asset needs dagfusion-query, which is not installed: pip install 'dagfusion-pipeline[sql]'"
    )


def test_the_extra_of_sql_assets_is_all_that_they_need(
    install: Callable[..., Path], wheels: Mapping[str, Path], run: Run, tmp_path: Path
) -> None:
    pipeline = f"dagfusion-pipeline[sql] @ {wheels['dagfusion_pipeline'].as_uri()}"
    programs = install(*(wheels[name] for name in EMBEDDED), pipeline)
    engine = "import dagfusion_pipeline.sql_assets.engine_run"
    assert run([programs / "python", "-c", f"{SQL_ASSET}; {engine}"], tmp_path).split() == ["b"]


def materialize_counts(home: Path, objects: Path) -> None:
    """Two partitions of a table of three rows each, as a pipeline that writes to local files would log them."""
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for day in (1, 2):
            file = objects / f"state=CA/date=2024-01-0{day}/data.parquet"
            file.parent.mkdir(parents=True)
            pq.write_table(pa.table({"n": pa.array([3, 4, 5], pa.int64())}), file)
            event = dg.AssetMaterialization(
                "counts",
                partition=str(dg.MultiPartitionKey({"date": f"2024-01-0{day}", "state": "CA"})),
                metadata={"dagfusion/file": dg.JsonMetadataValue(record(file, f"2024-01-0{day}"))},
            )
            instance.report_runless_asset_event(event)


def record(file: Path, day: str) -> dict[str, Any]:
    modified = dt.datetime.fromtimestamp(file.stat().st_mtime, dt.UTC)
    return {
        "version": 1,
        "uri": f"file://{file}",
        "size_bytes": file.stat().st_size,
        "etag": None,
        "modified": modified.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "rows": 3,
        "partition": [
            {"name": "state", "type": "string", "value": "CA"},
            {"name": "date", "type": "date32[day]", "value": day},
        ],
        "schema": {"fingerprint": "0" * 16, "fields": [{"name": "n", "type": "int64", "nullable": True}]},
        "columns": {"n": {"min": 3, "max": 5, "nulls": 0}},
    }

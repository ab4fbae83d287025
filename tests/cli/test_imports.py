"""What a command imports before it answers: that is most of its time, and what decides is a list, not a clock."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http.http_door import HttpDoor
from tests.server.doors.http.serving import serving
from tests.server.fake_service import FakeService, arrow

pytestmark = pytest.mark.usefixtures("processes")

PROGRAM = """
import gc
import sys
sys.argv = ["dagfusion", *sys.argv[1:]]
from dagfusion_query.program import main
before = gc.get_stats()[2]["collections"]
try:
    main()
finally:
    print("full collections", gc.get_stats()[2]["collections"] - before, file=sys.stderr)
    print("imported", *sys.modules, file=sys.stderr)
"""
# No command that asks needs any of these; each takes longer to import than a small query.
NEVER = {
    "pandas",
    "polars",
    "pydantic",
    "rich",
    "dagster",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "adbc_driver_manager",
    "dagfusion_interop",
    "dagfusion_server",
}
ENGINE = {
    *("datafusion", "obstore", "psycopg", "sqlite3", "yaml", "asyncio", "pyarrow.dataset", "pyarrow.parquet"),
    "dagfusion_query.connection",
}


@pytest.fixture(scope="module")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("dagster_home")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    dg.DagsterInstance.from_config(str(home)).dispose()
    return home


@pytest.fixture
def door(tmp_path: Path) -> Iterator[HttpDoor]:
    with serving(FakeService(pieces=(arrow(1),)), Tokens(tmp_path / "tokens.json"), ServiceSettings()) as door:
        yield door


def imported(folder: Path, *arguments: str, **variables: str) -> set[str]:
    """Run a command to its end, and return the names of the modules that it has imported."""
    return {*errors_of(folder, *arguments, **variables).rpartition("imported ")[2].split()}


def errors_of(folder: Path, *arguments: str, **variables: str) -> str:
    """Run a command to its end, and return what it and `PROGRAM` wrote to stderr."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DAGFUSION_", "DAGSTER_"))}
    ran = subprocess.run(  # noqa: S603  # our own command
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env={**kept, "DAGFUSION_STATE_DIR": "none", **variables},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["--help"], ["sql", "-h"], ["token", "create", "-h"], ["--show-completion", "bash"]],
    ids=" ".join,
)
def test_help_needs_no_library_of_data(tmp_path: Path, arguments: list[str]) -> None:
    found = imported(tmp_path, *arguments, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1", SHELL="/bin/bash")

    assert found & (NEVER | ENGINE | {"numpy", "pyarrow", "orjson"}) == set()


@pytest.mark.parametrize("form", ["table", "json", "csv", "arrow"])
def test_a_service_is_asked_without_an_engine(tmp_path: Path, door: HttpDoor, form: str) -> None:
    found = imported(tmp_path, "sql", "SELECT 1", "--url", door.url, "--format", form)

    assert found & (NEVER | ENGINE | {"pyarrow.flight", "google.protobuf"}) == set()


def test_the_engine_is_asked_without_what_only_other_commands_need(tmp_path: Path, dagster_home: Path) -> None:
    found = imported(tmp_path, "sql", "SELECT 1", DAGSTER_HOME=str(dagster_home))

    assert "datafusion" in found
    assert found & (NEVER | {"psycopg", "pyarrow.flight", "pyarrow.parquet", "google.protobuf"}) == set()


def test_no_full_garbage_collection_delays_a_command(tmp_path: Path, dagster_home: Path) -> None:
    errors = errors_of(tmp_path, "sql", "SELECT 1", DAGSTER_HOME=str(dagster_home))

    assert "full collections 0\n" in errors


def test_a_home_without_a_configuration_needs_no_parser(tmp_path: Path, dagster_home: Path) -> None:
    shutil.copytree(dagster_home, tmp_path / "home")
    (tmp_path / "home" / "dagster.yaml").unlink()

    assert "yaml" not in imported(tmp_path, "sql", "SELECT 1", DAGSTER_HOME=str(tmp_path / "home"))


def test_a_process_that_has_pandas_keeps_it() -> None:
    code = (
        "import pyarrow as pa; from dagfusion_query.fast_start import import_without_pandas;"
        "import_without_pandas();"
        "print(pa.table({'a': [1]}).to_pandas().shape)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)  # noqa: S603

    assert ran.stdout == "(1, 1)\n"


def test_pandas_can_be_imported_after_a_command() -> None:
    code = (
        "from dagfusion_query.fast_start import import_without_pandas; import_without_pandas();"
        "import sys; assert 'pandas' not in sys.modules; import pandas; print(pandas.DataFrame({'a': [1]}).shape)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)  # noqa: S603

    assert ran.stdout == "(1, 1)\n"

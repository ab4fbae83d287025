"""`.ci/run` fails when anything that it runs fails, and only then; whatever happens, it stops the Docker daemon."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("processes")

COMMANDS = {"git": "bin", "pip": "bin", "uv": "bin", "browser.sh": ".ci", "containers.sh": ".ci"}
# Writes down how it was called, and fails when it is the command that `FAILS` names.
COMMAND = """#!/bin/sh
call="$(basename "$0") $*"
echo "$call" >>"$CALLS"
[ "$call" != "$FAILS" ]
"""
TYPES, CHECKS = "uv run tox -e types", "uv run tox -e lint,docs"
INSTALLATION, TESTS = "uv run tox -e tests --notest", "uv run tox run -e tests --skip-uv-sync"


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    for name, folder in COMMANDS.items():
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(COMMAND)
        path.chmod(0o755)
    shutil.copy(root / ".ci/run", tmp_path / ".ci/run")
    return tmp_path


def run(project: Path, fails: str = "") -> tuple[int, list[str]]:
    """Return the exit code of `.ci/run`, and the commands that it ran."""
    calls = project / "calls"
    environment = {"PATH": f"{project / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls), "FAILS": fails}
    process = subprocess.run(["bash", ".ci/run"], cwd=project, env=environment, check=False, capture_output=True)  # noqa: S607
    return process.returncode, calls.read_text().splitlines()


def test_all_passes(project: Path) -> None:
    code, calls = run(project)
    assert code == 0
    assert {TYPES, CHECKS, "containers.sh start"} < set(calls)
    assert calls.index(INSTALLATION) < calls.index(TESTS)
    assert calls[-2:] == [TESTS, "containers.sh stop"]  # nothing else runs beside the tests


@pytest.mark.parametrize(
    "fails",
    [
        "pip install --quiet uv",
        "browser.sh ",
        "containers.sh start",
        "uv sync --quiet",
        TYPES,
        CHECKS,
        INSTALLATION,
        TESTS,
    ],
)
def test_one_command_fails(project: Path, fails: str) -> None:
    code, calls = run(project, fails)
    assert code != 0
    assert (calls[-1] == "containers.sh stop") == (fails != "pip install --quiet uv")  # before the daemon is started


@pytest.mark.parametrize("check", [TYPES, CHECKS])
def test_the_tests_run_when_a_check_fails(project: Path, check: str) -> None:
    assert TESTS in run(project, check)[1]

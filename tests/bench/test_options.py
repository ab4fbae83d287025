"""`pytest --benchmark`, from the root of the repository."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.options import MODULES

pytestmark = pytest.mark.usefixtures("processes")


def run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "--benchmark", "-p", "no:cacheprovider", "--quiet", *arguments]
    # It is no worker of the run of tests that it is started from.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
    return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, check=False)  # noqa: S603  # ours


def test_it_runs_the_benchmarks_and_nothing_else(root: Path) -> None:
    done = run(root, "--days", "3", "--collect-only")
    assert (done.returncode, done.stderr) == (0, "")
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert any("test_queries" in line for line in collected)
    assert [line for line in collected if not line.startswith("benchmarks/")] == []


@pytest.mark.skipif(all(map(find_spec, MODULES)), reason="the dependency group `bench` is installed")
def test_what_is_not_installed_is_named(root: Path) -> None:
    done = run(root)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "uv sync --group bench" in done.stderr

"""`pytest --benchmark`, from the root of the repository."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.options import MODULES

pytestmark = pytest.mark.usefixtures("processes")


def run(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "--benchmark", "-p", "no:cacheprovider", "--quiet", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603  # ours


def test_it_runs_the_benchmarks_and_nothing_else(root: Path) -> None:
    done = run(root, "--days", "3", "--collect-only")
    assert done.returncode == 0, done.stdout + done.stderr
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert any("test_queries" in line for line in collected)
    assert [line for line in collected if not line.startswith("benchmarks/")] == []


@pytest.mark.skipif(all(map(find_spec, MODULES)), reason="the dependency group `bench` is installed")
def test_what_is_not_installed_is_named(root: Path) -> None:
    done = run(root)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "uv sync --group bench" in done.stderr

"""The files in the package are what the sources give."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.doors.console.conftest import need

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console's sources in a folder of their own, with what they need installed."""
    need("npm")
    folder = tmp_path_factory.mktemp("console") / "console"
    shutil.copytree(root / "packages/server/console", folder, ignore=shutil.ignore_patterns("node_modules"))
    npm(folder, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    return folder


def npm(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603, S607
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sources_give_the_files_that_the_wheel_ships(node: Path, root: Path, tmp_path: Path) -> None:
    npm(node, "run", "build", "--", f"--outDir={tmp_path}")
    shipped = contents(root / "packages/server/src/dagfusion_server/doors/console/static")
    built = contents(tmp_path)
    assert sorted(built) == sorted(shipped), "run `npm ci && npm run build` in packages/server/console and commit"
    assert [name for name in built if built[name] != shipped[name]] == []


def test_types_are_right(node: Path) -> None:
    npm(node, "run", "check")


def test_units_are_right(node: Path) -> None:
    npm(node, "test")


def test_the_lock_file_names_no_host(root: Path) -> None:
    lock = (root / "packages/server/console/package-lock.json").read_text()
    assert '"integrity": "sha512-' in lock
    assert '"resolved"' not in lock


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

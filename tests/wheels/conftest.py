"""The wheels, and fresh environments to install them in, away from the sources."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from scripts.release import add_urls, build_wheels, project_urls

URLS = project_urls("https://host.example/owner/project", "c0ffee")
Run = Callable[..., str]


@pytest.fixture(scope="session")
def run(processes: None) -> Run:  # noqa: ARG001  # it starts some
    """Run a program; gives what it printed, and fails with it if it exits with another code than `code`."""

    def run(command: Sequence[str | Path], folder: Path, *, code: int = 0, **environ: str) -> str:
        arguments = list(map(str, command))
        variables = {"PATH": str(Path(arguments[0]).parent), **environ} if environ else None
        done = subprocess.run(  # noqa: S603
            arguments,
            cwd=folder,
            env=variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == code, f"{arguments} exited with {done.returncode}:\n{done.stdout}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def release_source(run: Run, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a release of the checkout is built from, with what is not committed yet."""
    folder = tmp_path_factory.mktemp("source")
    names = run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], root).split("\0")
    for name in filter(None, names):
        if (root / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    add_urls(folder, URLS)
    return folder


@pytest.fixture(scope="session")
def wheels(release_source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each package, by the package's import name."""
    built = build_wheels(release_source, tmp_path_factory.mktemp("dist"))
    return {wheel.path.name.partition("-")[0]: wheel.path for wheel in built}


@pytest.fixture(scope="session")
def install(run: Run, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Install wheels into a fresh environment; gives its folder of programs."""

    def install(*requirements: str | Path) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        run(["uv", "venv", "--quiet", "--python", sys.executable, "venv"], folder)
        programs = folder / "venv" / "bin"
        python, pins = programs / "python", root / "constraints.txt"
        run(["uv", "pip", "install", "--quiet", "--python", python, "--constraints", pins, *requirements], folder)
        return programs

    return install

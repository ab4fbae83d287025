"""Every version is pinned, once, and the pins are what is installed and what `uv run` honours."""

import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.boundaries.layers import QUERY_SIDE

# Installed by whoever made the environment, and needed by nothing in it.
SEEDS = {"pip", "setuptools", "wheel"}


def pins(root: Path) -> list[Requirement]:
    lines = (root / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def applicable(root: Path) -> dict[str, str]:
    """The pinned version of each package on this Python and platform."""
    here = [pin for pin in pins(root) if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in here}


def projects(root: Path) -> dict[str, dict[str, Any]]:
    files = (root / "pyproject.toml", *root.glob("packages/*/pyproject.toml"))
    tables = [tomllib.loads(file.read_text()) for file in files]
    return {canonicalize_name(table["project"]["name"]): table for table in tables}


def requirements(table: dict[str, Any]) -> Iterator[Requirement]:
    """All that a pyproject.toml asks for: to run, as extras, in groups, and to build."""
    project = table["project"]
    groups = [*project.get("optional-dependencies", {}).values(), *table.get("dependency-groups", {}).values()]
    build = table.get("build-system", {}).get("requires", [])
    for text in (*project["dependencies"], *build, *(entry for group in groups for entry in group)):
        if isinstance(text, str):  # the rest includes another group
            yield Requirement(text)


def test_each_pin_is_one_exact_version(root: Path) -> None:
    inexact = [str(pin) for pin in pins(root) if [spec.operator for spec in pin.specifier] != ["=="] or pin.url]
    assert inexact == []


def test_uv_honours_the_pins_of_constraints_txt(root: Path) -> None:
    honoured = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    assert [Requirement(text) for text in honoured] == pins(root), "run scripts/pin.py"


def test_what_builds_the_packages_is_pinned_alike(root: Path) -> None:
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["uv"]["build-constraint-dependencies"]
    assert {Requirement(text) for text in build} <= set(pins(root)), "run scripts/pin.py"
    required = {Requirement(text).name for table in projects(root).values() for text in build_requires(table)}
    assert required <= {Requirement(text).name for text in build}, "run scripts/pin.py"


def build_requires(table: dict[str, Any]) -> list[str]:
    texts: list[str] = table.get("build-system", {}).get("requires", [])
    return texts


def met(wanted: Requirement, versions: dict[str, str]) -> bool:
    version = versions.get(canonicalize_name(wanted.name))
    return version is not None and version in wanted.specifier


def test_the_packages_of_the_query_side_have_one_version(root: Path) -> None:
    """They import each other's private modules, and `pip install -U` of one must not leave older ones beside it."""
    names = {canonicalize_name(name) for name in QUERY_SIDE}
    tables = {name: table for name, table in projects(root).items() if name in names}
    [version] = {table["project"]["version"] for table in tables.values()}
    asked = [wanted for table in tables.values() for wanted in requirements(table) if wanted.name in names]
    assert len(asked) > 10
    assert [str(wanted) for wanted in asked if str(wanted.specifier) != f"=={version}"] == []


def test_what_the_projects_ask_for_is_pinned(root: Path) -> None:
    tables, versions = projects(root), applicable(root)
    asked = [wanted for table in tables.values() for wanted in requirements(table)]
    outside = [wanted for wanted in asked if canonicalize_name(wanted.name) not in tables]
    assert len(outside) > 10
    unmet = {
        str(wanted): versions.get(canonicalize_name(wanted.name)) for wanted in outside if not met(wanted, versions)
    }
    assert unmet == {}, "run scripts/pin.py"


def test_what_is_installed_is_what_is_pinned(root: Path) -> None:
    own = {*projects(root), *SEEDS}
    found = {canonicalize_name(dist.metadata["Name"]): dist.version for dist in importlib.metadata.distributions()}
    wanted = applicable(root)
    strays = {name: (version, wanted.get(name)) for name, version in found.items() if wanted.get(name) != version}
    assert {name: versions for name, versions in strays.items() if name not in own} == {}


@pytest.mark.parametrize("name", ["uv.lock", "pylock.toml"])
def test_lock_files_stay_out_of_the_repository(root: Path, name: str) -> None:
    assert name in (root / ".gitignore").read_text().splitlines()

"""Every wheel has a README and the licence of the repository, and names the Pythons that it supports."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

PACKAGES = sorted(path.parent.name for path in Path(__file__).resolve().parents[2].glob("packages/*/pyproject.toml"))


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest, root: Path) -> Path:
    return root / "packages" / str(request.param)


@pytest.fixture
def project(package: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    return table


def test_the_licence_of_a_wheel_is_that_of_the_repository(root: Path, package: Path, project: dict[str, Any]) -> None:
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]
    assert (package / "LICENSE").read_text() == (root / "LICENSE").read_text()


def test_a_wheel_has_a_readme_of_its_own(package: Path, project: dict[str, Any]) -> None:
    assert project["readme"] == "README.md"
    assert (package / "README.md").read_text().startswith(f"# {project['name']}\n")


def test_a_wheel_supports_the_pythons_that_it_names(project: dict[str, Any]) -> None:
    """hatchling refuses unknown classifiers; that of a licence would repeat the SPDX name."""
    names: list[str] = project["classifiers"]
    assert "Typing :: Typed" in names
    assert [name for name in names if name.startswith("License ::")] == []
    minors = [int(name.rpartition(".")[2]) for name in names if name.startswith("Programming Language :: Python :: 3.")]
    assert project["requires-python"] == f">=3.{min(minors)},<3.{max(minors) + 1}"

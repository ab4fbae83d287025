"""One PostgreSQL, one LocalStack and one Python: compose, the end-to-end tests and CI mean the same images."""

from pathlib import Path

import pytest

from tests.e2e.services import LOCALSTACK_IMAGE, POSTGRES_IMAGE

IMAGES = {"DAGFUSION_POSTGRES_IMAGE": POSTGRES_IMAGE, "DAGFUSION_LOCALSTACK_IMAGE": LOCALSTACK_IMAGE}


@pytest.mark.parametrize("variable", IMAGES)
def test_compose_starts_the_image_that_is_tested(root: Path, variable: str) -> None:
    assert f"image: ${{{variable}:-{IMAGES[variable]}}}\n" in (root / "docker-compose.yml").read_text()


@pytest.mark.parametrize("variable", IMAGES)
def test_ci_builds_the_version_that_is_tested(root: Path, variable: str) -> None:
    name, _, version = IMAGES[variable].rpartition("/")[2].partition(":")
    image = f"dagfusion-ci/{name}:{version}"
    assert f"{variable}={image}" in (root / ".ci/run").read_text()
    assert image in (root / ".ci/containers.sh").read_text()


def test_ci_builds_the_python_of_compose(root: Path) -> None:
    default = "DAGFUSION_PYTHON_IMAGE:-python:3.13-slim"
    assert default in (root / "docker-compose.yml").read_text()
    image = "dagfusion-ci/python:3.13"
    assert f"DAGFUSION_PYTHON_IMAGE={image}" in (root / ".ci/run").read_text()
    assert image in (root / ".ci/containers.sh").read_text()

"""One PostgreSQL, one LocalStack and one Python: compose, the end-to-end tests and CI mean the same images."""

import re
from pathlib import Path

import pytest

from scripts.release import image_commands
from tests.e2e.services import LOCALSTACK_IMAGE, POSTGRES_IMAGE
from tests.requirements import closure

IMAGES = {"DAGFUSION_POSTGRES_IMAGE": POSTGRES_IMAGE, "DAGFUSION_LOCALSTACK_IMAGE": LOCALSTACK_IMAGE}


@pytest.mark.parametrize("variable", IMAGES)
def test_compose_starts_the_image_that_is_tested(root: Path, variable: str) -> None:
    assert f"image: ${{{variable}:-{IMAGES[variable]}}}\n" in (root / "docker-compose.yml").read_text()


@pytest.mark.parametrize("variable", IMAGES)
def test_ci_builds_the_version_that_is_tested(root: Path, variable: str) -> None:
    """Debian's packages have the major version of PostgreSQL with the fixes of the day."""
    name, _, version = IMAGES[variable].rpartition("/")[2].partition(":")
    image = f"dagfusion-ci/{name}:{version.partition('.')[0] if name == 'postgres' else version}"
    assert f"{variable}={image}" in (root / ".ci/run").read_text()
    assert image in (root / ".ci/containers.sh").read_text()


def test_ci_builds_the_python_of_compose(root: Path) -> None:
    default = "DAGFUSION_PYTHON_IMAGE:-python:3.13.18-slim"
    assert default in (root / "docker-compose.yml").read_text()
    image = "dagfusion-ci/python:3.13"
    assert f"DAGFUSION_PYTHON_IMAGE={image}" in (root / ".ci/run").read_text()
    assert image in (root / ".ci/containers.sh").read_text()


def test_the_query_image_has_what_its_extras_need(root: Path) -> None:
    [extras] = re.findall(r"^ARG EXTRAS=(.+)$", (root / "deploy/query.Dockerfile").read_text(), re.MULTILINE)
    installed = closure("dagfusion-query", extras.split(","))
    assert {
        "boto3",
        "grpcio",
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-sdk",
        "uvicorn",
    } <= installed.keys()
    assert [name for name in installed if name.startswith(("dagster", "polars", "pandas"))] == []


def test_a_release_builds_each_dockerfile_by_its_own_arguments(root: Path) -> None:
    commands = image_commands("dagfusion", "0" * 40)
    built = {option.removeprefix("--file=") for command in commands for option in command if "--file=" in option}
    assert built == {str(path.relative_to(root)) for path in (root / "deploy").glob("*Dockerfile")}
    for command in commands:
        [dockerfile] = (option.removeprefix("--file=") for option in command if option.startswith("--file="))
        declared = re.findall(r"^ARG (\w+)", (root / dockerfile).read_text(), re.MULTILINE)
        given = [option.split("=")[1] for option in command if option.startswith("--build-arg=")]
        assert [name for name in given if name not in declared] == []


def test_a_release_has_the_images_that_are_deployed(root: Path) -> None:
    commands = image_commands("dagfusion", "0" * 40, push=True)
    tags = [option.removeprefix("--tag=") for command in commands for option in command if "--tag=" in option]
    assert [command[-1] for command in commands if command[1] == "push"] == tags
    names = {tag.partition(":")[0] for tag in tags}
    assert set(re.findall(r"image: (dagfusion/\S+)", (root / "docker-compose.yml").read_text())) <= names
    for values in ("dagfusion-query/values.yaml", "dagster-values.yaml"):
        text = (root / "deploy/helm" / values).read_text()
        named = {f"dagfusion/{name}" for name in re.findall(r"repository: \w+/([\w-]+)", text)}
        assert named
        assert named <= names

"""`docker compose up --wait` from nothing, runs launched as the UI does, and the documented queries at the service.

It builds two images and starts six containers, so CI runs it for a quarter of the commits (tests/sampling.py).
"""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import dagfusion_query
from dagfusion_reference.defs.states import CODES
from dagfusion_stack import answers, lake, materialize
from dagfusion_stack.cli import LEAST_DAYS
from dagfusion_stack.documented_queries import QUERIES, DocumentedQuery
from tests.deploy.composed import Project, project
from tests.e2e.services import Containers

pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.usefixtures("processes")]


@pytest.fixture(scope="module")
def composed(root: Path, processes: None) -> Iterator[Project]:  # noqa: ARG001  # it starts some
    if (reason := missing()) is not None:
        if os.environ.get("DAGFUSION_REQUIRE_CONTAINERS"):
            pytest.fail(f"{reason}, and DAGFUSION_REQUIRE_CONTAINERS asks for it")
        pytest.skip(reason)
    with project(root) as started:
        yield started


def missing() -> str | None:
    """Return what `docker compose` lacks here."""
    if (reason := Containers().missing()) is not None:
        return reason
    found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)  # noqa: S607
    return None if found.returncode == 0 else "docker has no Compose"


@pytest.fixture(scope="module")
def filled(composed: Project) -> Project:
    """Five days of all states, which the documented queries ask for: a run for all assets with the same partitions."""
    runs = materialize.plan({}, materialize.Extent(LEAST_DAYS, len(CODES)))
    for tags in {tuple(run.tags().items()): run.tags() for run in runs}.values():
        composed.materialize([materialize.ASSETS[run.table] for run in runs if run.tags() == tags], tags)
    return composed


@pytest.fixture(scope="module")
def stored(filled: Project) -> Mapping[str, lake.StoredTable]:
    variables = {
        "S3_BUCKET": "dagster-parquet-data",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{filled.ports['LOCALSTACK']}",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "dagfusion",
        "AWS_SECRET_ACCESS_KEY": "dagfusion",
    }
    keys = {table: "/".join(key) for table, key in materialize.ASSETS.items()}
    return lake.read(variables, keys, lambda _count: None)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_the_service_answers_the_documented_queries(
    filled: Project, stored: Mapping[str, lake.StoredTable], query: DocumentedQuery
) -> None:
    rows = {table: content.rows for table, content in stored.items()}
    with dagfusion_query.connect(f"http://127.0.0.1:{filled.ports['HTTP']}") as connection:
        given = connection.sql(query.sql).to_polars().rows()
    expected = query.answer(rows).rows()
    assert len(expected) > 0
    assert answers.difference(given, expected) is None


def test_flight_answers_too(filled: Project) -> None:
    with dagfusion_query.connect(f"grpc://127.0.0.1:{filled.ports['FLIGHT']}") as connection:
        [[count]] = connection.sql("SELECT count(*) FROM local_silver_commerce.partitioned_orders").to_polars().rows()
    assert count > 0


def test_every_container_is_healthy(composed: Project) -> None:
    lines = composed.compose("ps", "--all", "--format", "json").splitlines()
    states = {one["Service"]: (one["State"], one["Health"]) for one in map(json.loads, lines)}
    assert set(states.values()) == {("running", "healthy")}
    assert set(states) == {"postgres", "s3", "code-location", "webserver", "daemon", "query"}


@pytest.mark.parametrize("service", ["postgres", "code-location", "webserver", "daemon", "query"])
def test_a_container_runs_as_an_ordinary_user_who_cannot_change_its_image(composed: Project, service: str) -> None:
    script = "id -u; touch /opt/x /usr/bin/x /etc/x 2>/dev/null && echo written; grep CapEff /proc/self/status"
    user, capabilities = composed.compose("exec", "-T", service, "sh", "-c", script).splitlines()
    assert int(user) > 0
    assert int(capabilities.split()[1], 16) == 0


@pytest.mark.parametrize("command", ["consolidate", "erase", "repair", "wipe"])
def test_the_image_of_runs_has_the_commands_that_change_tables(composed: Project, command: str) -> None:
    assert f"dagfusion {command}" in composed.compose("exec", "-T", "code-location", "dagfusion", command, "--help")


def test_the_image_of_the_service_has_no_dagster(composed: Project) -> None:
    script = "import importlib.util as u; print([n for n in ('dagster', 'polars', 'pandas') if u.find_spec(n)])"
    assert composed.compose("exec", "-T", "query", "python", "-c", script).strip() == "[]"

"""docker-compose.yml starts a query service that exists, over the database and the store that Dagster writes to."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.testing import CliRunner

from dagfusion_cli.main import app
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.config import Config
from dagfusion_server import service_process
from dagfusion_server.doors.address import Address
from dagfusion_server.doors.exposure import check_exposure
from dagfusion_server.doors.http.openapi import describe

STATE = "/var/lib/dagfusion/state"  # of the image
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


@pytest.fixture(scope="module")
def services(root: Path) -> Mapping[str, Any]:
    text = DEFAULT.sub(r"\1", (root / "docker-compose.yml").read_text())
    services: Mapping[str, Any] = yaml.safe_load(text)["services"]
    return services


@pytest.fixture
def config(services: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Config:
    """What the service's command makes of its arguments and variables."""
    told: list[Config] = []
    monkeypatch.setattr(service_process, "serve", lambda config, _announce: told.append(config))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("DAGFUSION_", "DAGSTER_", "AWS_"))]:
        monkeypatch.delenv(name)
    program, *arguments = services["query"]["command"]
    variables = {**services["query"]["environment"], "DAGFUSION_STATE_DIR": STATE}
    result = CliRunner().invoke(app, arguments, env=variables)
    assert (program, result.exit_code) == ("dagfusion", 0), result.output
    [config] = told
    return config


def test_the_ports_are_those_that_the_service_listens_on(services: Mapping[str, Any], config: Config) -> None:
    addresses = [Address.parse(a, "") for a in (config.service.http_address, config.service.flight_address)]
    published = [port.split(":") for port in services["query"]["ports"]]
    assert [address.port for address in addresses] == [int(inner) for _, _, inner in published]
    assert {host for host, _, _ in published} == {"127.0.0.1"}
    assert not any(address.is_loopback for address in addresses)


def test_nothing_keeps_the_service_from_starting(
    root: Path, services: Mapping[str, Any], config: Config, tmp_path: Path
) -> None:
    check_exposure(config.service, Tokens(tmp_path / "tokens.json"))
    volume = next(one for one in services["query"]["volumes"] if one.startswith("query:"))
    assert str(config.state_dir.parent) == volume.split(":")[1]
    dockerfile = (root / "deploy" / "query.Dockerfile").read_text()
    assert f"DAGFUSION_STATE_DIR={STATE}\n" in dockerfile
    assert f"install -d -m 700 -o dagfusion -g dagfusion {config.state_dir.parent}\n" in dockerfile


def test_events_link_to_what_the_host_can_open(services: Mapping[str, Any]) -> None:
    links = services["code-location"]["environment"]
    [console, _] = services["query"]["ports"]
    [store] = services["s3"]["ports"]
    assert links["DAGFUSION_CONSOLE_URL"] == f"http://localhost:{console.split(':')[1]}"
    assert links["DAGFUSION_OBJECT_URL"] == f"http://localhost:{store.split(':')[1]}/{{bucket}}/{{key}}"


def test_the_service_reads_what_dagster_writes(services: Mapping[str, Any], config: Config) -> None:
    dagster = services["daemon"]["environment"]
    [environment] = config.environments
    assert environment.name == dagster["ENVIRONMENT"]
    assert environment.settings.event_log == dagster["DAGSTER_POSTGRES_URL"].replace("+psycopg2", "")
    for name in ("endpoint_url", "region", "access_key_id", "secret_access_key"):
        assert getattr(environment.settings, name) == dagster[f"AWS_{name.upper()}"]
    [web] = services["webserver"]["ports"]
    assert environment.own.dagster_url == f"http://localhost:{web.split(':')[1]}"


def test_health_is_asked_where_it_is_told(services: Mapping[str, Any], config: Config) -> None:
    port, path = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", services["query"]["healthcheck"]["test"][-1])[0]
    assert int(port) == Address.parse(config.service.http_address, "").port
    assert path in describe("1")["paths"]


IMAGES = {
    "Dockerfile": {
        "./packages/contract",
        "./packages/pipeline",
        "./packages/client",
        '"./packages/query[cli]"',
        "./packages/interop",
        "./packages/cli",
        "./packages/reference",
        "dagster-aws",
        "dagster-postgres",
        "dagster-webserver",
    },
    "query.Dockerfile": {
        "./packages/contract",
        "./packages/client",
        '"./packages/query[${EXTRAS}]"',
        "./packages/interop",
        "./packages/server",
        "./packages/cli",
    },
    "sail.Dockerfile": {"pysail", "deploy/sail-entry.sh"},
}


@pytest.mark.parametrize("name", IMAGES)
def test_the_images_have_the_packages_and_files_that_they_are_asked_for(root: Path, name: str) -> None:
    dockerfile = (root / "deploy" / name).read_text()
    assert IMAGES[name] <= set(dockerfile.split())
    text = dockerfile.replace("${INSTANCE}", "deploy/dagster.yaml")
    copies = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY") and "--from" not in line]
    copied = [path for paths in copies for path in paths]
    assert [path for path in copied if not (root / path).exists()] == []
    assert {path for path in copied if path.startswith("packages/")} == set(re.findall(r"\./(packages/\w+)", text))
    kept = {line[1:] for line in (root / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {path.split("/")[0] for path in copied} <= kept


def test_each_program_is_in_the_image_that_runs_it(services: Mapping[str, Any]) -> None:
    programs = {name: service["command"][0] for name, service in services.items() if "build" in service}
    assert programs == {
        "code-location": "dagster",
        "webserver": "dagster-webserver",
        "daemon": "dagster-daemon",
        "query": "dagfusion",
        "sail": "sail",
    }

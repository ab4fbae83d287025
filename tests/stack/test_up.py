"""`dagfusion up`, `status` and `down`: Dagster over the reference code location, and one clear line when it cannot."""

import json
import os
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from dagfusion_stack import dagster, ports, process, query_service
from tests.stack.conftest import Command

SERVICES = ["PostgreSQL", "S3 server", "query service", "code location", "Dagster webserver", "Dagster daemon"]

pytestmark = pytest.mark.slow


def test_the_stack_runs_in_the_background_until_it_is_stopped(command: Command) -> None:
    started = command.run("up", "-d")
    assert started.returncode == 0, started.stderr
    assert f"http://localhost:{command.dagster_port}" in started.stdout
    status = json.loads(command.run("status", "--json").stdout)
    assert [service["name"] for service in status["services"]] == SERVICES
    assert all(service["running"] for service in status["services"])
    assert (status["running"], status["ready"], status["command"]) == (True, True, "up -d")

    answer = graphql(command.dagster_port, "{assetNodes {assetKey {path}}}")
    keys = {node["assetKey"]["path"][-1] for node in answer["data"]["assetNodes"]}
    assert {"raw_orders", "partitioned_orders", "daily_sales_aggregates"} <= keys
    listening = [
        connection.laddr
        for one in process.marked(command.home.path)
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {ports.LOOPBACK}  # gRPC maps it into IPv6

    again = command.run("up")
    assert again.returncode == 1
    assert f"is running already (`dagfusion up -d`, process {status['pid']})" in again.stderr

    os.kill(status["pid"], signal.SIGKILL)
    ended = command.run("down")
    assert all(name in ended.stdout for name in SERVICES)
    assert process.marked(command.home.path) == {}
    assert command.run("status").returncode == 3


@pytest.mark.usefixtures("long")
def test_services_that_die_are_started_again_and_the_ports_stay(command: Command) -> None:
    assert command.run("up", "-d").returncode == 0
    victims = {dagster.DAEMON, query_service.NAME}
    before = json.loads(command.run("status", "--json").stdout)["services"]
    for victim, service in process.marked(command.home.path).items():
        if service in victims:
            victim.kill()
    deadline = time.monotonic() + 120
    while _restarted(after := json.loads(command.run("status", "--json").stdout)["services"]) < victims:
        assert time.monotonic() < deadline
        time.sleep(1)
    assert _restarted(after) == victims
    assert [service["url"] for service in after] == [service["url"] for service in before]
    assert command.run("down").returncode == 0

    kept = command.with_variables(DAGFUSION_DAGSTER_PORT="", DAGFUSION_HTTP_PORT="", DAGFUSION_FLIGHT_PORT="")
    again = kept.run("up", "-d")
    assert again.returncode == 0, again.stderr
    restarted = json.loads(command.run("status", "--json").stdout)["services"]
    assert [service["url"] for service in restarted] == [service["url"] for service in before]


def _restarted(services: list[dict[str, Any]]) -> set[str]:
    return {service["name"] for service in services if service["restarts"]}


@pytest.mark.parametrize("arguments", [["up"], ["up", "-d"]])
def test_a_busy_port_is_one_line_before_anything_starts(command: Command, arguments: list[str]) -> None:
    with socket.create_server((ports.LOOPBACK, command.dagster_port)):
        result = command.run(*arguments)
    assert result.returncode == 1
    assert result.stderr == (
        f"error: port {command.dagster_port} for the Dagster webserver is busy: stop what listens there, "
        "or choose another with --dagster-port\n"
    )
    assert not command.home.postgres.exists()


def test_a_bucket_that_cannot_be_is_one_line(command: Command) -> None:
    wrong = command.with_variables(S3_BUCKET="Not A Bucket")
    result = wrong.run("up", "-d")
    assert result.returncode == 1
    assert result.stderr.startswith("error: S3_BUCKET must be a bucket name")
    assert result.stderr.count("\n") == 1


def test_a_home_that_cannot_be_is_one_line(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrong = command.with_variables(DAGFUSION_HOME=str(tmp_path / "file"))
    for arguments in (["up"], ["up", "-d"]):
        result = wrong.run(*arguments)
        assert result.returncode == 1
        assert result.stderr.startswith(f"error: the state folder {tmp_path / 'file'} cannot be used: File exists")
        assert result.stderr.count("\n") == 1


def graphql(port: int, query: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
        answer: dict[str, Any] = json.load(response)
    return answer

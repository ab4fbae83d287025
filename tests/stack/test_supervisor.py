"""A supervisor leaves nothing behind, or what the next command finds; with the stores only, for the time."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_stack import object_store, postgres, process, status
from dagfusion_stack.errors import AlreadyRunningError
from dagfusion_stack.home import Home
from dagfusion_stack.restarts import Restarts
from dagfusion_stack.settings import Settings
from dagfusion_stack.supervisor import child_environ, down, end_servers, supervise
from tests.stack.conftest import Command

STORES = {postgres.NAME, object_store.NAME}
SUPERVISE = """
import sys
from pathlib import Path
from dagfusion_stack.restarts import Restarts
from dagfusion_stack.settings import Settings
from dagfusion_stack.restarts import Restarts
from dagfusion_stack.supervisor import supervise
Restarts.LIMIT = int(sys.argv[2])
with supervise(Settings(Path(sys.argv[1])), "up", lambda line: None) as stack:
    stack.start_stores()
    print("started", flush=True)
    stack.watch()
"""


def start(home: Home, restarts: int = Restarts.LIMIT) -> subprocess.Popen[str]:
    supervisor = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", SUPERVISE, str(home.path), str(restarts)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "started\n"
    return supervisor


def finish(supervisor: subprocess.Popen[str]) -> str:
    _, error = supervisor.communicate(timeout=60)
    return error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(command: Command, number: signal.Signals) -> None:
    supervisor = start(command.home)
    assert set(process.marked(command.home.path).values()) == STORES
    supervisor.send_signal(number)
    assert "KeyboardInterrupt" in finish(supervisor)
    assert process.marked(command.home.path) == {}
    assert "database system is shut down" in (command.home.logs / "postgres.log").read_text()


def test_what_a_killed_supervisor_left_is_shown_and_ended_by_down(command: Command) -> None:
    supervisor = start(command.home)
    supervisor.kill()
    finish(supervisor)
    left = set(process.marked(command.home.path))
    shown = command.run("status")
    assert shown.returncode == 3
    assert "Left by a killed supervisor: PostgreSQL, S3 server; `dagfusion down` ends it." in shown.stdout
    ended = command.run("down")
    assert (ended.returncode, ended.stdout) == (0, "Stopped: PostgreSQL, S3 server\n")
    assert not any(old.is_running() and old.status() != psutil.STATUS_ZOMBIE for old in left)
    assert "Nothing runs in" in command.run("down").stdout


def test_what_a_killed_supervisor_left_is_ended_by_the_next_start(command: Command) -> None:
    supervisor = start(command.home)
    supervisor.kill()
    finish(supervisor)
    left = set(process.marked(command.home.path))
    said: list[str] = []
    with supervise(Settings(command.home.path), "up", said.append) as stack:
        stack.start_stores()
        assert not left & set(process.marked(command.home.path))
        assert "ready to accept connections" in (command.home.logs / "postgres.log.1").read_text()
    assert said[0] == "Ended what was left of an earlier start: PostgreSQL, S3 server"


@pytest.mark.parametrize("name", sorted(STORES))
def test_a_service_that_dies_too_often_is_named_and_the_rest_is_stopped(command: Command, name: str) -> None:
    supervisor = start(command.home, restarts=0)
    kill(command.home, name)
    said = finish(supervisor)
    assert f"ServerError: {name} ended (killed by SIGKILL): " in said
    assert "it ended more than 0 times in 10 minutes, so the stack stops" in said
    assert supervisor.returncode == 1
    assert process.marked(command.home.path) == {}
    shown = command.run("status")
    assert shown.returncode == 3
    assert f"is not running.\nIt stopped with an error: {name} ended (killed by SIGKILL): " in shown.stdout
    with command.home.hold("up"):
        pass
    assert status.read(command.home).error is None


@pytest.mark.parametrize("name", sorted(STORES))
def test_a_service_that_dies_is_started_again_where_it_was(command: Command, name: str) -> None:
    supervisor = start(command.home)
    variables = command.home.read_env()
    kill(command.home, name)
    deadline = time.monotonic() + 60
    while (found := service_of(command.home, name)).restarts == 0:
        assert supervisor.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found.running
    assert command.home.read_env() == variables
    assert set(process.marked(command.home.path).values()) == STORES
    assert "killed by SIGKILL" in str(found.last_end)
    assert re.search(
        rf"{name} .*\n    started again once; {name} ended \(killed by SIGKILL\)", command.run("status").stdout
    )
    supervisor.terminate()
    finish(supervisor)
    assert process.marked(command.home.path) == {}


def kill(home: Home, name: str) -> None:
    [victim] = [one for one, service in process.marked(home.path).items() if service == name]
    victim.kill()


def service_of(home: Home, name: str) -> status.ServerStatus:
    return next(service for service in status.read(home).services if service.name == name)


@given(st.lists(st.floats(0, 900), min_size=1, max_size=40))
def test_restarts_are_bounded_in_any_ten_minutes(pauses: list[float]) -> None:
    restarts, now, ends = Restarts(), 0.0, []
    for pause in pauses:
        now += pause
        ends.append(now)
        if not restarts.ended(now, "it ended"):
            assert len([end for end in ends if now - end < Restarts.WINDOW_S]) > Restarts.LIMIT
            return
        assert len([end for end in ends if now - end < Restarts.WINDOW_S]) <= Restarts.LIMIT
        assert restarts.due is not None
        assert now < restarts.due <= now + 8
        now = restarts.due
        restarts.started()
    assert restarts.count == len(pauses)


@pytest.mark.usefixtures("processes")
def test_two_homes_run_side_by_side_and_end_apart(tmp_path: Path) -> None:
    one, other = Settings(tmp_path / "one"), Settings(tmp_path / "one more")
    with (
        supervise(one, "up", lambda _: None) as first,
        supervise(other, "up", lambda _: None) as second,
    ):
        variables = first.start_stores(), second.start_stores()
        assert variables[0]["AWS_ENDPOINT_URL"] != variables[1]["AWS_ENDPOINT_URL"]
        assert set(end_servers(Home(one.home))) == STORES
        assert set(process.marked(other.home).values()) == STORES


def test_one_home_runs_once(command: Command) -> None:
    supervisor = start(command.home)
    second = supervise(Settings(command.home.path), "demo", lambda _: None)
    with pytest.raises(AlreadyRunningError, match=rf"`dagfusion up`, process {supervisor.pid}\): stop it with"):
        second.__enter__()
    said: list[str] = []
    assert set(down(command.home, said.append)) == STORES
    assert said == [f"Stopping `dagfusion up` (process {supervisor.pid})"]
    finish(supervisor)


def test_processes_are_found_after_their_folder_is_gone(command: Command) -> None:
    supervisor = start(command.home)
    supervisor.kill()
    finish(supervisor)
    command.home.path.rename(command.home.path.with_name("moved"))
    assert set(down(command.home, lambda _: None)) == STORES


def test_a_start_that_is_interrupted_leaves_nothing(command: Command) -> None:
    starting = command.start("up")
    while not process.marked(command.home.path):
        time.sleep(0.01)
    starting.send_signal(signal.SIGINT)
    _, error = starting.communicate(timeout=60)
    assert error.endswith("Interrupted\n")
    assert starting.returncode == 130
    assert process.marked(command.home.path) == {}


def test_services_see_the_stacks_settings_and_no_proxy() -> None:
    shell = {
        "PATH": "/bin",
        "AWS_PROFILE": "prod",
        "S3_BUCKET": "mine",
        "S3_PREFIX": "mine",
        "ENVIRONMENT": "prod",
        "DAGSTER_HOME": "/mine",
        "no_proxy": "example.com",
    }
    direct = "example.com,localhost,127.0.0.1"
    assert child_environ(shell, {"S3_BUCKET": "stack"}) == {
        "PATH": "/bin",
        "S3_BUCKET": "stack",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }

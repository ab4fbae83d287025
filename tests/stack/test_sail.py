"""`dagfusion up --distributed`: the Sail server of the stack, its token, and what is said where it is not installed."""

import json
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest

from dagfusion_query.access.authentication import Tokens
from dagfusion_stack import ports, process, sail
from dagfusion_stack.errors import MissingExtraError, ServerError
from dagfusion_stack.home import Home
from dagfusion_stack.settings import Settings
from dagfusion_stack.supervisor import Supervisor
from tests.stack.conftest import Command

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
SQL = "SELECT sum(quantity) AS n FROM local_silver_commerce.partitioned_orders WHERE state = 'AL'"


@pytest.mark.parametrize(("module", "library"), [("grpc", "grpcio"), ("pysail", "pysail")])
def test_the_extra_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    stack = Supervisor(Settings(tmp_path), "up", lambda _: None)
    wanted = rf"needs {library}, which is not installed: pip install 'dagfusion-stack\[distributed\]', or in a checkout"
    with pytest.raises(MissingExtraError, match=wanted):
        stack.start_all(distributed=True)
    assert [*tmp_path.iterdir()] == []


def test_a_token_is_kept_until_it_is_revoked(tmp_path: Path) -> None:
    home, tokens = Home(tmp_path), Tokens(tmp_path / "tokens.json")
    secret = sail.token(home, tokens.path)
    assert sail.token(home, tokens.path) == secret
    assert not tokens.exist(), "it ends the access without a token"
    assert (tmp_path / "sail-token").stat().st_mode & 0o077 == 0
    tokens.revoke(tokens.authenticate(secret).name)
    other = sail.token(home, tokens.path)
    assert tokens.authenticate(other).grants == ("*",)
    (tmp_path / "sail-token").unlink()
    assert sail.token(home, tokens.path) not in (secret, other)
    assert [token.revoked is None for token in tokens.list()] == [False, False, True]


def test_stacks_with_one_file_of_tokens_have_tokens_of_their_own(tmp_path: Path) -> None:
    homes, tokens = [Home(tmp_path / name) for name in "ab"], Tokens(tmp_path / "tokens.json")
    for home in homes:
        home.path.mkdir()
    secrets = [sail.token(home, tokens.path) for home in homes]
    assert len({tokens.authenticate(secret).name for secret in secrets}) == 2


def test_a_file_of_tokens_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(ServerError, match=r"the Sail server has no token: .*tokens\.json is damaged"):
        sail.token(Home(tmp_path), tmp_path / "tokens.json")


@pytest.mark.usefixtures("processes")
def test_another_port_is_chosen_if_the_first_is_lost(tmp_path: Path) -> None:
    others: list[socket.socket] = []

    def launch(port: int) -> process.Child:
        if others:
            command = [sys.executable, "-c", LISTEN, str(port)]
        else:
            others.append(socket.create_server((ports.LOOPBACK, port)))
            command = [sys.executable, "-c", "raise SystemExit('the port is in use')"]
        return process.start("Sail server", command, mark=tmp_path, log=tmp_path / "log", environ={})

    try:
        child, port = sail.start(launch)
        assert port != others[0].getsockname()[1]
        child.stop()
    finally:
        others[0].close()


@pytest.mark.slow
@pytest.mark.usefixtures("long")
def test_the_stack_runs_statements_on_its_sail_server(command: Command) -> None:
    started = command.run("up", "-d", "--distributed")
    assert started.returncode == 0, started.stderr
    seeded = command.run("seed", "--days", "2", "--states", "2")
    assert seeded.returncode == 0, seeded.stderr
    status = json.loads(command.run("status", "--json").stdout)["services"]
    [server] = [one for one in status if one["name"] == sail.NAME]
    assert server["url"].startswith("sc://127.0.0.1:")
    assert Path(server["log"]).name == "sail.log"

    expected = rows(command, "local")
    assert rows(command, "spark") == expected
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(server["pid"]).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {ports.LOOPBACK}

    psutil.Process(server["pid"]).kill()
    deadline = time.monotonic() + 120
    while not [one for one in marked(command) if one.pid != server["pid"] and listens(one, server["url"])]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert rows(command, "spark") == expected
    assert sail.NAME in command.run("down").stdout
    assert marked(command) == []


def rows(command: Command, engine: str) -> object:
    done = command.run("sql", "--engine", engine, "--format", "json", SQL)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def marked(command: Command) -> list[psutil.Process]:
    return [one for one, server in process.marked(command.home.path).items() if server == sail.NAME]


def listens(one: psutil.Process, url: str) -> bool:
    port = int(url.rpartition(":")[2])
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in one.net_connections("inet"))

"""The command line asks a service as it asks the embedded engine; tokens are made, listed and revoked by it."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.processes.process import START_S, Server, command, environ, run, served
from tests.waiting import eventually

TABLE = "local_silver_tax_id.orgs"
COST = re.compile(r"[\d.,]+ ([kM]?B|ms)")
FOLDER = re.compile(r"(?:file:///|(?<![\w/]))(?:[\w.-]+/)+(?=orgs-\w+\.parquet)")  # a service does not say where it is

LOCATION = re.compile(r"  location +file:///\S+\n")
JSON_LOCATION = re.compile(r'"location":"file:///[^"]*"')


@pytest.fixture(scope="module")
def server(dagster_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("served"), "--dagster-home", str(dagster_home)) as server:
        yield server


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tables", "--url", "http://127.0.0.1:1"], 1, "the query service at http://127.0.0.1:1 does not answer"),
        (["serve", "--dagster-home", "/no/such/home"], 2, "there is none at /no/such/home"),
        (["tables", "--url", "ftp://x"], 2, "must be a URL that begins with http://, https://"),
        (["tables", "--url", "http://x", "--event-log", "y"], 2, "not both"),
        (["tables", "--url", "http://x", "-e", "uat"], 1, "a service has its own environments"),
        (["tables", "--token", "x", "--event-log", "y"], 2, "not both"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    outcome = run(tmp_path, *arguments)

    assert outcome.returncode == code
    assert said in " ".join(outcome.stderr.split())
    assert "Traceback" not in outcome.stderr


def test_a_wrong_token(server: Server, tmp_path: Path) -> None:
    outcome = run(tmp_path, "tables", "--url", server.url, variables={"DAGFUSION_TOKEN": "dft_wrong"})

    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("error: the access token is not one of this service")


def test_an_interrupt_cancels_the_query(server: Server, tmp_path: Path) -> None:
    sql = f"SELECT count(*) FROM {TABLE} a, {TABLE} b, {TABLE} c WHERE (a.id * b.id + c.id) % 7 = 3"
    process = subprocess.Popen(  # noqa: S603  # our own command
        command("sql", sql, "--url", server.url), cwd=tmp_path, env=environ(tmp_path, {}), stderr=subprocess.PIPE
    )
    with process, server.client() as client, ending(process):

        def asked() -> dict[str, Any]:
            queries = client.get("/v1/queries").json()["queries"]
            return next((query for query in queries if query["sql"] == sql), {})

        assert eventually(lambda: bool(asked()))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=START_S)
        assert eventually(lambda: asked()["state"] not in {"queued", "running", "streaming"})
        query = asked()

    assert process.returncode != 0
    assert query["state"] == "cancelled"


def test_a_token_is_shown_once(tmp_path: Path) -> None:
    made = run(tmp_path, "token", "create", "ann", "--grant", "uat", "--grant", "prod_silver.*", "--expires", "never")

    assert made.returncode == 0
    assert "\nit may read: environment uat, schema prod_silver\n" in made.stderr
    secret = made.stdout.strip()
    assert re.fullmatch(r"dft_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", secret)
    listed = run(tmp_path, "token", "list").stdout.splitlines()
    assert listed[0].split() == ["NAME", "ID", "STATE", "EXPIRES", "GRANTS"]
    assert listed[1].split() == ["ann", secret.split("_")[1], "active", "never", "prod_silver.*", "uat"]
    assert secret not in "\n".join(listed)
    assert secret not in (tmp_path / "state" / "tokens.json").read_text()


def test_tokens_lie_where_the_settings_say(tmp_path: Path) -> None:
    (tmp_path / "dagfusion.toml").write_text('[service]\ntokens = "access.json"\n')

    assert run(tmp_path, "token", "create", "ann", "--grant", "*").returncode == 0

    assert [token["name"] for token in json.loads((tmp_path / "access.json").read_text())["tokens"]] == ["ann"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["create", "ann"], 2, "--grant"),
        (["create", "a b", "--grant", "*"], 1, "a token's name must be"),
        (["create", "ann", "--grant", "a.b.c"], 1, "grants must be tables"),
        (["create", "ann", "--grant", "*", "--expires", "soon"], 1, "--expires must be a number of days"),
        (["create", "ann", "--grant", "*", "--expires", "0d"], 1, "--expires must be"),
        (["revoke", "nobody"], 1, "there is no active token 'nobody'"),
    ],
)
def test_what_is_wrong_with_a_token(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    outcome = run(tmp_path, "token", *arguments)

    assert (outcome.returncode, outcome.stdout) == (code, "")
    assert said in outcome.stderr


LONG = f"SELECT a.id FROM {TABLE} a, {TABLE} b, {TABLE} c"
SLOW = f"SELECT count(*) FROM {TABLE} a, {TABLE} b, {TABLE} c WHERE (a.id * b.id + c.id) % 7 = 3"


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv", "arrow", "parquet"])
def test_a_pipe_that_is_closed_is_no_error(dagster_home: Path, tmp_path: Path, form: str) -> None:
    query = f"SELECT random() AS id FROM {TABLE} a, {TABLE} b LIMIT 200000"  # more than a pipe holds
    asked = subprocess.Popen(  # noqa: S603  # our own command
        command("sql", query, "-F", form, "--max-rows", "0"),
        env=environ(tmp_path, {"DAGSTER_HOME": str(dagster_home)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with asked, ending(asked):
        assert asked.stdout is not None
        assert asked.stderr is not None
        asked.stdout.read(1)
        asked.stdout.close()

        assert asked.stderr.read() == b""
        assert asked.wait(START_S) == 1


@pytest.mark.parametrize("after_s", [0, 0.3, 0.6, 0.9])
def test_an_interrupt_is_heeded_while_the_command_imports_and_connects(
    dagster_home: Path, tmp_path: Path, after_s: float
) -> None:
    asking = subprocess.Popen(  # noqa: S603  # our own command
        command("sql", SLOW, "-o", "x.csv"),
        cwd=tmp_path,
        env=environ(tmp_path, {"DAGSTER_HOME": str(dagster_home)}),
        stderr=subprocess.PIPE,
        text=True,
    )
    with asking, ending(asking):
        assert eventually(lambda: bool(list(tmp_path.glob(".x.csv.*"))))
        time.sleep(after_s)
        asking.send_signal(signal.SIGINT)
        _, said = asking.communicate(timeout=START_S)

    assert (asking.returncode, said) == (130, "Interrupted\n")
    assert not list(tmp_path.glob("*x.csv*"))


@pytest.mark.parametrize("where", ["embedded", "http", "flight"])
@pytest.mark.parametrize("query", [LONG, SLOW], ids=["rows", "no rows"])
def test_an_interrupt_cancels(server: Server, dagster_home: Path, tmp_path: Path, where: str, query: str) -> None:
    url = {"http": server.url, "flight": server.flight_url}.get(where)
    asking = subprocess.Popen(  # noqa: S603  # likewise
        command("sql", query, "-o", "x.csv"),
        cwd=tmp_path,
        env=environ(tmp_path, {"DAGSTER_HOME": str(dagster_home)} if url is None else {"DAGFUSION_URL": url}),
        stderr=subprocess.PIPE,
        text=True,
    )
    with asking, server.client() as client, ending(asking):
        if url is None:
            # The third scan has its template folder: now it plans or runs, and wherever it is, it ends.
            assert eventually(lambda: bool(list((tmp_path / "tmp").glob("dagfusion-*/*/s2/*"))))
        else:
            assert eventually(lambda: is_active(client))
        asking.send_signal(signal.SIGINT)
        _, said = asking.communicate(timeout=START_S)

        assert (asking.returncode, said) == (130, "Interrupted\n")
        assert not list(tmp_path.glob("*x.csv*"))
        assert eventually(lambda: not is_active(client))


@contextmanager
def ending(process: "subprocess.Popen[Any]") -> Iterator[None]:
    """Kill a process that is still there when a test has failed."""
    try:
        yield
    finally:
        process.kill()


def is_active(client: httpx.Client) -> bool:
    """Whether a query has begun and not ended: one whose rows come at once runs only for a moment before it streams."""
    return not {"running", "streaming"}.isdisjoint(states(client))


def states(client: httpx.Client) -> list[str]:
    return [query["state"] for query in client.get("/v1/queries").json()["queries"]]

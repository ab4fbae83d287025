"""`dagfusion serve`: what it says, where it listens, what it refuses, and how it ends."""

import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import trustme

from dagfusion_client.errors import ServiceUnreachableError, UnauthenticatedError
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.connector import connect
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.exposure import danger_of
from tests.server.processes.process import START_S, Server, run, served, start
from tests.waiting import eventually

TABLE = "local_silver_tax_id.orgs"
# Runs for long, and has its first rows at once.
LONG = f"SELECT a.id FROM {TABLE} a, {TABLE} b, {TABLE} c"
SLOW = f"SELECT count(*) FROM {TABLE} a, {TABLE} b, {TABLE} c WHERE (a.id * b.id + c.id) % 7 = 3"


@pytest.fixture(scope="module")
def server(dagster_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("served"), "--dagster-home", str(dagster_home)) as server:
        yield server


def wait_for(condition: Callable[[], bool]) -> None:
    assert eventually(condition, START_S)


def wait_for_queries(client: httpx.Client, count: int) -> None:
    wait_for(lambda: len(client.get("/v1/queries").json()["queries"]) >= count)


def ask(client: httpx.Client, sql: str, outcomes: list[httpx.HTTPError | int]) -> None:
    """Take a result slowly, and note how it ends."""
    try:
        with client.stream("POST", "/v1/sql", json={"sql": sql}) as answer:
            for _ in answer.iter_raw():
                time.sleep(0.01)
            outcomes.append(answer.status_code)
    except httpx.HTTPError as error:
        outcomes.append(error)


def leftovers(folder: Path) -> list[str]:
    return sorted(str(path) for path in (folder / "tmp").rglob("*"))


def test_it_says_where_it_is_and_what_there_is(server: Server) -> None:
    said = server.said.read_text()

    assert said.startswith(f"console and HTTP  {server.url}\nArrow Flight SQL  {server.flight_url}\nlocal: ")
    if "environment local is being read for the first time" not in said:  # which a busy machine may still do
        assert said.endswith(f"local: 2 tables\n  local_silver_tax_id.orders\n  {TABLE}\n")


def test_each_query_is_a_line_in_the_log_without_its_text(server: Server) -> None:
    with connect(server.url, settings={}) as connection:
        connection.sql(f"SELECT id, $1 AS s FROM {TABLE} WHERE state = 'CA'", ["confidential"]).to_arrow()
        [answer] = [connection.sql("SELECT 1 AS confidential").to_arrow()]
    assert answer.num_rows == 1

    lines = [line for line in server.log.read_text().splitlines() if "user=anonymous" in line]
    assert any("door=http outcome=finished" in line and "rows=1000 files=1/3" in line for line in lines)
    assert "confidential" not in server.log.read_text()


def test_the_console_is_served(server: Server) -> None:
    with server.client() as client:
        page = client.get("/")
    assert page.status_code == 200
    assert "<script" in page.text
    assert "unsafe-inline" not in page.headers["content-security-policy"].split("style-src")[0]


@pytest.mark.parametrize("which", ["--http-address", "--flight-address"])
def test_a_busy_port_is_named(dagster_home: Path, tmp_path: Path, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = ({"--http-address", "--flight-address"} - {which}).pop()
        home = ("--dagster-home", str(dagster_home))
        outcome = run(tmp_path, "serve", *home, which, f"127.0.0.1:{port}", free, "127.0.0.1:0")

    assert outcome.returncode == 1
    assert f"127.0.0.1:{port} cannot be listened on" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--http-address", "here"], {}, "DAGFUSION_HTTP_ADDRESS must be host:port"),
        (["--http-address", "127.0.0.1:99999"], {}, "DAGFUSION_HTTP_ADDRESS must be host:port"),
        (["--flight-address", "::1:80"], {}, "DAGFUSION_FLIGHT_ADDRESS must be host:port"),
        (["--http-address", "0.0.0.0:0"], {}, "there is no TLS to keep tokens and results secret"),
        (["--flight-address", "[::]:0"], {}, "DAGFUSION_FLIGHT_ADDRESS is ::, which other machines can reach"),
        ([], {"DAGFUSION_TLS_CERTIFICATE": "x.pem"}, "must be set together"),
        ([], {"DAGFUSION_TLS_CERTIFICATE": "x.pem", "DAGFUSION_TLS_KEY": "y.pem"}, "cannot be used"),
        ([], {"DAGFUSION_ANONYMOUS": "sometimes"}, "DAGFUSION_ANONYMOUS must be one of auto, loopback, never, always"),
        (["--workers", "0"], {}, "Invalid value for '--workers'"),
        (["--event-log", "x", "--dagster-home", "y"], {}, "not both"),
        (["--config", "missing.toml"], {}, "missing.toml"),
    ],
)
def test_what_it_refuses(
    dagster_home: Path, tmp_path: Path, arguments: list[str], variables: dict[str, str], said: str
) -> None:
    home = [] if "--event-log" in arguments else ["--dagster-home", str(dagster_home)]
    free = [] if "--http-address" in arguments else ["--http-address", "127.0.0.1:0"]
    free += [] if "--flight-address" in arguments else ["--flight-address", "127.0.0.1:0"]

    outcome = run(tmp_path, "serve", *home, *free, *arguments, variables=variables)

    assert outcome.returncode in {1, 2}
    assert said in outcome.stderr.replace("\n", " ")
    assert "Traceback" not in outcome.stderr


def test_beyond_this_machine_it_wants_tls_and_a_token(dagster_home: Path, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    tls = {"DAGFUSION_TLS_CERTIFICATE": str(tmp_path / "tls.pem"), "DAGFUSION_TLS_KEY": str(tmp_path / "tls.key")}
    home = ("--dagster-home", str(dagster_home), "--flight-address", "127.0.0.1:0")
    (tmp_path / "state").mkdir()
    Tokens(tmp_path / "state" / "tokens.json").create("sail", ["*"], is_internal=True)  # this is not a user's

    outcome = run(tmp_path, "serve", *home, "--http-address", "0.0.0.0:0", variables=tls)

    assert outcome.returncode == 1
    assert "there is no access token: create one with `dagfusion token create" in outcome.stderr


def test_damaged_tokens_are_an_error_at_the_start(dagster_home: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "tokens.json").write_text("{")

    outcome = run(tmp_path, "serve", "--dagster-home", str(dagster_home), "--http-address", "127.0.0.1:0")

    assert outcome.returncode == 1
    assert "tokens.json is damaged" in outcome.stderr


def test_both_doors_speak_tls(dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "tls.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    tls = {"DAGFUSION_TLS_CERTIFICATE": str(tmp_path / "tls.pem"), "DAGFUSION_TLS_KEY": str(tmp_path / "tls.key")}

    with served(tmp_path, "--dagster-home", str(dagster_home), variables=tls) as server:
        assert server.url.startswith("https://")
        assert server.flight_url.startswith("grpc+tls://")
        with (
            connect(server.url, settings={}) as stranger,
            pytest.raises(ServiceUnreachableError, match="SSL_CERT_FILE"),
        ):
            stranger.tables()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        with connect(server.url, settings={}) as connection:
            assert connection.sql("SELECT 1 AS n").to_arrow()["n"].to_pylist() == [1]
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        address = ("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        with socket.create_connection(address) as link, pytest.raises((ssl.SSLError, ConnectionResetError)):
            old.wrap_socket(link)
        server.stop()


def test_a_token_made_while_it_runs_opens_and_a_revoked_one_closes(dagster_home: Path, tmp_path: Path) -> None:
    with served(tmp_path, "--dagster-home", str(dagster_home), variables={"DAGFUSION_ANONYMOUS": "never"}) as server:
        made = run(tmp_path, "token", "create", "ann", "--grant", "local_silver_tax_id.orgs", "--expires", "1h")
        secret = made.stdout.strip()
        with connect(server.url, token=secret, settings={}) as connection:
            assert [table.name for table in connection.tables()] == [TABLE]
            assert run(tmp_path, "token", "revoke", "ann").returncode == 0
            with pytest.raises(UnauthenticatedError):
                connection.sql("SELECT 1")
        listed = run(tmp_path, "token", "list").stdout
    assert secret not in listed + server.log.read_text()
    assert "ann" in listed
    assert "revoked" in listed


@pytest.mark.parametrize("door", ["url", "flight_url"])
def test_what_runs_ends_with_its_token(dagster_home: Path, tmp_path: Path, door: str) -> None:
    with served(tmp_path, "--dagster-home", str(dagster_home)) as server:
        root, secret = (
            run(tmp_path, "token", "create", name, "--grant", grant).stdout.strip()
            for name, grant in (("root", "*"), ("ann", "local"))
        )
        with connect(getattr(server, door), token=secret, settings={}) as connection:
            rows = iter(
                connection.sql("SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000)")
            )
            next(rows)
            assert run(tmp_path, "token", "revoke", "ann").returncode == 0
            with pytest.raises(UnauthenticatedError, match="ann was revoked"):
                list(rows)
        with server.client(root) as operator:
            [query] = operator.get("/v1/queries").json()["queries"]

    assert (query["user"], query["state"], query["error"]["code"]) == ("ann", "failed", "unauthenticated")


@pytest.mark.parametrize("door", ["url", "flight_url"])
def test_the_first_token_ends_what_runs_without_one(dagster_home: Path, tmp_path: Path, door: str) -> None:
    with served(tmp_path, "--dagster-home", str(dagster_home)) as server:
        assert "there is no access token: every program on this machine can read all tables" in server.log.read_text()
        with connect(getattr(server, door), settings={}) as connection:
            rows = iter(
                connection.sql("SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000)")
            )
            next(rows)
            made = run(tmp_path, "token", "create", "ann", "--grant", "*")
            assert "this is the first token" in made.stderr
            with pytest.raises(UnauthenticatedError, match="requires an access token"):
                list(rows)
            with pytest.raises(UnauthenticatedError, match="requires an access token"):
                connection.sql("SELECT 1").to_arrow()
        with connect(getattr(server, door), token=made.stdout.strip(), settings={}) as connection:
            assert connection.sql("SELECT 1 AS n").to_arrow()["n"].to_pylist() == [1]
    assert "this is the first token" not in run(tmp_path, "token", "create", "bob", "--grant", "*").stderr


@pytest.mark.parametrize(
    ("anonymous", "has_token", "said"),
    [
        ("auto", False, "there is no access token: every program on this machine"),
        ("auto", True, None),
        ("never", False, None),
        ("loopback", False, "DAGFUSION_ANONYMOUS=loopback: every program on this machine"),
        ("loopback", True, "DAGFUSION_ANONYMOUS=loopback: every program on this machine"),
        ("always", True, "DAGFUSION_ANONYMOUS=always: everybody who reaches this service"),
    ],
)
def test_the_danger_is_stated(tmp_path: Path, anonymous: str, said: str | None, *, has_token: bool) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    if has_token:
        tokens.create("ann", ["uat"])
        tokens.revoke("ann")

    danger = danger_of(ServiceSettings(anonymous=anonymous), tokens)

    assert (danger or "").startswith(said or "")
    assert (danger is None) == (said is None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_a_signal_and_leaves_nothing(dagster_home: Path, tmp_path: Path, number: int) -> None:
    with served(tmp_path, "--dagster-home", str(dagster_home)) as server:
        family = [psutil.Process(server.process.pid), *server.workers()]
        with server.client() as client:
            client.post("/v1/sql", json={"sql": f"SELECT * FROM {TABLE}"})
            server.stop(number)

    assert server.process.returncode == 0
    assert [process for process in family if process.is_running()] == []
    assert leftovers(tmp_path) == []
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("sql", [LONG, SLOW])
def test_it_ends_while_queries_run(dagster_home: Path, tmp_path: Path, sql: str) -> None:
    broken: list[httpx.HTTPError | int] = []
    with served(tmp_path, "--dagster-home", str(dagster_home)) as server, server.client() as client:
        threads = [threading.Thread(target=ask, args=(client, sql, broken)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_for_queries(client, len(threads))
        family = [psutil.Process(server.process.pid), *server.workers()]
        server.stop()
        for thread in threads:
            thread.join(30)

    assert len(broken) == 3
    assert 200 not in broken
    assert [process for process in family if process.is_running()] == []
    assert leftovers(tmp_path) == []
    assert "Traceback" not in server.log.read_text()


def test_a_second_signal_ends_it_at_once(dagster_home: Path, tmp_path: Path) -> None:
    patient = {"DAGFUSION_CANCEL_GRACE_S": "300"}
    with served(tmp_path, "--dagster-home", str(dagster_home), variables=patient) as server:
        workers = server.workers()
        with server.client() as client:
            thread = threading.Thread(target=ask, args=(client, SLOW, []))
            thread.start()
            wait_for_queries(client, 1)
            server.process.send_signal(signal.SIGTERM)
            wait_for(lambda: "stopping: running queries have 300 s" in server.log.read_text())
            assert server.process.poll() is None
            server.stop()  # within seconds, of the minutes that a query would have
            thread.join(30)

    psutil.wait_procs(workers, 20)
    assert [worker for worker in workers if worker.is_running()] == []


@pytest.mark.parametrize("phase", ["imports", "catalog", "workers"])
def test_a_signal_during_the_start_ends_it(dagster_home: Path, tmp_path: Path, phase: str) -> None:
    free = ("--http-address", "127.0.0.1:0", "--flight-address", "127.0.0.1:0")
    process = start(tmp_path, "serve", "--dagster-home", str(dagster_home), *free)
    maps, started = Path(f"/proc/{process.pid}/maps"), psutil.Process(process.pid)
    reached = {
        "imports": lambda: "pyarrow" in maps.read_text(),
        "catalog": (tmp_path / "state").exists,
        "workers": lambda: len(started.children()) > 0,
    }
    wait_for(reached[phase])
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    process.terminate()
    _, said = process.communicate(timeout=START_S)

    assert b"Traceback" not in said
    assert [member for member in family if member.is_running()] == []
    assert leftovers(tmp_path) == []


def test_workers_end_when_the_service_is_killed(dagster_home: Path, tmp_path: Path) -> None:
    with served(tmp_path, "--dagster-home", str(dagster_home)) as server:
        workers = server.workers()
        assert workers
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(20)
        _, alive = psutil.wait_procs(workers, 20)

    assert alive == []


def test_an_environment_that_is_down_does_not_keep_it_from_starting(dagster_home: Path, tmp_path: Path) -> None:
    (tmp_path / "dagfusion.toml").write_text(
        f"""
        [environments.uat]
        event_log = "{dagster_home}"
        [environments.prod]
        event_log = "postgresql://nobody:secret@127.0.0.1:1/dagster"
        """
    )
    with served(tmp_path) as server, server.client() as client:
        assert re.search("^uat: (2 tables|no tables yet: .* for the first time)", server.said.read_text(), re.MULTILINE)
        assert re.search("^prod: no tables yet: .* prod cannot be read", server.said.read_text(), re.MULTILINE)

        def problems() -> dict[str, str | None]:
            read = client.get("/v1/tables").json()["environments"]
            return {one["name"]: one["problem"] and one["problem"]["code"] for one in read}

        assert eventually(lambda: problems() == {"uat": None, "prod": "environment_unavailable"})
        assert client.get("/readyz").status_code == 200
        down = client.post("/v1/sql", json={"sql": "SELECT * FROM prod_silver.orders"})
        assert (down.status_code, down.json()["code"]) == (503, "environment_unavailable")
        assert "secret" not in down.text + client.get("/v1/tables").text
        assert client.post("/v1/sql", json={"sql": "SELECT * FROM uat_silver_tax_id.orgs"}).status_code == 200

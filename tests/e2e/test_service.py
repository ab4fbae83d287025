"""The query service over a real deployment, asked from outside: answers, what it keeps secret, and what it survives."""

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import polars as pl
import psutil
import pyarrow as pa
import pytest

from dagfusion_client.errors import QueryError, StoreUnavailableError, WorkerDiedError
from dagfusion_query.connector import connect
from dagfusion_stack import answers, object_store
from dagfusion_stack.documented_queries import QUERIES, DocumentedQuery
from dagfusion_stack.errors import PortBusyError
from tests.e2e.lake import EXTRACTS, REGISTER, TABLES, Lake, lake
from tests.e2e.services import EmbeddedDatabase
from tests.e2e.serving import service
from tests.e2e.wire import recording
from tests.server.processes.process import Server
from tests.waiting import eventually

ORGANIZATIONS = TABLES[EXTRACTS]
COUNT = f"select count(npi) as n, sum(provider_count) as providers from {ORGANIZATIONS} where npi > 0"
# Both run for minutes: one has rows from the start, the other never.
ENDLESS = f"select a.npi from {ORGANIZATIONS} a, {ORGANIZATIONS} b"
BUSY = f"select sum(sin(a.npi + b.npi)) as n from {ORGANIZATIONS} a, {ORGANIZATIONS} b, generate_series(1, 1000) as c"


@pytest.fixture(scope="module")
def rows(filled: Lake) -> Mapping[str, pl.DataFrame]:
    return {name: filled.stored(key) for key, name in TABLES.items()}


@pytest.mark.parametrize("door", ["http", "flight"])
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_the_documented_queries(
    server: Server, rows: Mapping[str, pl.DataFrame], query: DocumentedQuery, door: str
) -> None:
    with connect(server.url if door == "http" else server.flight_url, settings={}) as connection:
        result = connection.sql(query.sql)
        frame, stats = result.to_polars(), result.stats

    assert answers.difference(frame.rows(), query.answer(rows).rows()) is None
    if query.files is not None:
        assert stats.files_read == query.files(rows)


def test_a_query_across_environments(server: Server, rows: Mapping[str, pl.DataFrame]) -> None:
    other = ORGANIZATIONS.replace("local_", "prod_")
    with connect(server.url, settings={}) as connection:
        answer = connection.sql(
            f"select count(*) as n from {ORGANIZATIONS} a join {other} b on a.npi = b.npi and a.date = b.date "
            "where a.state = 'VT' and b.state = 'VT'"
        ).to_arrow()

    assert answer["n"].to_pylist() == [rows[ORGANIZATIONS].filter(pl.col("state") == "VT").height]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how many requests a worker has sent")
def test_the_requests_of_a_query_are_counted(filled: Lake, tmp_path: Path) -> None:
    statements = [f"{COUNT} and state = 'VT'", f"{COUNT} and state = 'VT'", COUNT, COUNT, "select 1 as one"]
    with recording(filled.variables["AWS_ENDPOINT_URL"]) as wire:
        relayed = dataclasses.replace(filled, variables={**filled.variables, "AWS_ENDPOINT_URL": wire.endpoint})
        with (
            service(tmp_path, relayed, "local", DAGFUSION_WORKERS="1") as server,
            connect(server.url, settings={}) as connection,
        ):
            for statement in statements:
                before = len(wire.requests)
                result = connection.sql(statement)
                result.to_arrow()
                assert result.stats.requests == len(wire.requests) - before


@pytest.mark.parametrize("form", ["arrow", "json", "jsonl", "csv", "parquet"])
def test_each_format_has_all_rows(server: Server, rows: Mapping[str, pl.DataFrame], form: str) -> None:
    with server.client() as client:
        answer = client.post("/v1/sql", json={"sql": f"select npi from {ORGANIZATIONS}", "format": form})

    read: Mapping[str, Callable[[bytes], int]] = {
        "arrow": lambda body: int(pa.ipc.open_stream(body).read_all().num_rows),
        "json": lambda _: len(answer.json()["rows"]),
        "jsonl": lambda body: len(body.splitlines()),
        "csv": lambda body: len(body.splitlines()) - 1,
        "parquet": lambda body: pl.read_parquet(body).height,
    }
    assert read[form](answer.content) == rows[ORGANIZATIONS].height


def stop(sleeping: threading.Event, client: httpx.Client, statement: str, outcomes: list[object]) -> None:
    try:
        with client.stream("POST", "/v1/sql", json={"sql": statement}) as answer:
            for _ in answer.iter_raw():
                sleeping.set()
            outcomes.append(answer.status_code)
            answer.read()
            outcomes.append(answer.json())
    except (httpx.HTTPError, httpx.StreamError) as error:
        outcomes.append(error)


def used_s(server: Server) -> dict[int, float]:
    """Return the seconds of CPU that each worker has used."""
    found = {}
    for worker in server.workers():
        with contextlib.suppress(psutil.Error):  # it has ended just now
            found[worker.pid] = sum(worker.cpu_times()[:2])
    return found


def test_a_worker_that_is_killed_takes_only_its_own_query(server: Server) -> None:
    with server.client() as client, connect(server.url, settings={}) as connection:
        assert eventually(lambda: "dagfusion_workers_live 3.0" in client.get("/metrics").text)
        before, busiest = used_s(server), None
        batches = iter(connection.sql(ENDLESS))
        while busiest is None:  # a worker computes only as long as its rows are read
            next(batches)
            used = used_s(server)
            busiest = next((pid for pid in before if used.get(pid, 0.0) - before[pid] > 0.3), None)
        other = threading.Thread(target=lambda: connection.sql(COUNT).to_arrow())
        other.start()
        os.kill(busiest, signal.SIGKILL)
        with pytest.raises(WorkerDiedError):
            for _ in batches:
                pass
        other.join(120)
        assert connection.sql(COUNT).to_arrow().num_rows == 1
        assert eventually(lambda: len(server.workers()) == len(before))
        assert busiest not in {worker.pid for worker in server.workers()}


def test_a_query_is_cancelled_at_once(server: Server) -> None:
    with server.client() as client:
        for statement in (ENDLESS, BUSY):
            thread = threading.Thread(target=stop, args=(threading.Event(), client, statement, []))
            thread.start()

            def running(statement: str = statement) -> list[str]:
                queries = client.get("/v1/queries").json()["queries"]
                return [q["id"] for q in queries if q["sql"] == statement and q["state"] in {"running", "streaming"}]

            assert eventually(lambda running=running: bool(running()))  # type: ignore[misc]
            [query_id] = running()
            client.delete(f"/v1/queries/{query_id}")
            thread.join(30)
            assert not thread.is_alive()
            said = client.get(f"/v1/queries/{query_id}").json()
            assert (said["state"], said["error"]["code"]) == ("cancelled", "query_cancelled")


def leave(client: httpx.Client, statement: str) -> None:
    """Ask, and go after the first bytes, or when there are none in time."""
    with (
        contextlib.suppress(httpx.TimeoutException),
        client.stream("POST", "/v1/sql", json={"sql": statement}, timeout=0.7) as response,
    ):
        next(response.iter_raw())


def test_a_client_that_leaves_frees_its_worker(server: Server) -> None:
    with server.client() as client:

        def none_runs() -> bool:
            queries = client.get("/v1/queries").json()["queries"]
            return all(query["state"] not in {"running", "streaming"} for query in queries)

        with client.stream("POST", "/v1/sql", json={"sql": ENDLESS}) as answer:
            assert next(answer.iter_raw())
        assert eventually(none_runs)
        with pytest.raises(httpx.TimeoutException):
            client.post("/v1/sql", json={"sql": BUSY}, timeout=0.7)
        assert eventually(none_runs)


@pytest.mark.usefixtures("long")
@pytest.mark.embedded
def test_a_database_that_stops_and_starts(server_folder: Callable[[str], Path], tmp_path: Path) -> None:
    database = EmbeddedDatabase(server_folder("postgres"))
    home = tmp_path / "home"
    home.mkdir()
    with (
        contextlib.closing(contextlib.ExitStack()) as stack,
        object_store.running(tmp_path / "s3", buckets=[]) as store,
    ):
        stack.callback(database.stop)
        with lake(database, store, home) as deployment:
            assert deployment.materialize(REGISTER)
            assert deployment.materialize(EXTRACTS, "2024-01-01|AL", "2024-01-01|AZ")
            with service(tmp_path, deployment, "local") as server, connect(server.url, settings={}) as connection:
                before = connection.sql(COUNT).to_arrow()
                database.stop()
                with server.client() as client:
                    assert eventually(lambda: client.get("/v1/tables").json()["environments"][0]["age_s"] > 1)
                    assert connection.sql(COUNT).to_arrow() == before
                    assert client.get("/readyz").status_code == 200
                database.restart()
                assert deployment.materialize(EXTRACTS, "2024-01-02|AK")
                assert eventually(lambda: connection.sql(COUNT).to_arrow() != before)
                connection.refresh()
                assert connection.sql(COUNT).stats.files_total == 4


def started_again(store: object_store.ObjectStore, folder: Path, bucket: str) -> object_store.ObjectStore:
    """Start a store at its old port, which is some connection's own now and then; return when it can be read."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return object_store.start(folder, buckets=[bucket], port=store.port)
        except PortBusyError:
            assert time.monotonic() < deadline, "somebody else has the port"
            time.sleep(0.5)


@pytest.mark.usefixtures("long")
@pytest.mark.embedded
def test_a_store_that_stops_and_starts(server_folder: Callable[[str], Path], tmp_path: Path) -> None:
    database = EmbeddedDatabase(server_folder("postgres"))
    home = tmp_path / "home"
    home.mkdir()
    store = object_store.start(tmp_path / "s3", buckets=[])
    try:
        with lake(database, store, home) as deployment:
            assert deployment.materialize(REGISTER)
            assert deployment.materialize(EXTRACTS, "2024-01-01|AL", "2024-01-01|AZ")
            with service(tmp_path, deployment, "local") as server, connect(server.url, settings={}) as connection:
                copied = connection.sql(f"{COUNT} and state = 'AL'").to_arrow()
                store.stop()
                assert connection.sql(f"{COUNT} and state = 'AL'").to_arrow() == copied
                with pytest.raises(StoreUnavailableError) as raised:
                    connection.sql(COUNT).to_arrow()
                assert deployment.variables["AWS_ENDPOINT_URL"] not in str(raised.value)
                assert connection.sql("select 1 as n").to_arrow().num_rows == 1
                store = started_again(store, tmp_path / "s3", deployment.bucket)
                assert connection.sql(COUNT).to_arrow()["n"][0].as_py() > copied["n"][0].as_py()
    finally:
        store.stop()
        database.stop()


def test_it_holds_on_while_many_ask(server: Server) -> None:
    outcomes: list[str] = []

    def ask(number: int) -> None:
        with connect(server.url, settings={}) as connection:
            for day in range(1, 4):
                try:
                    sql_ = f"select sum(npi) from {ORGANIZATIONS} where date = $1 and state = 'CA' -- {number}"
                    connection.sql(sql_, [f"2024-01-0{day}"]).to_arrow()
                    outcomes.append("ok")
                except QueryError as error:
                    outcomes.append(error.code)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(outcomes) == 120
    assert set(outcomes) <= {"ok", "too_busy"}
    assert psutil.Process(server.process.pid).num_fds() < 100

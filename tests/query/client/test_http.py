"""The client over HTTP: results, errors, cancelling, and services that are not there."""

import gc
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_query.access.tokens import Tokens
from dagfusion_query.catalog.live import Lag
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.client import remote
from dagfusion_query.client.http import HttpConnection
from dagfusion_query.client.http_result import HttpResult
from dagfusion_query.doors.http.listen import HttpDoor
from dagfusion_query.errors import (
    BrokenStreamError,
    EnvironmentUnavailableError,
    ExecutionError,
    ForbiddenError,
    ParameterError,
    QueryError,
    ResourcesError,
    ServiceUnreachableError,
    SettingsError,
    SqlSyntaxError,
    TooBusyError,
    UnauthenticatedError,
    UnknownTableError,
)
from dagfusion_query.service_settings import ServiceSettings
from tests.query.http.fake import FakeEnvironment, FakeService, Piece, arrow, cancelled, eventually, serving


def pieces(batches: int, rows: int = 1000) -> list[Piece]:
    """An Arrow stream, a batch a piece, and the end by itself."""
    batch = pa.record_batch({"n": list(range(rows))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    whole = bytes(sink.getvalue().to_pybytes())
    schema = pa.BufferOutputStream()
    with pa.ipc.new_stream(schema, batch.schema):
        pass
    head = len(schema.getvalue()) - 8
    each = (len(whole) - head - 8) // batches
    return [whole[:head], *(whole[head + i * each : head + (i + 1) * each] for i in range(batches)), whole[-8:]]


def test_a_result_in_every_form(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = (arrow(3),)

    assert connection.sql("SELECT n").to_arrow() == pa.table({"n": [0, 1, 2]})
    assert connection.sql("SELECT n").to_polars().equals(pl.DataFrame({"n": [0, 1, 2]}))
    pd.testing.assert_frame_equal(connection.sql("SELECT n").to_pandas(), pd.DataFrame({"n": [0, 1, 2]}))
    assert [batch.num_rows for batch in connection.sql("SELECT n")] == [3]
    assert connection.sql("SELECT n").schema == pa.schema({"n": pa.int64()})


def test_a_stream_comes_batch_by_batch(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = pieces(5)

    result = connection.sql("SELECT n")

    assert [batch.num_rows for batch in result] == [1000] * 5


def test_statement_and_parameters_arrive(connection: HttpConnection, service: FakeService) -> None:
    connection.sql("SELECT $1, $2", [date(2024, 1, 15), None]).to_arrow()
    connection.sql("SELECT $day", {"day": b"\x00"}).to_arrow()
    connection.explain("SELECT 1", [1])

    params = [query.params for query, _ in service.asked]
    assert params[0] == pa.record_batch({"1": [date(2024, 1, 15)], "2": pa.nulls(1)})
    assert params[1] == pa.record_batch({"day": [b"\x00"]})
    assert params[2] == pa.record_batch({"1": [1]})


def test_stats_come_with_a_short_result(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = (arrow(3),)
    result = connection.sql("SELECT n")
    assert result.stats.rows == 0

    result.to_arrow()

    stats = result.stats
    assert (stats.files_total, stats.files_read, stats.rows, stats.generation) == (3, 1, 3, 7)
    assert stats.seconds > 0


def test_stats_of_a_long_result_are_asked_for(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(2), 0.1]
    result = connection.sql("SELECT n")
    service.remember(result.id, "anonymous")

    result.to_arrow()

    assert (result.stats.rows, result.stats.generation) == (2000, 0)


def test_rows_are_taken_once(connection: HttpConnection) -> None:
    result = connection.sql("SELECT n")
    result.to_arrow()

    with pytest.raises(ExecutionError, match="taken already"):
        result.to_arrow()


@pytest.mark.parametrize(
    "error",
    [
        SqlSyntaxError("syntax error at line 1, column 2", 1, 2),
        UnknownTableError("there is no table x"),
        ResourcesError("no memory"),
        TooBusyError("busy", 2.5),
        EnvironmentUnavailableError("environment uat cannot be read now"),
    ],
)
def test_errors_are_the_same_on_this_side(connection: HttpConnection, service: FakeService, error: QueryError) -> None:
    service.error = error

    for ask in (connection.sql, connection.explain):
        with pytest.raises(type(error)) as caught:
            ask("SELECT 1")
        assert (str(caught.value), caught.value.details()) == (str(error), error.details())


def test_an_error_of_a_kind_that_is_not_known_here(connection: HttpConnection, service: FakeService) -> None:
    service.error = RuntimeError("secret")

    with pytest.raises(QueryError, match="the service failed at this request") as caught:
        connection.sql("SELECT 1")

    assert type(caught.value) is QueryError


@pytest.mark.parametrize("error", [ResourcesError("no memory"), cancelled()])
def test_a_stream_that_breaks_says_why(connection: HttpConnection, service: FakeService, error: QueryError) -> None:
    service.pieces = [*pieces(3)[:3], 0.1, error]
    result = connection.sql("SELECT n")
    service.remember(result.id, "anonymous", error)

    with pytest.raises(type(error), match=str(error)):
        result.to_arrow()


def test_a_stream_that_breaks_without_a_word(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:3], 0.1, RuntimeError("secret")]
    result = connection.sql("SELECT n")

    with pytest.raises(BrokenStreamError, match="ended before its end"):
        list(result)


def test_a_stream_that_lacks_its_end_marker(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:3], 0.1, b"\x00"]

    with pytest.raises(BrokenStreamError):
        connection.sql("SELECT n").to_arrow()


def test_cancelling_ends_the_query(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 30.0]
    result = connection.sql("SELECT n")

    result.cancel()

    assert service.streams[0].closed.wait(2)
    assert list(result) == []


def test_cancelling_ends_a_wait_for_rows(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 30.0]
    result = connection.sql("SELECT n")
    threading.Timer(0.3, result.cancel).start()

    assert sum(batch.num_rows for batch in result) == 1000
    assert service.streams[0].closed.wait(2)


def test_leaving_a_loop_ends_the_query(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 30.0]
    for _ in connection.sql("SELECT n"):
        break

    assert service.streams[0].closed.wait(2)


def test_an_interrupt_ends_the_query(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 30.0]
    result = connection.sql("SELECT n")

    with pytest.raises(KeyboardInterrupt):
        consume(result, KeyboardInterrupt())

    assert service.streams[0].closed.wait(2)


def consume(result: HttpResult, error: BaseException) -> None:
    for _ in result:
        raise error


def test_forgetting_a_result_ends_the_query(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 30.0]
    connection.sql("SELECT n")
    gc.collect()

    assert service.streams[0].closed.wait(2)


def test_closing_ends_all_queries(door: HttpDoor, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 30.0]
    with HttpConnection(door.url) as connection:
        results = [connection.sql("SELECT n") for _ in range(3)]

    assert all(stream.closed.wait(2) for stream in service.streams)
    assert [list(result) for result in results] == [[], [], []]
    with pytest.raises(ServiceUnreachableError, match="is closed"):
        connection.sql("SELECT 1")


def test_threads_share_a_connection(connection: HttpConnection) -> None:
    with ThreadPoolExecutor(8) as threads:
        tables = list(threads.map(lambda _: connection.sql("SELECT n").to_arrow(), range(100)))

    assert all(table.num_rows == 1 for table in tables)


def test_a_connection_is_used_again(connection: HttpConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    connect = socket.create_connection

    def counted(*arguments: Any, **options: Any) -> socket.socket:
        opened.append(arguments)
        return connect(*arguments, **options)

    monkeypatch.setattr(socket, "create_connection", counted)

    for _ in range(5):
        connection.sql("SELECT n").to_arrow()

    assert len(opened) == 1


def test_a_service_that_was_started_again_is_found(service: FakeService, tokens: Tokens) -> None:
    with serving(service, tokens, ServiceSettings()) as door:
        connection = HttpConnection(door.url)
        connection.sql("SELECT n").to_arrow()
    with serving(service, tokens, ServiceSettings(), f"127.0.0.1:{door.port}"), connection:
        assert connection.sql("SELECT n").to_arrow().num_rows == 1


def test_nobody_there(unused_port: int) -> None:
    with HttpConnection(f"http://127.0.0.1:{unused_port}") as connection:
        with pytest.raises(ServiceUnreachableError, match=r"does not answer \(Connection refused\)"):
            connection.sql("SELECT 1")
        with pytest.raises(ServiceUnreachableError):
            connection.tables()


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def stranger(said: bytes) -> Iterator[str]:
    """A server that says one thing to everybody, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    link.recv(1 << 16)
                    link.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nhtml",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nhtml",
        b"HTTP/1.1 301 Moved\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n{",
        b"HTTP/1.1 400 Bad\r\nContent-Type: application/problem+json\r\nContent-Length: 4\r\n\r\nhtml",
    ],
)
def test_somebody_else_there(said: bytes) -> None:
    with stranger(said) as url, HttpConnection(url) as connection:
        with pytest.raises(ServiceUnreachableError, match=f"the query service at {url}"):
            connection.sql("SELECT 1")
        with pytest.raises(ServiceUnreachableError):
            connection.tables()


def test_a_stranger_that_claims_to_send_arrow() -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apache.arrow.stream\r\nContent-Length: 9\r\n\r\nnot arrow"
    with (
        stranger(said) as url,
        HttpConnection(url) as connection,
        pytest.raises((BrokenStreamError, ServiceUnreachableError)),
    ):
        connection.sql("SELECT 1").to_arrow()


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://host/?token=x",
        "http://host/#x",
        "http://ann:secret@host:8080",
        "ftp://host",
        "host:8080",
    ],
)
def test_urls_are_checked(url: str) -> None:
    with pytest.raises(SettingsError, match="a service's URL must"):
        HttpConnection(url)


def test_a_secret_in_a_url_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        HttpConnection("http://ann:secret@host:8080")

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("token", ["a\r\nX-Evil: 1", "ü", "a b", "a\x00"])
def test_tokens_are_checked(token: str) -> None:
    with pytest.raises(SettingsError, match="an access token must be"):
        HttpConnection("http://localhost:8080", token)


def test_a_token_lets_in(door: HttpDoor, service: FakeService, tokens: Tokens) -> None:
    with HttpConnection(door.url, tokens.create("ann", ["uat"])) as connection:
        connection.sql("SELECT 1").to_arrow()

    assert service.asked[0][1].user == "ann"
    with HttpConnection(door.url, "dft_x") as connection, pytest.raises(UnauthenticatedError):
        connection.sql("SELECT 1")


def test_a_refusal_says_why(door: HttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.create_connection
    here = ("127.0.0.1", door.port)
    monkeypatch.setattr(socket, "create_connection", lambda _, *a, **k: connect(here, *a, **k))

    with HttpConnection(f"http://x.test:{door.port}") as connection, pytest.raises(ForbiddenError, match="host name"):
        connection.sql("SELECT 1")


@pytest.mark.parametrize("value", [object(), [1, 2]])
def test_a_parameter_without_a_form_in_json(connection: HttpConnection, service: FakeService, value: Any) -> None:
    with pytest.raises(ParameterError, match=r"parameter \$1"):
        connection.sql("SELECT $1", [value])
    assert service.asked == []


def test_from_afar_results_are_compressed(
    connection: HttpConnection, service: FakeService, door: HttpDoor, tokens: Tokens
) -> None:
    with HttpConnection(door.url, tokens.create("ann", ["uat"])) as afar:
        afar._codings = {"Accept-Encoding": "zstd", "X-Forwarded-For": "10.0.0.1"}
        for given in ([*pieces(5), 0.05], (arrow(3),)):
            service.pieces = given
            result = afar.sql("SELECT n")
            assert result._answer.headers["Content-Encoding"] == "zstd"
            assert result.to_arrow() == connection.sql("SELECT n").to_arrow()
        service.pieces = [*pieces(5)[:3], 0.05, ResourcesError("no memory")]
        with pytest.raises((BrokenStreamError, ResourcesError)):
            afar.sql("SELECT n").to_arrow()


def test_refresh_waits_for_the_event_logs(
    connection: HttpConnection, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(age_s: float) -> FakeEnvironment:
        return FakeEnvironment("uat", Snapshot(1, "uat"), None, Lag(age_s, 0.0, None, 1, None))

    service.catalog = {"uat": state(60.0)}
    done = threading.Event()

    def refresh() -> None:
        connection.refresh()
        done.set()

    thread = threading.Thread(target=refresh)
    thread.start()
    assert not done.wait(0.3)
    service.catalog = {"uat": state(0.0)}
    assert done.wait(3)
    thread.join()

    service.catalog = {"uat": state(60.0)}
    monkeypatch.setattr(remote, "_REFRESH_TIMEOUT_S", 0.2)
    with pytest.raises(EnvironmentUnavailableError, match="event log of uat"):
        connection.refresh()


def test_memory_stays_flat(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = pieces(400, 100_000)
    before = pa.total_allocated_bytes()
    most = 0
    for batch in connection.sql("SELECT n"):
        most = max(most, pa.total_allocated_bytes() - before)
        assert batch.num_rows == 100_000

    assert most < 20_000_000  # of 320 MB


def test_results_are_let_go(connection: HttpConnection) -> None:
    results: list[HttpResult] = [connection.sql("SELECT n") for _ in range(3)]
    for result in results:
        result.to_arrow()

    assert eventually(lambda: len(connection._open) == 0)

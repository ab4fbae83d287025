"""The client over HTTP: results, their figures, and errors."""

import http.client
import socket
import threading
from datetime import date
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_client import remote
from dagfusion_client.errors import (
    BrokenStreamError,
    EnvironmentUnavailableError,
    InternalError,
    ParameterError,
    QueryError,
    ResourcesError,
    SqlSyntaxError,
    TooBusyError,
    UnknownTableError,
)
from dagfusion_client.http_client import HttpConnection
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog.live_catalog import Lag
from dagfusion_query.catalog.model import Snapshot
from dagfusion_server.doors.http.http_door import HttpDoor
from dagfusion_server.environments import EnvironmentState
from tests.client.pieces import pieces
from tests.server.fake_service import FakeService, arrow, environment


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
    assert (stats.files_total, stats.files_read, stats.rows, stats.generation) == (4, 1, 3, 7)
    assert stats.seconds > 0


def test_stats_of_a_long_result_are_asked_for(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(2), 0.1]
    result = connection.sql("SELECT n")
    service.remember(result.id, "anonymous")

    result.to_arrow()

    assert (result.stats.rows, result.stats.generation) == (2000, 0)


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


def test_an_error_that_is_not_for_clients(connection: HttpConnection, service: FakeService) -> None:
    service.error = RuntimeError("secret")

    with pytest.raises(QueryError, match="internal error") as caught:
        connection.sql("SELECT 1")

    assert type(caught.value) is InternalError


def test_a_request_is_sent_at_once(connection: HttpConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    send = http.client.HTTPConnection.send

    def sends(self: http.client.HTTPConnection, data: bytes) -> None:
        sent.append(data)
        send(self, data)

    monkeypatch.setattr(http.client.HTTPConnection, "send", sends)
    connection.sql("SELECT 1").to_arrow()
    [request] = sent
    assert request.startswith(b"POST /v1/sql")
    assert request.endswith(b"}")


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


@pytest.mark.parametrize("value", [object(), [1, 2]])
def test_a_parameter_without_a_form_in_json(connection: HttpConnection, service: FakeService, value: Any) -> None:
    with pytest.raises(ParameterError, match=r"parameter \$1"):
        connection.sql("SELECT $1", [value])
    assert service.asked == []


def test_from_afar_results_are_compressed(service: FakeService, door: HttpDoor, tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat"])
    with HttpConnection(door.url, secret) as afar, HttpConnection(door.url, secret) as near:
        afar._codings = {"Accept-Encoding": "zstd", "X-Forwarded-For": "10.0.0.1"}
        for given in ([*pieces(5), 0.05], (arrow(3),)):
            service.pieces = given
            result = afar.sql("SELECT n")
            assert result._response.headers["Content-Encoding"] == "zstd"
            assert result.to_arrow() == near.sql("SELECT n").to_arrow()
        service.pieces = [*pieces(5)[:3], 0.05, ResourcesError("no memory")]
        with pytest.raises((BrokenStreamError, ResourcesError)):
            afar.sql("SELECT n").to_arrow()


def test_refresh_waits_for_the_event_logs(
    connection: HttpConnection, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(age_s: float) -> EnvironmentState:
        return environment("uat", Snapshot(1, "uat"), None, Lag(age_s, None, 1))

    service.catalog = {"uat": state(60.0)}
    done = threading.Event()

    def refresh() -> None:
        connection.refresh()
        done.set()

    thread = threading.Thread(target=refresh)
    thread.start()
    assert not done.wait(0.3)
    service.catalog = {"uat": state(0.0)}
    assert done.wait(20)
    thread.join()

    service.catalog = {"uat": state(60.0)}
    monkeypatch.setattr(remote, "_REFRESH_TIMEOUT_S", 0.2)
    with pytest.raises(EnvironmentUnavailableError, match="event log of uat"):
        connection.refresh()


@pytest.mark.usefixtures("heavy")
def test_memory_stays_flat(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = pieces(400, 100_000)
    before = pa.total_allocated_bytes()
    most = 0
    for batch in connection.sql("SELECT n"):
        most = max(most, pa.total_allocated_bytes() - before)
        assert batch.num_rows == 100_000

    assert most < 20_000_000  # of 320 MB

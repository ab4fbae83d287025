"""Results that do not come to their end: broken, cancelled, left, forgotten, or of a closed connection."""

import gc
import threading
from pathlib import Path

import pytest
import trustme

from dagfusion_client.errors import (
    BrokenStreamError,
    ConnectionClosedError,
    QueryCancelledError,
    QueryError,
    ResourcesError,
)
from dagfusion_client.http_client import HttpConnection, HttpResult
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http.http_door import HttpDoor
from tests.client.pieces import pieces
from tests.server.doors.http.serving import serving
from tests.server.fake_service import FakeService
from tests.waiting import eventually


@pytest.mark.parametrize("error", [ResourcesError("no memory"), QueryCancelledError("the query was cancelled by ann")])
def test_a_stream_that_breaks_says_why(connection: HttpConnection, service: FakeService, error: QueryError) -> None:
    service.pieces = [*pieces(3)[:3], 0.1, error]
    result = connection.sql("SELECT n")
    service.remember(result.id, "anonymous", error)

    with pytest.raises(type(error), match=str(error)):
        result.to_arrow()


def test_a_stream_that_breaks_without_a_word(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:3], 0.1, RuntimeError("secret")]
    result = connection.sql("SELECT n")

    with pytest.raises(BrokenStreamError, match="was cut off"):
        list(result)
    assert len(connection._pool._idle) == 1, "that of the question why, and not the one that broke"


def test_a_stream_that_lacks_its_end_marker(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:3], 0.1, b"\x00"]

    with pytest.raises(BrokenStreamError):
        connection.sql("SELECT n").to_arrow()


def test_cancelling_ends_the_query(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 300.0]
    result = connection.sql("SELECT n")

    result.cancel()

    assert service.streams[0].closed.wait(20)
    assert list(result) == []


def test_cancelling_ends_a_wait_for_rows(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 300.0]
    result = connection.sql("SELECT n")
    threading.Timer(0.3, result.cancel).start()

    assert sum(batch.num_rows for batch in result) == 1000
    assert service.streams[0].closed.wait(20)


def test_leaving_a_loop_ends_the_query(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 300.0]
    for _ in connection.sql("SELECT n"):
        break

    assert service.streams[0].closed.wait(20)


def test_an_interrupt_ends_the_query(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 300.0]
    result = connection.sql("SELECT n")

    with pytest.raises(KeyboardInterrupt):
        consume(result, KeyboardInterrupt())

    assert service.streams[0].closed.wait(20)


def consume(result: HttpResult, error: BaseException) -> None:
    for _ in result:
        raise error


def test_forgetting_a_result_ends_the_query(connection: HttpConnection, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 300.0]
    connection.sql("SELECT n")
    gc.collect()

    assert service.streams[0].closed.wait(20)


def test_closing_ends_all_queries(door: HttpDoor, service: FakeService) -> None:
    service.pieces = [*pieces(3)[:2], 300.0]
    with HttpConnection(door.url) as connection:
        results = [connection.sql("SELECT n") for _ in range(3)]

    assert all(stream.closed.wait(20) for stream in service.streams)
    assert [list(result) for result in results] == [[], [], []]
    with pytest.raises(ConnectionClosedError, match="is closed"):
        connection.sql("SELECT 1")


def test_a_service_with_tls_ends_and_is_found_again(
    service: FakeService, tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "tls.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    settings = ServiceSettings(tls_certificate=str(tmp_path / "tls.pem"), tls_key=str(tmp_path / "tls.pem"))
    with serving(service, tokens, settings) as door:  # fails if its end has to wait for the connection
        connection = HttpConnection(door.url)
        connection.sql("SELECT n").to_arrow()

    with serving(service, tokens, settings, f"127.0.0.1:{door.port}"), connection:
        assert connection.sql("SELECT n").to_arrow().num_rows == 1


def test_results_are_let_go(connection: HttpConnection) -> None:
    results: list[HttpResult] = [connection.sql("SELECT n") for _ in range(3)]
    for result in results:
        result.to_arrow()

    assert eventually(lambda: len(connection._open) == 0)

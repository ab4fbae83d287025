"""Who answers: a service started again, nobody, somebody else; and URLs, tokens and who is let in."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest

from dagfusion_client.errors import (
    BrokenStreamError,
    ForbiddenError,
    ServiceUnreachableError,
    SettingsError,
    UnauthenticatedError,
)
from dagfusion_client.http_client import HttpConnection
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http.http_door import HttpDoor
from tests.server.doors.http.serving import serving
from tests.server.fake_service import FakeService


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


@pytest.mark.parametrize("messages", [1, 2, 3])
@pytest.mark.parametrize("length", [400, 1 << 21])
def test_a_result_of_known_length_that_is_cut_off_between_two_messages(messages: int, length: int) -> None:
    schema = pa.schema({"n": pa.int64()})
    batch = pa.record_batch([[1]], schema=schema)
    stream = [schema.serialize(), batch.serialize(), batch.serialize()]
    body = b"".join(piece.to_pybytes() for piece in stream[:messages])
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apache.arrow.stream\r\nContent-Length: {length}\r\n\r\n"
    with stranger(head.encode() + body) as url, HttpConnection(url) as connection, pytest.raises(BrokenStreamError):
        connection.sql("SELECT 1").to_arrow()


def test_a_result_without_a_marked_end_is_refused() -> None:
    """If it were cut off between two messages, it would look whole."""
    body = pa.schema({"n": pa.int64()}).serialize().to_pybytes()
    head = b"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apache.arrow.stream\r\n\r\n"
    with (
        stranger(head + body) as url,
        HttpConnection(url) as connection,
        pytest.raises(BrokenStreamError, match="neither a length nor chunks"),
    ):
        connection.sql("SELECT 1")


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

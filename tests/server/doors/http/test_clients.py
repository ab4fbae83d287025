"""Clients that leave, stall, say too much or nothing at all."""

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from dagfusion_server.doors.http import bounded_protocol, requests_and_responses
from dagfusion_server.doors.http.http_door import HttpDoor
from tests.server.fake_service import FakeService, arrow
from tests.waiting import eventually

ASK = b'POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19\r\n\r\n{"sql": "SELECT 1"}'


@contextmanager
def connected(door: HttpDoor) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", door.port), timeout=30) as link:
        yield link


def received(link: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := link.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def until(link: socket.socket, text: bytes) -> bytes:
    """All that comes until a text has come."""
    said = b""
    while text not in said:
        part = link.recv(1 << 16)
        assert part, f"the connection ended after {said[-200:]!r}"
        said += part
    return said


def send_until_cut(link: socket.socket, piece: bytes) -> None:
    """Send for as long as somebody takes it, but no longer than a while."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        link.sendall(piece)
        time.sleep(0.001)


def test_leaving_before_the_first_row_cancels(door: HttpDoor, service: FakeService) -> None:
    service.delay_s = 300.0
    with connected(door) as link:
        link.sendall(ASK)
        assert eventually(lambda: bool(service.asked))

    assert service.gone.wait(20)


def test_leaving_before_an_explanation_cancels(door: HttpDoor, service: FakeService) -> None:
    service.delay_s = 300.0
    with connected(door) as link:
        link.sendall(ASK.replace(b"/v1/sql", b"/v1/explain"))
        assert eventually(lambda: bool(service.asked))

    assert service.gone.wait(20)


def test_leaving_in_the_middle_closes_the_stream(door: HttpDoor, service: FakeService) -> None:
    service.pieces = [b"first", 300.0]
    with connected(door) as link:
        link.sendall(ASK)
        until(link, b"first")

    assert service.streams[0].closed.wait(20)


def test_leaving_while_rows_flow_closes_the_stream(door: HttpDoor, service: FakeService) -> None:
    service.pieces = [b"x" * 65_536] * 100_000
    with connected(door) as link:
        link.sendall(ASK)
        link.recv(1 << 16)

    assert service.streams[0].closed.wait(20)
    assert service.streams[0].taken < 100_000


def test_a_result_that_comes_as_the_client_goes_is_closed(door: HttpDoor, service: FakeService) -> None:
    for round_, delay_s in enumerate((0.0, 0.001, 0.002, 0.005), 1):
        service.delay_s = delay_s
        with connected(door) as link:
            link.sendall(ASK)
            while len(service.asked) < round_:
                time.sleep(0.0001)

    assert eventually(lambda: all(stream.closed.is_set() for stream in service.streams))


def test_a_client_that_takes_nothing_is_let_go(door: HttpDoor, service: FakeService) -> None:
    service.pieces = [b"x" * (1 << 20)] * 64  # more than the sockets hold
    with connected(door) as link:
        link.sendall(ASK)
        assert service.streams == [] or not service.streams[0].closed.is_set()
        assert eventually(lambda: bool(service.streams))
        assert service.streams[0].closed.wait(20)
        assert not received(link).endswith(b"0\r\n\r\n")

    assert service.streams[0].taken < 64


@pytest.mark.usefixtures("heavy")
def test_results_take_no_memory_while_nobody_takes_them(
    door: HttpDoor, client: httpx.Client, service: FakeService
) -> None:
    service.pieces = [b"x" * (1 << 20)] * 64
    with connected(door) as link:
        link.sendall(ASK)
        assert eventually(lambda: bool(service.streams))
        for _ in range(100):  # answers that come while nothing is taken
            client.get("/healthz")

        assert service.streams[0].taken <= 12


def test_a_body_that_is_too_long_is_not_taken(door: HttpDoor, client: httpx.Client, service: FakeService) -> None:
    declared = client.post("/v1/sql", content=b" " * 3_000_000)
    chunked = client.post("/v1/sql", content=(b" " * 65_536 for _ in range(50)))

    for answer in (declared, chunked):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_long")
    assert service.asked == []
    assert client.post("/v1/sql", json={"sql": "SELECT 1"}).status_code == 200
    del door


def test_who_goes_on_sending_after_the_answer_is_cut(door: HttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_protocol, "LINGER_S", 0.3)
    with connected(door) as link:
        link.sendall(b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000000\r\n\r\n")
        until(link, b"body_too_long")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_until_cut(link, b" " * 65_536)


def test_a_slow_upload_ends(door: HttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests_and_responses, "UPLOAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(bounded_protocol, "LINGER_S", 0.2)
    with connected(door) as link:
        link.sendall(ASK[:-5])
        said = received(link)

    assert b"400 Bad Request" in said
    assert b"was not received within" in said


def test_a_body_that_ends_early_is_not_run(door: HttpDoor, service: FakeService) -> None:
    for cut in (ASK[:-5], ASK[:-5].replace(b"Content-Length: 19", b"Transfer-Encoding: chunked")):
        with connected(door) as link:
            link.sendall(cut)
            link.shutdown(socket.SHUT_WR)
            assert b"200 OK" not in received(link)
    assert service.asked == []


def test_a_length_that_is_too_short_is_blamed_on_the_body(door: HttpDoor, service: FakeService) -> None:
    with connected(door) as link:
        link.sendall(ASK[:-5].replace(b"Content-Length: 19", b"Content-Length: 14"))
        said = until(link, b"}")
        link.sendall(ASK[-5:])
        received(link)

    assert b"400 Bad Request" in said
    assert b"it ends after 14 bytes, before the JSON does" in said
    assert service.asked == []


def test_a_slow_head_ends(service: FakeService, door: HttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_protocol, "HEAD_TIMEOUT_S", 0.3)
    for said in (b"", b"POST /v1/sql HTT", b"POST /v1/sql HTTP/1.1\r\nHost: loc"):
        with connected(door) as link:
            link.sendall(said)
            assert received(link) == b""
    assert service.asked == []


def test_an_idle_connection_may_wait_longer_than_a_head(door: HttpDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_protocol, "HEAD_TIMEOUT_S", 0.2)
    with connected(door) as link:
        for _ in range(2):
            link.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            until(link, b"alive")
            with connected(door) as silent:
                assert received(silent) == b"", "the time of a head is over"
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(link, b"alive")


def test_a_head_that_never_ends_is_cut(door: HttpDoor) -> None:
    with connected(door) as link:
        link.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_until_cut(link, b"X-Name: " + b"x" * 1000 + b"\r\n")


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /healthz\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00",
        b"POST /v1/sql HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/sql HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/sql HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_says_nothing_of_the_inside(door: HttpDoor, service: FakeService, request_line: bytes) -> None:
    with connected(door) as link:
        link.sendall(request_line)
        link.shutdown(socket.SHUT_WR)
        said = received(link)

    assert b"Traceback" not in said
    assert b"uvicorn" not in said
    assert service.asked == []


def test_pipelined_requests_are_answered_in_turn(door: HttpDoor, service: FakeService) -> None:
    service.pieces = [arrow(3)]
    with connected(door) as link:
        link.sendall(ASK + ASK.replace(b"Content-Length", b"Connection: close\r\nContent-Length"))
        said = received(link)

    assert said.count(b"HTTP/1.1 200 OK") == 2
    assert said.count(arrow(3)) == 2

"""Requests to a server that may not listen yet."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dagfusion_stack import http_probe

Answer = Callable[[bytes], bytes]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A server that answers one request."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer(connection.recv(65536)))

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/path"
        thread.join()


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi"),
        (lambda _: b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nhi", None),
        (lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", None),
        (lambda request: request, None),  # as a connection with itself
        (lambda _: b"", None),
    ],
)
def test_only_a_whole_answer_with_status_200_counts(answer: Answer, content: bytes | None) -> None:
    with answering(answer) as url:
        assert http_probe.content(url, timeout_s=5) == content


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert http_probe.content(f"http://127.0.0.1:{port}/", timeout_s=5) is None

"""What crosses the wire to an S3 server: a relay that writes down each request."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

REQUEST = re.compile(rb"^(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r$", re.MULTILINE)


@dataclass
class Recorded:
    """The requests of a relay so far, each as `METHOD /path`."""

    endpoint: str
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def recording(endpoint: str) -> Iterator[Recorded]:
    """Relay connections to the endpoint for the length of a `with` block."""
    target = urlsplit(endpoint)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        recorded = Recorded(f"http://127.0.0.1:{listener.getsockname()[1]}")
        accepting = threading.Thread(target=_accept, args=(listener, (target.hostname, target.port), recorded))
        accepting.start()
        try:
            yield recorded
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, target: tuple[str, int], recorded: Recorded) -> None:
    ends: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with contextlib.suppress(OSError):  # the listener was shut
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(target)
            ends += [near, far]
            threads += [
                threading.Thread(target=_relay, args=(near, far, recorded.requests)),
                threading.Thread(target=_relay, args=(far, near, None)),
            ]
            threads[-2].start()
            threads[-1].start()
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    for end in ends:
        end.close()


def _relay(source: socket.socket, sink: socket.socket, requests: list[str] | None) -> None:
    with contextlib.suppress(OSError):  # either end went
        while chunk := source.recv(1 << 16):
            if requests is not None:
                requests += [f"{method.decode()} {path.decode()}" for method, path in REQUEST.findall(chunk)]
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)

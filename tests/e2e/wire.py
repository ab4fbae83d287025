"""What crosses the wire to an S3 server: a relay that writes down each request."""

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

REQUEST = re.compile(rb"^(GET|HEAD|PUT|POST|DELETE) (\S+) HTTP/1\.1\r$", re.MULTILINE)


@dataclass
class Recorded:
    """The requests of a relay so far, each as `METHOD /path`.

    Attributes:
        damage: Changes the body of an answer that comes in one piece, until it has changed one.
    """

    endpoint: str
    requests: list[str] = field(default_factory=list)
    damage: Callable[[bytes], bytes] | None = None

    def sent(self, chunk: bytes) -> bytes:
        """Write down the requests in what is relayed."""
        self.requests += [f"{method.decode()} {path.decode()}" for method, path in REQUEST.findall(chunk)]
        return chunk

    def damaged(self, chunk: bytes) -> bytes:
        """Return what is relayed instead of a part of an answer."""
        if (damage := self.damage) is None:
            return chunk
        head, end, body = chunk.partition(b"\r\n\r\n") if chunk.startswith(b"HTTP/1.1 2") else (b"", b"", chunk)
        if not body or (changed := damage(body)) == body:
            return chunk
        self.damage = None
        return head + end + changed


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
                threading.Thread(target=_relay, args=(near, far, recorded.sent)),
                threading.Thread(target=_relay, args=(far, near, recorded.damaged)),
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


def _relay(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    with contextlib.suppress(OSError):  # either end went
        while chunk := source.recv(1 << 16):
            sink.sendall(change(chunk))
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)

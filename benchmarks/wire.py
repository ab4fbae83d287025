"""What crosses the wire to an S3 server: a relay that counts requests by kind, the objects read, and bytes.

It is for counting, never for timing: a relay in Python is slower than the server behind it.
"""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from urllib.parse import unquote, urlsplit

LIST, HEAD, GET, RANGED_GET = "LIST", "HEAD", "GET", "GET range"
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Traffic:
    """What was asked of a server.

    Attributes:
        requests: Their number by kind: `LIST`, `HEAD`, `GET` (of a whole object), `GET range`, or another method.
        bytes: Bytes of the answers' bodies, by kind.
        objects: The keys of the objects that were read.
    """

    requests: Mapping[str, int]
    bytes: Mapping[str, int]
    objects: frozenset[str]

    @property
    def object_bytes(self) -> int:
        """Bytes of objects, without those of listings."""
        return self.bytes.get(GET, 0) + self.bytes.get(RANGED_GET, 0)


class Meter:
    """Counts the traffic of one relay, which listens at `endpoint`. Thread-safe."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._requests, self._bytes, self._objects = Counter[str](), Counter[str](), set[str]()

    def add(self, kind: str, path: str) -> None:
        """Count one request."""
        with self._lock:
            self._requests[kind] += 1
            if kind in (GET, RANGED_GET):
                self._objects.add(unquote(path))

    def add_bytes(self, kind: str, count: int) -> None:
        """Count bytes of an answer's body."""
        with self._lock:
            self._bytes[kind] += count

    def take(self) -> Traffic:
        """Return the traffic since the last time, and start again from nothing."""
        with self._lock:
            taken = Traffic(dict(self._requests), dict(self._bytes), frozenset(self._objects))
            self._requests, self._bytes, self._objects = Counter(), Counter(), set()
        return taken


@contextlib.contextmanager
def metered(endpoint: str) -> Iterator[Meter]:
    """Relay connections to `endpoint` for the length of a `with` block."""
    target = urlsplit(endpoint)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = _Relay((target.hostname or "", target.port or 80), Meter(_url(listener)))
        accepting = threading.Thread(target=relay.accept, args=(listener,))
        accepting.start()
        try:
            yield relay.meter
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            relay.close()


class _Relay:
    """The connections of one relay, each served by a thread of its own."""

    def __init__(self, target: tuple[str, int], meter: Meter) -> None:
        self.meter = meter
        self._target = target
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the listener was shut
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                for end in (near, far):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._ends.append(end)
                self._threads.append(threading.Thread(target=self._serve, args=(near, far)))
                self._threads[-1].start()

    def close(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):  # closed by its peer
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _serve(self, near: socket.socket, far: socket.socket) -> None:
        with near, far, near.makefile("rb") as requests, far.makefile("rb") as answers, contextlib.suppress(OSError):
            while head := _read_head(requests):
                method, target, _ = head.decode("latin-1").split(" ", 2)
                far.sendall(head)
                _copy(requests, far, int(_headers(head).get("content-length", 0)))
                # Counted before it is passed on: who has the answer may look at the meter.
                kind = _kind(method, target, _headers(head))
                self.meter.add(kind, target.partition("?")[0])
                answer = _read_head(answers)
                near.sendall(answer)
                if method != "HEAD":
                    _copy_body(answers, near, _headers(answer), partial(self.meter.add_bytes, kind))


def _kind(method: str, target: str, headers: Mapping[str, str]) -> str:
    path, _, query = target.partition("?")
    if method != "GET":
        return method
    if "list-type=" in query or path.strip("/").count("/") == 0:
        return LIST
    return RANGED_GET if "range" in headers else GET


def _read_head(stream: BufferedReader) -> bytes:
    """Read up to the empty line; nothing at the end of the connection."""
    lines = []
    while line := stream.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _headers(head: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.decode("latin-1").splitlines()[1:])
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name}


def _copy_body(
    answers: BufferedReader, near: socket.socket, headers: Mapping[str, str], tell: Callable[[int], None]
) -> None:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        length = int(headers.get("content-length", 0))
        tell(length)
        _copy(answers, near, length)
        return
    size = -1
    while size and (size_line := answers.readline()):
        size = int(size_line.split(b";")[0], 16)
        tell(size)
        near.sendall(size_line)
        _copy(answers, near, size)
        near.sendall(answers.readline())


def _copy(source: BufferedReader, sink: socket.socket, length: int) -> None:
    while length and (chunk := source.read(min(length, _CHUNK_BYTES))):
        sink.sendall(chunk)
        length -= len(chunk)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"

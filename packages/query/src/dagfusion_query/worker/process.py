"""One worker: takes statements from its socket and runs them, one at a time, until the socket ends."""

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dagfusion_query.worker import limits
from dagfusion_query.worker.protocol import Decoder, Frame, Kind, encode

if TYPE_CHECKING:
    from dagfusion_query.worker.statements import Statements

_PIECES = 512  # sent at once, below the system's IOV_MAX


class Link:
    """The worker's end of the socket. `send` blocks while the service takes nothing: that is the flow control."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.settimeout(None)

    def frames(self) -> Iterator[Frame]:
        """Yield what the service says, until it closes its end."""
        decoder = Decoder()
        while True:
            while (frame := decoder.next()) is not None:
                yield frame
            count = self._socket.recv_into(decoder.room())
            if not count:
                return
            decoder.received(count)

    def send(self, *frames: Sequence[bytes | memoryview]) -> None:
        """Send encoded frames."""
        pieces = [memoryview(piece) for frame in frames for piece in frame]
        while pieces:
            sent = self._socket.sendmsg(pieces[:_PIECES])
            done = 0
            while done < len(pieces) and sent >= len(pieces[done]):
                sent -= len(pieces[done])
                done += 1
            del pieces[:done]
            if sent:
                pieces[0] = pieces[0][sent:]


def main(descriptor: int, service_pid: int) -> None:
    """Run a worker on an open socket."""
    limits.live_no_longer_than_the_service(service_pid)
    limits.go_first()
    limits.leave_no_core()
    link = Link(descriptor)
    frames = link.frames()
    statements = _configured(next(frames))
    link.send(encode(Kind.ready))
    work: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(frames, statements, work), name="dagfusion-listen", daemon=True).start()
    while True:
        frame = work.get()
        if frame.kind is Kind.configure:
            statements.configure(frame.head)
        else:
            statements.run(frame, link.send)


def _configured(frame: Frame) -> "Statements":
    """Make the engine, after the limits of threads are set, and limit memory once it is there."""
    from dagfusion_query.worker.statements import Statements  # noqa: PLC0415  # imports DataFusion, which takes 0.3 s

    statements = Statements(frame.head)
    statements.warm_up()
    limits.limit_memory(frame.head["memory_bytes"])
    return statements


def _listen(frames: Iterator[Frame], statements: "Statements", work: "queue.SimpleQueue[Frame]") -> None:
    """Hear of cancellations while a statement runs; end the process when the service is gone."""
    with contextlib.suppress(OSError):
        for frame in frames:
            if frame.kind is Kind.cancel:
                statements.cancel(frame.head["id"])
            else:
                work.put(frame)
    os._exit(0)

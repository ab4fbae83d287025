"""Worker process: its start, and its end of the socket to the service.

`python -m dagfusion_server.worker <socket> <file of the phase> <service's process id>`
"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dagfusion_query.fast_start import hide_pandas
from dagfusion_server.worker import limits
from dagfusion_server.worker.messages import Configuration, Decoder, Kind, Message, Phase, SocketClosedError, encode

if TYPE_CHECKING:
    from dagfusion_server.worker.statements import Statements


_PIECES = 512  # sent at once, below the system's IOV_MAX


class ServiceSocket:
    """The worker's end of the socket. `send` blocks while the service takes nothing: that is the flow control."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.settimeout(None)

    def messages(self) -> Iterator[Message]:
        """Yield what the service says, until it closes its end."""
        decoder = Decoder()
        while True:
            while (message := decoder.next()) is not None:
                yield message
            count = self._socket.recv_into(decoder.room())
            if not count:
                return
            decoder.received(count)

    def send(self, *messages: Sequence[bytes | memoryview]) -> None:
        """Send encoded messages.

        Raises:
            SocketClosedError: The service is gone.
        """
        pieces = [memoryview(piece) for message in messages for piece in message]
        while pieces:
            try:
                sent = self._socket.sendmsg(pieces[:_PIECES])
            except OSError as error:
                raise SocketClosedError from error
            done = 0
            while done < len(pieces) and sent >= len(pieces[done]):
                sent -= len(pieces[done])
                done += 1
            del pieces[:done]
            if sent:
                pieces[0] = pieces[0][sent:]


def main(descriptor: int, phase_file: int, service_pid: int) -> None:
    """Run a worker.

    Args:
        descriptor: The socket.
        phase_file: A file whose first byte says what the worker is at.
        service_pid: The process that started this one.
    """
    limits.live_no_longer_than_the_service(service_pid)
    limits.raise_oom_score()
    limits.leave_no_core()
    connection = ServiceSocket(descriptor)
    messages = connection.messages()
    statements = _configured(next(messages), lambda phase: _mark(phase_file, phase))
    connection.send(encode(Kind.ready))
    serve = partial(statements.serve, messages, connection.send)
    threading.Thread(target=serve, name="dagfusion-serve", daemon=True).start()
    serve()


def _mark(phase_file: int, phase: Phase) -> None:
    os.pwrite(phase_file, phase.value, 0)


def _configured(message: Message, mark: Callable[[Phase], None]) -> "Statements":
    """Make the engine, and limit memory once it is there."""
    hide_pandas()
    from dagfusion_server.worker.statements import Statements  # noqa: PLC0415  # imports DataFusion, which takes 0.2 s

    configuration = message.read(Configuration)
    statements = Statements(configuration, mark)
    statements.warm_up(configuration)
    limits.limit_memory(configuration.memory_bytes)
    return statements


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

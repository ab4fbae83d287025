"""Worker process: its end of the socket to the service."""

import socket
from collections.abc import Iterator, Sequence

from dagfusion_query.worker.messages import Decoder, Message, SocketClosedError

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

"""Connections of the HTTP door, with what uvicorn does not do: limits for the time and the length of request heads.

uvicorn's parser httptools waits without end for the rest of a head, and keeps all of it. So a few idle clients could
take all connections, and one long head all memory.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
HEAD_LIMIT_BYTES = 64 << 10
LINGER_S = 5.0
GOODBYE_S = 0.2
_HEAD = b"HTTP/1."


class HeadHolder:
    """A transport that sends the head of a response together with the bytes that follow it at once.

    uvicorn writes them one after the other. Two packets would wake the client twice, the first time for nothing.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes; a head is held until the next ones, or until the loop has nothing else to do now."""
        if self._head:
            data, self._head = self._head + data, b""
        elif bytes(data[: len(_HEAD)]) == _HEAD:
            self._head = bytes(data)
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Close the connection when what was written is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        """Return what holds no bytes back as the transport has it."""
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose request lines and headers must come soon and be short.

    The rest of a request that already has its response is read for a limited time, so that the client reads the
    response.
    """

    _in_head = True
    _in_message = False
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(cast("asyncio.Transport", HeadHolder(transport, self.loop)))
        self._end_after(HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; those of a head are counted."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """Expect a head; what ends a connection at once goes with the request."""
        super().on_message_begin()
        self.scope["state"]["abort"] = self.transport.abort
        self._in_head = self._in_message = True
        self._end_after(HEAD_TIMEOUT_S)

    def on_headers_complete(self) -> None:
        """Forget the head, which is there."""
        self._stop_timer()
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect nothing."""
        self._in_message = False
        if not self._in_head:
            self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Read the rest of the request, for a limited time."""
        if self._in_message:
            self._end_after(LINGER_S)
        super().on_response_complete()

    def shutdown(self) -> None:
        """Close the connection when its requests are answered; clients that only wait do not answer TLS's goodbye."""
        super().shutdown()
        if self.transport.is_closing():
            self._end_after(GOODBYE_S)

    def _end_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

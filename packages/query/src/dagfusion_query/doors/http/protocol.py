"""HTTP/1.1 for uvicorn, with limits for clients that say too much, or too little."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
HEAD_LIMIT_BYTES = 64 << 10
LINGER_S = 5.0
GOODBYE_S = 0.2


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose request lines and headers must come soon and be short.

    What is left of a request that has its answer already is taken for a while, so that the client reads the answer.
    """

    _in_head = True
    _in_message = False
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        super().connection_made(transport)
        self._end_after(HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; those of a head are counted."""
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
        self._go_on()
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect nothing."""
        self._in_message = False
        if not self._in_head:
            self._go_on()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Take what is left of the request, for a while."""
        if self._in_message:
            self._end_after(LINGER_S)
        super().on_response_complete()

    def shutdown(self) -> None:
        """Close the connection when its requests are answered; clients that only wait do not answer TLS's goodbye."""
        super().shutdown()
        if self.transport.is_closing():
            self._end_after(GOODBYE_S)

    def _end_after(self, seconds: float) -> None:
        self._go_on()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

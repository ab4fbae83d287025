"""The HTTP door: an application that listens, on the event loop that starts it."""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from dagfusion_query.doors.address import Address
from dagfusion_query.doors.http.protocol import BoundedProtocol

OPTION = "--http-address"
_KEEP_ALIVE_S = 65  # longer than proxies', so that none meets a connection that is just closed
_STOP_S = 2.0


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class HttpDoor:
    """The door at an address.

    Args:
        app: Answers.
        address: Where to listen.
        tls: For https.
        grace_s: Seconds that answers have to end when the door stops.
    """

    def __init__(
        self, app: ASGIApp, address: Address, *, tls: ssl.SSLContext | None = None, grace_s: float = _STOP_S
    ) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what it tells are clients' mistakes
        factory = None if tls is None else (lambda _config, _default: tls)
        self._address, self._scheme = address, "http" if tls is None else "https"
        self._server = _Server(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(grace_s),
                ssl_context_factory=factory,
            )
        )
        self._socket: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = address.port

    @property
    def url(self) -> str:
        """Where clients find it."""
        return self._address.url(self._scheme, self.port)

    def bind(self) -> socket.socket:
        """Take the address, so that nobody else does; clients are let in by `start`.

        Raises:
            SettingsError: The address is taken, or none of this machine.
        """
        self._socket = self._address.bind(OPTION)
        self.port = self._socket.getsockname()[1]
        return self._socket

    async def start(self) -> None:
        """Listen.

        Raises:
            SettingsError: As `bind`, if that was not called before.
        """
        bound = self._socket or self.bind()
        self._serving = asyncio.create_task(self._server.serve([bound]))
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.001)
        if self._serving.done():
            await self._serving

    async def stop(self) -> None:
        """Listen no more, and give answers that are under way a little time to end."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        elif self._socket is not None:
            self._socket.close()

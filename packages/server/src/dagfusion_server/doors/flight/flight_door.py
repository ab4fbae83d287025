"""The Flight SQL door: starts and stops the gRPC server together with the service."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from dagfusion_client.errors import SettingsError
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.address import Address
from dagfusion_server.doors.flight.flight_calls import LOOK_S, MIDDLEWARE, Bridge, Headers, NoHandshake
from dagfusion_server.doors.flight.flight_sessions import FlightSessions
from dagfusion_server.doors.flight.flight_sql_server import FlightSqlServer
from dagfusion_server.service.service import Service

_GRACE_S = 1.0


class FlightDoor:
    """Arrow Flight SQL on `settings.flight_address`.

    Args:
        service: Has been started.
        tokens: The access tokens.
        settings: Address, TLS, limits, and who needs no token.
    """

    def __init__(self, service: Service, tokens: Tokens, settings: ServiceSettings) -> None:
        self._service, self._tokens, self._settings = service, tokens, settings
        self._server: FlightSqlServer | None = None
        self._bridge: Bridge | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; 0 while it does not."""
        return 0 if self._server is None else int(self._server.port)

    @property
    def connections(self) -> int:
        """The number of open connections of clients."""
        return sum(1 for _ in _connections(self.port)) if self.port else 0

    async def start(self) -> None:
        """Open the door.

        Raises:
            SettingsError: The address cannot be listened on, or the certificate cannot be used.
        """
        settings = self._settings
        Address.parse(settings.flight_address, "DAGFUSION_FLIGHT_ADDRESS")
        self._bridge = Bridge(self._service.loop)
        options: dict[str, Any] = {
            "auth_handler": NoHandshake(),
            "middleware": {MIDDLEWARE: Headers(self._tokens, settings)},
        }
        scheme = "grpc+tcp"
        if settings.tls_certificate and settings.tls_key:
            scheme = "grpc+tls"
            certificate = _read("DAGFUSION_TLS_CERTIFICATE", settings.tls_certificate)
            options["tls_certificates"] = [(certificate, _read("DAGFUSION_TLS_KEY", settings.tls_key))]
        try:
            self._server = FlightSqlServer(
                self._service,
                FlightSessions(self._tokens, settings),
                self._bridge,
                settings.sql_limit_bytes,
                location=f"{scheme}://{settings.flight_address}",
                **options,
            )
        except (pa.ArrowException, OSError) as error:
            raise SettingsError(
                f"DAGFUSION_FLIGHT_ADDRESS {settings.flight_address} cannot be listened on: another program has the "
                f"port, the address is not this machine's, or the TLS certificate and its key do not belong together"
            ) from error

    async def stop(self) -> None:
        """Close the door: no new calls, and those that are in progress end within the grace and about two seconds."""
        if self._server is None or self._bridge is None:
            return
        server, self._server = self._server, None
        port = int(server.port)
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            server.shutdown()
            with contextlib.suppress(RuntimeError):  # a loop that is closed waits no more
                loop.call_soon_threadsafe(done.set)

        # gRPC waits for its calls without a limit: not on this loop, which they may need, nor in a pool that is joined.
        threading.Thread(target=shut_down, name="flight-shutdown", daemon=True).start()
        if await _within(self._settings.cancel_grace_s + _GRACE_S, done):
            return
        server.statements.close()
        self._bridge.close()  # who waits for rows hears that the service is stopping
        if not await _within(2 * LOOK_S, done):
            _cut(port)
            await _within(_GRACE_S, done)


async def _within(limit_s: float, done: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), limit_s)
    return done.is_set()


def _cut(port: int) -> None:
    """End this process's connections at a port: nothing else ends a call whose client takes nothing of its result."""
    for connection in _connections(port):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _connections(port: int) -> Iterator[socket.socket]:
    """Yield this process's connections with clients at a port. Each is closed when the next is taken.

    gRPC has no list of them.
    """
    for descriptor in list(Path("/dev/fd").iterdir()):
        try:
            duplicate = os.dup(int(descriptor.name))
        except OSError:  # it is closed by now
            continue
        try:
            connection = socket.socket(fileno=duplicate)
        except OSError:  # it is no socket, and the constructor leaves it open
            os.close(duplicate)
            continue
        with connection, contextlib.suppress(OSError):
            address = connection.getsockname()
            if isinstance(address, tuple) and address[1] == port:
                connection.getpeername()  # which the socket that listens does not have
                yield connection


def _read(variable: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{variable} must be a file that can be read, got {path}: {error.strerror}") from error

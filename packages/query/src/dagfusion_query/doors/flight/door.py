"""The Flight SQL door: opened and closed with the service."""

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa

from dagfusion_query.access.tokens import Tokens
from dagfusion_query.doors.address import Address
from dagfusion_query.doors.flight.bridge import Bridge
from dagfusion_query.doors.flight.server import FlightSqlServer
from dagfusion_query.doors.flight.session import MIDDLEWARE, Headers, NoHandshake, Sessions
from dagfusion_query.errors import SettingsError
from dagfusion_query.service.service import Service
from dagfusion_query.service_settings import ServiceSettings

_GRACE_S = 1.0


class FlightDoor:
    """Arrow Flight SQL on `settings.flight_address`.

    Args:
        service: Has been started.
        tokens: Who may enter.
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
                Sessions(self._tokens, settings),
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
        """Close the door: no new calls, and those that wait end within the grace and about two seconds.

        Calls whose clients take nothing may stay behind.
        """
        if self._server is None or self._bridge is None:
            return
        self._server.statements.close()
        # gRPC waits for its calls without a limit: not on this loop, which they may need, nor in a pool that is joined.
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down(server: FlightSqlServer) -> None:
            server.shutdown()
            loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, args=(self._server,), name="flight-shutdown", daemon=True).start()
        self._server = None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), self._settings.cancel_grace_s + _GRACE_S)
        self._bridge.close()  # what still waits now is nobody's to wait for
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _GRACE_S)


def _read(variable: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{variable} must be a file that can be read, got {path}: {error.strerror}") from error

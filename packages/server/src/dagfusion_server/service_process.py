"""The process of the service: starts and stops the catalogs, the workers and the doors."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import uvloop

from dagfusion_client.errors import SettingsError
from dagfusion_query.access.authentication import ANONYMOUS, Tokens, check
from dagfusion_query.access.grants import ALL, Caller
from dagfusion_query.access.secret_tokens import open_tokens
from dagfusion_query.config import Config
from dagfusion_server.doors import console
from dagfusion_server.doors.address import Address, tls_context
from dagfusion_server.doors.exposure import check_exposure, danger_of
from dagfusion_server.doors.flight.flight_door import FlightDoor
from dagfusion_server.doors.http.http_door import HttpDoor, create_app
from dagfusion_server.doors.iceberg.iceberg_routes import IcebergRoutes
from dagfusion_server.environments import Environments, EnvironmentState
from dagfusion_server.service.metrics import INTERVAL_S, CloudWatch
from dagfusion_server.service.service import Service
from dagfusion_server.service.tracing_variables import configured_traces
from dagfusion_server.worker.limits import leave_no_core

_log = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CATALOG_WAIT_S = 10.0  # for the list of tables; the first reading may well take longer
_RECHECK_S = 0.5  # between two looks at the tokens of running queries
_OPERATOR = Caller(ANONYMOUS, ALL, "serve")


@dataclass(frozen=True)
class Ready:
    """The addresses and environments of a service that takes statements.

    Attributes:
        urls: The URLs of the doors: HTTP, then Flight SQL.
        environments: As they are at the start.
    """

    urls: Sequence[str]
    environments: Sequence[EnvironmentState]


def serve(config: Config, announce: Callable[[Ready], None]) -> None:
    """Run the service until SIGINT or SIGTERM; a second one ends it at once.

    Args:
        config: All settings.
        announce: Called when both doors are open.

    Raises:
        SettingsError: A setting is not usable: an address, a certificate, a combination that is not safe.
        QueryError: It cannot start.
    """
    leave_no_core()
    config.make_folders()
    tokens = open_tokens(config.tokens_file)
    check_exposure(config.service, tokens)
    if (danger := danger_of(config.service, tokens)) is not None:
        _log.warning("%s", danger)
    uvloop.run(_Process(config, tokens).run(announce))


class _Process:
    """The running parts of the service."""

    def __init__(self, config: Config, tokens: Tokens) -> None:
        self._config, self._tokens = config, tokens
        self._stopping = asyncio.Event()

    async def run(self, announce: Callable[[Ready], None]) -> None:
        """Start everything, wait for a signal, and end everything."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        async with AsyncExitStack() as stack:
            environments = Environments(self._config)
            stack.push_async_callback(asyncio.to_thread, environments.close)
            dagster_urls = {one.name: one.own.dagster_url for one in self._config.environments if one.own.dagster_url}
            service = Service(self._config, environments, configured_traces(os.environ, dagster_urls))
            http, flight = self._doors(service)
            http.bind()
            stack.push_async_callback(_together, service.close, http.stop, flight.stop)
            catalogs = asyncio.to_thread(environments.refresh, _CATALOG_WAIT_S)
            if not await self._unless_stopping(asyncio.gather(service.start(), catalogs)):
                return
            await flight.start()
            await http.start()
            service.count_connections(lambda: {"http": http.connections, "flight": flight.connections})
            stack.callback(asyncio.create_task(self._recheck(service)).cancel)
            if (namespace := self._config.service.cloudwatch_namespace) is not None:
                cloudwatch = service.cloudwatch(namespace)
                stack.callback(_write, cloudwatch)  # of the last part of a minute
                stack.callback(asyncio.create_task(_write_periodically(cloudwatch)).cancel)
            announce(Ready((http.url, self._flight_url(flight.port)), [*service.environments(_OPERATOR).values()]))
            await self._stopping.wait()
            _log.info("stopping: running queries have %g s to end", self._config.service.cancel_grace_s)

    async def _recheck(self, service: Service) -> None:
        """Cancel the queries of callers who would be refused now: revoked and expired tokens, the first token."""
        while True:
            await asyncio.sleep(_RECHECK_S)
            try:
                with suppress(SettingsError):  # the doors say that the tokens cannot be read
                    service.recheck(lambda caller: check(self._tokens, self._config.service, caller))
            except Exception:  # noqa: BLE001  # whatever it is, the next look may be right
                _log.exception("the tokens of running queries were not looked at this time")

    def _doors(self, service: Service) -> tuple[HttpDoor, FlightDoor]:
        settings = self._config.service
        Address.parse(settings.flight_address, "DAGFUSION_FLIGHT_ADDRESS").bind("--flight-address").close()
        iceberg = IcebergRoutes(service, self._config, self._tokens, service.publishers)
        app = create_app(service, self._tokens, settings, [*console.routes(), *iceberg.mounts()])
        address = Address.parse(settings.http_address, "DAGFUSION_HTTP_ADDRESS")
        http = HttpDoor(app, address, tls=tls_context(settings), grace_s=settings.cancel_grace_s + 2)
        return http, FlightDoor(service, self._tokens, settings)

    def _flight_url(self, port: int) -> str:
        settings = self._config.service
        scheme = "grpc" if settings.tls_certificate is None else "grpc+tls"
        return Address.parse(settings.flight_address, "DAGFUSION_FLIGHT_ADDRESS").url(scheme, port)

    async def _unless_stopping(self, work: "asyncio.Future[Any]") -> bool:
        """Wait for some work; return False when a signal came before it was done."""
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if work.done():
            work.result()
            return True
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        return False

    def _signalled(self, number: int) -> None:
        if self._stopping.is_set():
            os._exit(128 + number)  # the workers end with this process
        self._stopping.set()


async def _write_periodically(cloudwatch: CloudWatch) -> None:
    while True:
        await asyncio.sleep(INTERVAL_S)
        _write(cloudwatch)


def _write(cloudwatch: CloudWatch) -> None:
    for line in cloudwatch.lines():
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _together(*steps: Callable[[], Awaitable[None]]) -> None:
    """Run all steps concurrently, and raise the first error when all have ended."""
    for outcome in await asyncio.gather(*(step() for step in steps), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome

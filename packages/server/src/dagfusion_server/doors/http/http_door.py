"""The HTTP door: one ASGI application, its endpoints about the service, and the server that listens for requests.

The server runs on the event loop that starts it.
"""

import asyncio
import contextlib
import logging
import math
import socket
import ssl
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from dagfusion_client.documents.query_documents import SessionDocument, StatusDocument
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import ForbiddenError, QueryError, ServiceUnavailableError
from dagfusion_query.access.authentication import ANONYMOUS, Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.address import Address
from dagfusion_server.doors.http.bounded_protocol import BoundedProtocol
from dagfusion_server.doors.http.catalog_routes import CatalogRoutes
from dagfusion_server.doors.http.middleware import AuthenticationMiddleware, SecurityMiddleware, caller_of
from dagfusion_server.doors.http.openapi import describe
from dagfusion_server.doors.http.requests_and_responses import document, problem, problem_response
from dagfusion_server.doors.http.statement_routes import QueryRoutes, StatementRoutes
from dagfusion_server.service.metrics import CONTENT_TYPE
from dagfusion_server.service.service import Service

OPTION = "--http-address"
_KEEP_ALIVE_S = 65  # longer than proxies', so that none meets a connection that is just closed
_STOP_S = 2.0


def api_routes(service: Service, settings: ServiceSettings) -> list[BaseRoute]:
    """Return the endpoints of the API."""
    groups = (
        StatementRoutes(service, settings),
        QueryRoutes(service),
        CatalogRoutes(service),
        StatusRoutes(service, settings),
    )
    return [route for group in groups for route in group.routes()]


def create_app(
    service: Service, tokens: Tokens, settings: ServiceSettings, pages: Sequence[BaseRoute] = ()
) -> Starlette:
    """Make the application.

    Args:
        service: Answers.
        tokens: Say who may ask.
        settings: Limits, and who needs no token.
        pages: What is served beside the API, to anybody: the console.
    """
    app = Starlette(
        routes=[*api_routes(service, settings), *pages],
        middleware=[
            Middleware(SecurityMiddleware),
            Middleware(AuthenticationMiddleware, tokens=tokens, settings=settings),
        ],
        exception_handlers={QueryError: _failed, HTTPException: _not_found},
    )
    app.router.redirect_slashes = False  # to a URL that a request's Host may have made up
    return app


class StatusRoutes:
    """The endpoints for probes, Prometheus and programs that look around."""

    def __init__(self, service: Service, settings: ServiceSettings) -> None:
        self._service, self._settings = service, settings
        self._version = version("dagfusion-query")

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        return [
            Route("/healthz", self.alive, methods=["GET"]),
            Route("/readyz", self.ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/v1/session", self.session, methods=["GET"]),
        ]

    async def alive(self, _: Request) -> Response:
        """Answer for as long as the process does."""
        return document(StatusDocument("alive"))

    async def ready(self, _: Request) -> Response:
        """Report whether statements can run. The request needs no token, so a reason is given by its code only."""
        problem = self._service.ready()
        if problem is None:
            return document(StatusDocument("ready"))
        text = "no statement can be run now: the service's log says why"
        return problem_response(ServiceUnavailableError.http_status, problem.code, text)

    async def metrics(self, request: Request) -> Response:
        """Return Prometheus's text; it counts all users' queries, so that only who may read everything may read it."""
        if not caller_of(request).grants.everything:
            raise ForbiddenError("metrics cover the queries of all users: send a token with the grant *")
        return Response(self._service.metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def openapi(self, _: Request) -> Response:
        """Return the description of this API."""
        return document(describe(self._version))

    async def session(self, request: Request) -> Response:
        """Return the caller."""
        caller = caller_of(request)
        return document(
            SessionDocument(
                user=caller.user,
                anonymous=caller.user == ANONYMOUS,
                everything=caller.grants.everything,
                version=self._version,
                engine=EngineChoice(self._settings.engine),
                spark=self._settings.spark_remote is not None,
            )
        )


async def _failed(request: Request, error: Exception) -> Response:
    return problem(error, method=request.method)


async def _not_found(_: Request, error: Exception) -> Response:
    """Answer what no route takes."""
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: "not_found", 405: "method_not_allowed"}
    texts = {404: "not found; see /openapi.json", 405: "method not allowed; see /openapi.json"}
    code = error.status_code
    return problem_response(
        code, codes.get(code, "bad_request"), texts.get(code, error.detail), dict(error.headers or {})
    )


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
        grace_s: Seconds that responses have to end when the door stops.
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
        """The URL for clients."""
        return self._address.url(self._scheme, self.port)

    @property
    def connections(self) -> int:
        """The number of open connections of clients."""
        return len(self._server.server_state.connections)

    def bind(self) -> socket.socket:
        """Bind the address. `start` accepts clients.

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
        """Stop listening, and give responses that are in progress a little time to end."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        elif self._socket is not None:
            self._socket.close()

"""The HTTP door as one ASGI application, and the endpoints about the service: health, metrics, OpenAPI, session."""

from collections.abc import Sequence
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dagfusion_query.access.authentication import ANONYMOUS, Tokens
from dagfusion_query.documents.queries import SessionDocument, StatusDocument
from dagfusion_query.doors.http.catalog_routes import CatalogRoutes
from dagfusion_query.doors.http.middleware import AuthenticationMiddleware, SecurityMiddleware, caller_of
from dagfusion_query.doors.http.openapi import describe
from dagfusion_query.doors.http.problems import answer, document, problem
from dagfusion_query.doors.http.sql import QueryRoutes, StatementRoutes
from dagfusion_query.errors import ForbiddenError, QueryError, UnknownTableError
from dagfusion_query.service.service import Service
from dagfusion_query.service_settings import ServiceSettings

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def api_routes(service: Service, settings: ServiceSettings) -> list[BaseRoute]:
    """Return the endpoints of the API."""
    rooms = (StatementRoutes(service, settings), QueryRoutes(service), CatalogRoutes(service), StatusRoutes(service))
    return [route for room in rooms for route in room.routes()]


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

    def __init__(self, service: Service) -> None:
        self._service = service
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
        return answer(503, problem.code, "no statement can be run now: the service's log says why")

    async def metrics(self, request: Request) -> Response:
        """Return Prometheus's text; it counts all users' queries, so that only who may read everything may read it."""
        if not caller_of(request).grants.everything:
            raise ForbiddenError("metrics cover the queries of all users: send a token with the grant *")
        return Response(self._service.metrics(), headers={"Content-Type": PROMETHEUS})

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
            )
        )


async def _failed(request: Request, error: Exception) -> Response:
    # A table that a path names is a resource; one that a statement names is a mistake in the statement.
    missing = isinstance(error, UnknownTableError) and request.method != "POST"
    return problem(error, status=404 if missing else None)


async def _not_found(_: Request, error: Exception) -> Response:
    """Answer what no route takes."""
    if not isinstance(error, HTTPException):
        raise error
    codes = {404: "not_found", 405: "method_not_allowed"}
    texts = {404: "not found; see /openapi.json", 405: "method not allowed; see /openapi.json"}
    code = error.status_code
    return answer(code, codes.get(code, "bad_request"), texts.get(code, error.detail), dict(error.headers or {}))

"""The HTTP door as one ASGI application."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from dagfusion_query.access.tokens import Tokens
from dagfusion_query.doors.http.gate import Gate
from dagfusion_query.doors.http.health import Health
from dagfusion_query.doors.http.metadata import Metadata
from dagfusion_query.doors.http.problems import answer, problem
from dagfusion_query.doors.http.shield import Shield
from dagfusion_query.doors.http.sql import Queries, Statements
from dagfusion_query.errors import QueryError, UnknownTableError
from dagfusion_query.service.service import Service
from dagfusion_query.service_settings import ServiceSettings


def api_routes(service: Service, settings: ServiceSettings) -> list[BaseRoute]:
    """Return the endpoints of the API."""
    rooms = (Statements(service, settings), Queries(service), Metadata(service), Health(service))
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
        middleware=[Middleware(Shield), Middleware(Gate, tokens=tokens, settings=settings)],
        exception_handlers={QueryError: _failed, HTTPException: _not_found},
    )
    app.router.redirect_slashes = False  # to a URL that a request's Host may have made up
    return app


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

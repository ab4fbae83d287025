"""How the service is, and who asks."""

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dagfusion_query.access.tokens import ANONYMOUS
from dagfusion_query.documents.session import SessionDocument, StatusDocument
from dagfusion_query.doors.http.gate import caller_of
from dagfusion_query.doors.http.openapi import describe
from dagfusion_query.doors.http.problems import answer, document
from dagfusion_query.errors import ForbiddenError
from dagfusion_query.service.service import Service

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Health:
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
        """Say whether statements can be run. Anybody may ask, so that a reason is named only by its code."""
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
        """Say who the caller is."""
        caller = caller_of(request)
        return document(
            SessionDocument(
                user=caller.user,
                anonymous=caller.user == ANONYMOUS,
                everything=caller.grants.everything,
                version=self._version,
            )
        )

"""Queries that run and ran: listed, looked at, cancelled."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from dagfusion_query.documents.queries import QueriesDocument
from dagfusion_query.doors.http.answers import document
from dagfusion_query.doors.http.gate import caller_of
from dagfusion_query.service.service import Service


class Queries:
    """The endpoints of queries."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        return [
            Route("/v1/queries", self.list, methods=["GET"]),
            Route("/v1/queries/{id}", self.show, methods=["GET"]),
            Route("/v1/queries/{id}", self.cancel, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Return the caller's queries, the newest first."""
        return document(QueriesDocument(self._service.queries(caller_of(request))))

    async def show(self, request: Request) -> Response:
        """Return what is known of one query, its error too."""
        return document(self._service.query(request.path_params["id"], caller_of(request)))

    async def cancel(self, request: Request) -> Response:
        """End a query."""
        return document(self._service.cancel(request.path_params["id"], caller_of(request)))

"""Statements: run, with the result as it comes, explained, listed and cancelled."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from dagfusion_query.access.authenticate import is_loopback
from dagfusion_query.documents.queries import QueriesDocument
from dagfusion_query.doors.http.gate import caller_of, client_of
from dagfusion_query.doors.http.negotiate import content_type, takes
from dagfusion_query.doors.http.problems import document
from dagfusion_query.doors.http.relay import Relay, departure
from dagfusion_query.doors.http.requests import read_query
from dagfusion_query.errors import QueryCancelledError
from dagfusion_query.service.query import Query
from dagfusion_query.service.running import Running
from dagfusion_query.service.service import Service
from dagfusion_query.service_settings import ServiceSettings

T = TypeVar("T")


class Statements:
    """The endpoints that run and explain statements."""

    def __init__(self, service: Service, settings: ServiceSettings) -> None:
        self._service, self._settings = service, settings

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        return [
            Route("/v1/sql", self.run, methods=["POST"]),
            Route("/v1/explain", self.explain, methods=["POST"]),
        ]

    async def run(self, request: Request) -> ASGIApp:
        """Run a statement; its query is cancelled when the client leaves."""
        query = await read_query(request, self._settings)
        leaving = asyncio.create_task(departure(request.receive))
        try:
            stream = await self._run(query, request, leaving)
        except BaseException:
            leaving.cancel()
            raise
        named = content_type(query.format, request.headers.get("accept", ""))
        zstd = not query.format.row.is_compressed and _wants_zstd(request)
        return Relay(stream, leaving, content_type=named, stall_s=self._settings.client_stall_s, zstd=zstd)

    async def explain(self, request: Request) -> Response:
        """Say what a statement would read, and why not more."""
        query = await read_query(request, self._settings, ("sql", "params"))
        leaving = asyncio.create_task(departure(request.receive))
        try:
            return document(await unless(leaving, self._service.explain(query, caller_of(request))))
        finally:
            leaving.cancel()

    async def _run(self, query: Query, request: Request, leaving: asyncio.Task[None]) -> Running:
        running = asyncio.ensure_future(self._service.run(query, caller_of(request)))
        try:
            return await unless(leaving, asyncio.shield(running))
        except BaseException:
            running.cancel()
            await asyncio.wait({running})
            if not running.cancelled() and running.exception() is None:
                await running.result().close()  # it came while the client went
            raise


async def unless(leaving: asyncio.Task[None], work: Awaitable[T]) -> T:
    """Return what some work gives, unless the client leaves before.

    Raises:
        QueryCancelledError: The client has left.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
    finally:
        task.cancel()
    raise QueryCancelledError("the client left while its statement was planned")


def _wants_zstd(request: Request) -> bool:
    """Tell whether compressing pays: on loopback bytes are cheaper than the time it takes."""
    return takes(request.headers.get("accept-encoding", ""), "zstd") and not is_loopback(client_of(request.scope))


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

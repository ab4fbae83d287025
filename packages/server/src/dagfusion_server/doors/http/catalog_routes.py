"""Endpoints of the catalog: the tables, columns and partitions that the caller may read, with an entity tag."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from dagfusion_client.as_of import read_as_of
from dagfusion_client.documents.catalog_documents import (
    BriefTableDocument,
    GenerationsDocument,
    PartitionsDocument,
    TableDocument,
    TablesDocument,
)
from dagfusion_client.errors import BadRequestError, UnknownTableError
from dagfusion_client.formats import Format
from dagfusion_client.settings import REVISIONS, REVISIONS_LIMIT
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Table
from dagfusion_server.doors.http.middleware import caller_of
from dagfusion_server.doors.http.requests_and_responses import document, number
from dagfusion_server.doors.table_documents import (
    brief_document,
    details_document,
    environment_document,
    history_document,
    nameless,
    page,
    partition_stream,
    totals,
)
from dagfusion_server.environments import EnvironmentState
from dagfusion_server.service.service import Service

PAGE_ROWS = 1000
PAGE_LIMIT_ROWS = 100_000
KEY_LIMIT = 4096
Listed = TableDocument | BriefTableDocument


class CatalogRoutes:
    """The endpoints of the catalog."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[BaseRoute]:
        """Return the endpoints."""
        return [
            Route("/v1/tables", self.tables, methods=["GET"]),
            Route("/v1/tables/{schema}/{table}", self.table, methods=["GET"]),
            Route("/v1/tables/{schema}/{table}/partitions", self.partitions, methods=["GET"]),
            Route("/v1/tables/{schema}/{table}/history", self.history, methods=["GET"]),
            Route("/v1/tables/{schema}/{table}/generations", self.revisions, methods=["GET"]),
            Route("/v1/tables/{schema}/{table}/diff", self.diff, methods=["GET"]),
        ]

    async def tables(self, request: Request) -> Response:
        """List environments and their tables."""
        caller = caller_of(request)
        states = self._service.environments(caller).values()
        wanted = request.query_params.get("tables", "brief")
        if wanted not in _LISTS:
            raise BadRequestError(f"tables must be one of {', '.join(_LISTS)}, got {wanted[:100]!r}")
        tag = entity_tag(states, wanted, *sorted(caller.grants.names))
        if is_known(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers={"ETag": tag})
        return await asyncio.to_thread(
            lambda: document(
                TablesDocument(
                    [environment_document(state) for state in states],
                    [table for state in states for table in _LISTS[wanted](state)],
                ),
                headers={"ETag": tag},
            )
        )

    async def table(self, request: Request) -> Response:
        """Describe one table."""
        state, table = self._find(request)
        return await asyncio.to_thread(lambda: document(details_document(state, table)))

    async def partitions(self, request: Request) -> Response:
        """Return a page of a table's partitions in JSON, or all in Arrow."""
        _, table = self._find(request)
        form = request.query_params.get("format", "json")
        if form == Format.arrow:
            return StreamingResponse(partition_stream(table), media_type=Format.arrow.media_type)
        if form != Format.json:
            raise BadRequestError(f"format must be json or arrow, got {form[:100]!r}")
        limit = number(request, "limit", PAGE_ROWS, PAGE_LIMIT_ROWS)
        offset = number(request, "offset", 0, 2**62)
        rows = await asyncio.to_thread(page, table, offset, limit)
        return document(PartitionsDocument(totals(table).files, rows))

    async def history(self, request: Request) -> Response:
        """Return the runs in Dagster of a table, or of one partition, also of a missing one."""
        state, table = self._find(request)
        key = request.query_params.get("partition_key")
        if key is not None and (len(key) > KEY_LIMIT or "\0" in key):
            raise BadRequestError(f"partition_key must be Dagster's key of a partition, got {key[:100]!r}")
        return document(history_document(key, await self._service.history(state.name, table.asset_key, key)))

    async def revisions(self, request: Request) -> Response:
        """Return what the latest runs wrote of a table."""
        limit = number(request, "limit", REVISIONS, REVISIONS_LIMIT)
        found = await self._service.revisions(_table_name(request), limit, caller_of(request))
        return document(GenerationsDocument(found))

    async def diff(self, request: Request) -> Response:
        """Compare two states of a table."""
        before, after = request.query_params.get("from"), request.query_params.get("to")
        if before is None:
            raise BadRequestError("from must be the event or the time of the first state")
        states = read_as_of(before), None if after is None else read_as_of(after)
        return document(await self._service.diff(_table_name(request), *states, caller_of(request)))

    def _find(self, request: Request) -> tuple[EnvironmentState, Table]:
        """Return the table that a path names.

        Raises:
            UnknownTableError: There is none that the caller may read.
            NameCollisionError: Two assets have tables of this name.
        """
        name = _table_name(request)
        for state in self._service.environments(caller_of(request)).values():
            if (table := state.snapshot.tables.get(name)) is not None:
                return state, table
            if (problem := state.snapshot.problems.get(name)) is not None:
                raise problem
        raise UnknownTableError(f"there is no table {str(name)[:200]}: /v1/tables lists all")


def _brief(state: EnvironmentState) -> list[Listed]:
    tables = {name: brief_document(state.name, table) for name, table in state.snapshot.tables.items()}
    problems = {
        name: BriefTableDocument(**nameless(state.name, name, problem))
        for name, problem in state.snapshot.problems.items()
    }
    return [shown for _, shown in sorted({**problems, **tables}.items())]


def _full(state: EnvironmentState) -> list[Listed]:
    tables = {name: details_document(state, table) for name, table in state.snapshot.tables.items()}
    problems = {
        name: TableDocument(**nameless(state.name, name, problem)) for name, problem in state.snapshot.problems.items()
    }
    return [shown for _, shown in sorted({**problems, **tables}.items())]


_LISTS: Mapping[str, Callable[[EnvironmentState], list[Listed]]] = {
    "brief": _brief,
    "full": _full,
    "none": lambda _: [],
}


def _table_name(request: Request) -> TableName:
    return TableName(request.path_params["schema"], request.path_params["table"])


_PROCESS = secrets.token_hex(8)  # generations may begin anew with another process
_AGE_STEP_S = 60


def entity_tag(states: Iterable[EnvironmentState], *conditions: str) -> str:
    """Return what changes with the catalog: with a generation, a problem, each minute that an environment lags behind.

    Args:
        states: The environments as the caller sees them.
        conditions: What else the response depends on, such as the caller's grants.
    """
    parts = [(state.name, state.snapshot.generation, str(state.current_problem), _age(state)) for state in states]
    digest = hashlib.blake2b(repr((_PROCESS, conditions, parts)).encode(), digest_size=16)
    return f'W/"{digest.hexdigest()}"'


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Return True if the client has the version of the catalog that the tag names."""
    tags = (part.strip().removeprefix("W/") for part in (if_none_match or "").split(","))
    return tag.removeprefix("W/") in tags


def _age(state: EnvironmentState) -> int | None:
    return None if state.lag is None else int(state.lag.age_s // _AGE_STEP_S)

"""A service in the test's own process: it answers what a test scripts, and remembers what it was asked."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import pyarrow as pa

from dagfusion_query.access.grants import Caller, restricted
from dagfusion_query.access.tokens import Tokens
from dagfusion_query.catalog.live import Lag
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.documents.failures import Failure
from dagfusion_query.documents.queries import ExplanationDocument, QueryInfo, State, Stats
from dagfusion_query.doors.address import Address, tls_context
from dagfusion_query.doors.http.app import create_app
from dagfusion_query.doors.http.listen import HttpDoor
from dagfusion_query.errors import QueryCancelledError, QueryError, UnknownQueryError
from dagfusion_query.event_log.history import History
from dagfusion_query.formats import Format
from dagfusion_query.service.registry import Query
from dagfusion_query.service.service import Service
from dagfusion_query.service_settings import ServiceSettings

ARROW = Format.arrow.media_type
Piece = bytes | QueryError | Exception | float  # bytes to send, an error to raise, seconds to wait


@dataclass
class FakeStream:
    """Gives its pieces one by one."""

    id: str
    pieces: Sequence[Piece]
    stats: Stats = field(default_factory=lambda: Stats(rows=1, files_total=3, files_read=1, generations={"uat": 7}))
    closed: threading.Event = field(default_factory=threading.Event)
    taken: int = 0

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        for piece in self.pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif isinstance(piece, bytes):
                self.taken += 1
                yield piece
            else:
                raise piece

    async def close(self) -> None:
        self.closed.set()


@dataclass(frozen=True)
class FakeEnvironment:
    name: str
    snapshot: Snapshot
    trouble: QueryError | None = None
    lag: Lag | None = None
    dagster_url: str | None = None


class FakeService:
    """Answers each statement with `pieces`, after `delay_s`, or with `error`."""

    def __init__(self) -> None:
        self.pieces: Sequence[Piece] = (arrow(1),)
        self.delay_s = 0.0
        self.error: Exception | None = None
        self.asked: list[tuple[Query, Caller]] = []
        self.streams: list[FakeStream] = []
        self.cancelled = threading.Event()
        self.catalog: dict[str, FakeEnvironment] = {}
        self.known: dict[str, QueryInfo] = {}
        self.problem: QueryError | None = None
        self.histories: dict[tuple[str, tuple[str, ...], str | None], History] = {}

    async def run(self, query: Query, caller: Caller) -> FakeStream:
        await self._ask(query, caller)
        stream = FakeStream(f"q{len(self.streams)}", self.pieces)
        self.streams.append(stream)
        return stream

    async def explain(self, query: Query, caller: Caller) -> ExplanationDocument:
        await self._ask(query, caller)
        return ExplanationDocument([], "l", "p", "splice")

    async def _ask(self, query: Query, caller: Caller) -> None:
        self.asked.append((query, caller))
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.error is not None:
            raise self.error

    def cancel(self, query_id: str, caller: Caller) -> QueryInfo:
        info = replace(self.query(query_id, caller), state=State.cancelled)
        self.known[query_id] = info
        return info

    def query(self, query_id: str, caller: Caller) -> QueryInfo:
        info = self.known.get(query_id)
        if info is None or (info.user != caller.user and not caller.grants.everything):
            raise UnknownQueryError(f"there is no query {query_id}")
        return info

    def queries(self, caller: Caller) -> Sequence[QueryInfo]:
        return [info for info in self.known.values() if info.user == caller.user or caller.grants.everything]

    def environments(self, caller: Caller) -> Mapping[str, FakeEnvironment]:
        return {
            name: replace(state, snapshot=restricted(state.snapshot, caller.grants, name))
            for name, state in self.catalog.items()
            if caller.grants.allow_environment(name)
        }

    async def history(self, environment: str, asset_key: Sequence[str], partition_key: str | None) -> History:
        return self.histories.get((environment, tuple(asset_key), partition_key), History([], None, None))

    def ready(self) -> QueryError | None:
        return self.problem

    def metrics(self) -> bytes:
        return b"dagfusion_queries_total 1\n"

    def remember(self, query_id: str, user: str, error: QueryError | None = None) -> None:
        """Know of a query."""
        said = None if error is None else Failure.of(error)
        state = State.finished if error is None else State.failed
        moment = datetime(2026, 1, 2, tzinfo=UTC)
        self.known[query_id] = QueryInfo(query_id, user, "http", "SELECT 1", state, moment, Stats(rows=5), said)


def arrow(rows: int) -> bytes:
    """An Arrow IPC stream with numbers from 0 on."""
    return stream_of(pa.table({"n": list(range(rows))}))


def stream_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def cancelled() -> QueryError:
    return QueryCancelledError("the query was cancelled by ann")


@contextmanager
def serving(
    service: FakeService, tokens: Tokens, settings: ServiceSettings, address: str = "127.0.0.1:0"
) -> Iterator[HttpDoor]:
    """Open the door on a thread with a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="http-door")
    thread.start()

    async def opened() -> HttpDoor:
        app, tls = create_app(cast("Service", service), tokens, settings), tls_context(settings)
        door = HttpDoor(app, Address.parse(address, "address"), tls=tls, grace_s=60)  # nothing here makes use of it
        await door.start()
        return door

    door = asyncio.run_coroutine_threadsafe(opened(), loop).result(30)
    try:
        yield door
    finally:
        try:
            asyncio.run_coroutine_threadsafe(door.stop(), loop).result(30)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(30)
            loop.close()

"""A service in the test's own process, for the doors: it answers what a test scripts, and remembers what it was asked.

It is a `Service` without workers and catalogs: each public method of it is one of the real service's, with its types.
"""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from dagfusion_client.documents.query_documents import ExplanationDocument, Failure, QueryInfo, State, Stats
from dagfusion_client.errors import QueryCancelledError, QueryError, UnknownQueryError, UnknownTableError
from dagfusion_client.returned_values import TableGeneration
from dagfusion_contract.naming import TableName
from dagfusion_query.access.grants import Caller, restricted
from dagfusion_query.catalog.live_catalog import Lag
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import History
from dagfusion_server.environments import EnvironmentState
from dagfusion_server.service.query_registry import Query
from dagfusion_server.service.running_query import ActiveQuery
from dagfusion_server.service.service import Service
from dagfusion_server.worker.messages import Mode

HANGS = math.inf
Piece = bytes | Exception | float  # bytes to send, an error to raise, seconds to wait; HANGS until it is cancelled
STATS = Stats(rows=1, files_total=4, files_read=1, files_skipped=3, generations={"uat": 7})


def environment(
    name: str,
    snapshot: Snapshot,
    problem: QueryError | None = None,
    lag: Lag | None = None,
    dagster_url: str | None = None,
) -> EnvironmentState:
    """Return an environment as it is now."""
    return EnvironmentState(name, snapshot, Path("nowhere"), problem, lag, dagster_url)


class FakeStream(ActiveQuery):
    """A query that gives its pieces one by one, each when it is asked for.

    Attributes:
        taken: Pieces of bytes that were taken so far.
        closed: Set when the door has closed it.
        ends_with: What it raises when it is cancelled.
    """

    def __init__(self, id_: str, schema: pa.Schema, pieces: Iterable[Piece], *, is_whole: bool = False) -> None:
        self.id, self._pieces, self._is_whole = id_, pieces, is_whole
        self._schema = schema.serialize()
        self.taken = 0
        self.closed = threading.Event()
        self.ends_with: QueryError = QueryCancelledError("the query was cancelled")
        self._cancelled = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """True if the result has one chunk at most."""
        return self._is_whole

    @property
    def stats(self) -> Stats:
        """The same of all queries."""
        return STATS

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        """Yield the bytes."""
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                self.taken += 1
            elif isinstance(piece, Exception):
                raise piece
            else:
                await self._wait(piece)
            if self._cancelled.is_set():
                raise self.ends_with

    async def _wait(self, seconds: float) -> None:
        if seconds == HANGS:
            await self._cancelled.wait()
        else:
            await asyncio.sleep(seconds)

    def cancel(self) -> None:
        """End it in the middle."""
        self._cancelled.set()

    async def close(self) -> None:
        """Remember that the door is done with it."""
        self._cancelled.set()
        self.closed.set()


@dataclass
class Result:
    """What a statement gives."""

    schema: pa.Schema
    batches: Callable[[], Iterable[pa.RecordBatch]]
    fails: Exception | None = None  # after the last batch
    refused: Exception | None = None  # before the first
    hangs: bool = False  # after the last batch
    waits: bool = False  # before the first
    at_once: bool = False  # all batches are one piece

    def pieces(self) -> Iterator[Piece]:
        """Yield the batches as pieces of an Arrow stream, each made when it is asked for."""
        sink = _Sink()
        with pa.ipc.new_stream(pa.PythonFile(sink, "w"), self.schema) as writer:
            for batch in self.batches():
                writer.write_batch(batch)
                if not self.at_once:
                    yield sink.take()
            if self.hangs:
                yield HANGS
            if self.fails is not None:
                yield self.fails
        yield sink.take()


def result(rows: pa.Table, **how: Any) -> Result:
    return Result(rows.schema, rows.to_batches, **how)


class _Sink:
    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None: ...

    def close(self) -> None: ...

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


class FakeService(Service):
    """Answers statements by their text, others with `pieces`, after `delay_s`; or all of them with `error`.

    Attributes:
        asked: The statements, and who asked.
        waiting: Statements that wait for their first piece.
        gone: Set when a client disconnects while its statement waits.
    """

    def __init__(
        self,
        catalog: Mapping[str, EnvironmentState] | None = None,
        results: Mapping[str, Result] | None = None,
        pieces: Sequence[Piece] | None = None,
    ) -> None:
        self.catalog = dict(catalog or {})
        self.results = dict(results or {})
        self.pieces = pieces
        self.delay_s = 0.0
        self.error: Exception | None = None
        self.asked: list[tuple[Query, Caller]] = []
        self.streams: list[FakeStream] = []
        self.waiting = 0
        self.gone = threading.Event()
        self.known: dict[str, QueryInfo] = {}
        self.page = 10_000  # the most queries of an answer
        self.problem: QueryError | None = None
        self.histories: dict[tuple[str, tuple[str, ...], str | None], History] = {}

    @property
    def open(self) -> list[FakeStream]:
        """The queries that the door has not closed."""
        return [stream for stream in self.streams if not stream.closed.is_set()]

    async def run(self, query: Query, caller: Caller, mode: Mode = Mode.run) -> FakeStream:  # noqa: ARG002  # as it is
        """Begin what the test has scripted."""
        found = await self._ask(query, caller)
        id_ = f"q{len(self.streams)}"
        if found is None:
            stream = FakeStream(id_, pa.schema([]), self.pieces or ())
        else:
            is_whole = found.at_once and not found.hangs and found.fails is None
            stream = FakeStream(id_, found.schema, found.pieces(), is_whole=is_whole)
            self.remember(id_, caller.user)
        self.streams.append(stream)
        return stream

    def described(self, query: Query, caller: Caller) -> pa.Schema | None:  # noqa: ARG002  # as it is
        """Return None: no statement was described before."""
        return None

    async def describe(self, query: Query, caller: Caller) -> pa.Schema:
        """Return the columns of what the test has scripted."""
        found = await self._ask(query, caller)
        return pa.schema([]) if found is None else found.schema

    async def explain(self, query: Query, caller: Caller) -> ExplanationDocument:
        """Return a short explanation."""
        await self._ask(query, caller)
        return ExplanationDocument([], "l", "p", "splice")

    async def _ask(self, query: Query, caller: Caller) -> Result | None:
        self.asked.append((query, caller))
        found = self.results.get(query.sql)
        if self.error is not None:
            await self._delay(self.delay_s)
            raise self.error
        if found is None and self.pieces is None:
            raise UnknownTableError(f"there is no statement {query.sql!r}: did you mean another?")
        if found is not None and found.refused is not None:
            raise found.refused
        await self._delay(HANGS if found is not None and found.waits else self.delay_s)
        return found

    async def _delay(self, seconds: float) -> None:
        self.waiting += 1
        try:
            await (asyncio.Event().wait() if seconds == HANGS else asyncio.sleep(seconds))
        except asyncio.CancelledError:
            self.gone.set()
            raise
        finally:
            self.waiting -= 1

    def cancel(self, query_id: str, caller: Caller) -> QueryInfo:
        """Cancel a query that is known."""
        info = replace(self.query(query_id, caller), state=State.cancelled)
        self.known[query_id] = info
        for stream in self.streams:
            if stream.id == query_id:
                stream.cancel()
        return info

    def query(self, query_id: str, caller: Caller) -> QueryInfo:
        """Return a query that is known to its user, or to who may read everything."""
        info = self.known.get(query_id)
        if info is None or (info.user != caller.user and not caller.grants.everything):
            raise UnknownQueryError(f"there is no query {query_id}")
        return info

    async def recorded_query(self, query_id: str, caller: Caller) -> QueryInfo:
        """Return a query that is known: there is no history."""
        return self.query(query_id, caller)

    async def recorded_queries(self, caller: Caller, limit: int, before: datetime | None = None) -> list[QueryInfo]:
        """Return the queries that are known and ended before a time, newest first."""
        own = [info for info in reversed(self.known.values()) if info.user == caller.user or caller.grants.everything]
        known = [info for info in own if before is None or (info.ended_at or before) < before]
        return known[: min(limit, self.page)]

    def environments(self, caller: Caller) -> Mapping[str, EnvironmentState]:
        """Return what the caller may know of the catalog."""
        return {
            name: replace(state, snapshot=restricted(state.snapshot, caller.grants, name))
            for name, state in self.catalog.items()
            if caller.grants.allow_environment(name)
        }

    async def history(self, environment: str, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Return what the test has told of a partition."""
        return self.histories.get((environment, tuple(asset_key), partition_key), History([], None, None))

    async def revisions(self, name: TableName, limit: int, caller: Caller) -> Sequence[TableGeneration]:  # noqa: ARG002
        """Return no past."""
        return []

    def ready(self) -> QueryError | None:
        """Return the test's problem."""
        return self.problem

    def metrics(self) -> bytes:
        """Return one figure."""
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

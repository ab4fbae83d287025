"""The fake service with a catalog and answers for the console, so that it meets every case at will.

The real application serves it. A word in a statement decides what it gives: `million`, `slow`, `stall`, `broken`,
`syntax`, `empty`, `kinds`.
"""

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa

from dagfusion_client.documents.query_documents import ExplanationDocument, Failure, QueryInfo, ScanStats, State, Stats
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import EnvironmentUnavailableError, QueryCancelledError, SqlSyntaxError, WorkerDiedError
from dagfusion_client.formats import Format
from dagfusion_client.returned_values import FilterEffect, ScanExplanation
from dagfusion_query.access.grants import Caller
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.event_log.event_log_interface import History, PlannedRun
from dagfusion_server.environments import EnvironmentState
from dagfusion_server.service.query_registry import Query
from dagfusion_server.worker.messages import Mode
from tests.server.doors.console.console_tables import (
    DAYS,
    ORGANIZATIONS,
    START,
    STATES,
    million_partitions,
    partitions,
    tables,
)
from tests.server.fake_service import HANGS, FakeService, FakeStream, Piece, Result, environment

DAGSTER = "http://localhost:3000"
SCAN = ScanStats("uat_silver_tax_id.partitioned_organizations", 18_241, 146, 93_000_000, 745_000)
STATS = Stats(
    files_total=18_241,
    files_read=146,
    files_skipped=18_095,
    bytes_read=745_000,
    result_bytes=52_000,
    requests=292,
    queued_s=0.001,
    planning_s=0.006,
    first_batch_s=0.042,
    total_s=0.088,
    generations={"uat": 7},
    path="splice",
    scans=[SCAN],
)
LEFT_OUT = replace(STATS, files_left_out=1200, warnings=["the result leaves out 1,200 partitions of t"])


class ConsoleStream(FakeStream):
    """A query with a cost of its own, which ends as its statement says."""

    def __init__(self, service: "ConsoleService", id_: str, schema: pa.Schema, pieces: Iterable[Piece]) -> None:
        super().__init__(id_, schema, pieces)
        self._service = service

    @property
    def stats(self) -> Stats:
        """What the service knows of it."""
        return self._service.known[self.id].stats


class ConsoleService(FakeService):
    """Answers statements by their words.

    Attributes:
        has_big_map: Whether the table of organizations has a million partitions.
        days: Days of its partitions, otherwise.
        hidden: Names of tables that are not in the catalog.
        generation: Of the catalog.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_big_map = False
        self.days = DAYS
        self.hidden: set[str] = set()
        self.generation = 7
        self._made: dict[tuple[int, bool], list[Table]] = {}
        self._cancelled: dict[str, asyncio.Event] = {}

    @property
    def statements(self) -> list[str]:
        """The statements that were run."""
        return [query.sql for query, _ in self.asked]

    def note_run(self, partition_key: str | None, status: str, created: datetime) -> None:
        """Have a run that was to materialize the organizations, or one partition of them."""
        at_us = (created - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        found = History([PlannedRun("0f1e2d3c-aaaa", at_us, status)], None, None)
        self.histories["uat", ORGANIZATIONS, partition_key] = found

    def environments(self, caller: Caller) -> Mapping[str, EnvironmentState]:
        """Return the environments, one of which is down."""
        key = self.generation, self.has_big_map
        if key not in self._made:
            self._made[key] = tables(million_partitions() if self.has_big_map else partitions(self.days))
        shown = {table.name: table for table in self._made[key] if table.name.table not in self.hidden}
        down = EnvironmentUnavailableError("the Dagster database of prod does not answer: tried again")
        self.catalog = {
            "uat": environment("uat", Snapshot(self.generation, "uat", shown), dagster_url=DAGSTER),
            "prod": environment("prod", Snapshot(0, "prod"), down, dagster_url=DAGSTER),
        }
        return super().environments(caller)

    async def run(self, query: Query, caller: Caller, mode: Mode = Mode.run) -> FakeStream:  # noqa: ARG002  # as it is
        """Begin what the words of the statement mean."""
        self.loop = asyncio.get_running_loop()
        self.asked.append((query, caller))
        id_ = f"q{len(self.known) + 1}"
        self.known[id_] = QueryInfo(id_, caller.user, caller.door, query.sql, State.running, datetime.now(UTC), STATS)
        check_syntax(query)
        if "slow" in query.sql:
            await self._until_cancelled(id_)
        rows = None if {"million", "stall", "broken"} & set(query.sql.split()) else result(query.sql)
        pieces = self._streamed(id_, query.sql) if rows is None else iter([encoded(rows, query.format)])
        state = State.streaming if rows is None else State.finished
        left_out = LEFT_OUT if "archived" in query.sql else STATS
        if query.engine is EngineChoice.spark:
            left_out = replace(left_out, path="spark")
        self._note(id_, state=state, stats=replace(left_out, rows=0 if rows is None else len(rows)))
        stream = ConsoleStream(self, id_, MILLION if rows is None else rows.schema, pieces)
        self.streams.append(stream)
        return stream

    async def explain(self, query: Query, caller: Caller) -> ExplanationDocument:  # noqa: ARG002  # as it is
        """Return an explanation with filters of each kind."""
        check_syntax(query)
        keys = [f"2024-01-{day:02}|CA" for day in range(5, 29)]
        scan = ScanExplanation(**vars(SCAN), partitions=keys, uris=[], filters=FILTERS)
        return ExplanationDocument([scan], PLAN, PLAN, "splice")

    def cancel(self, query_id: str, caller: Caller) -> QueryInfo:
        """Cancel a query, also one that waits for its first rows."""
        if (waiting := self._cancelled.get(query_id)) is not None:
            waiting.set()
        return super().cancel(query_id, caller)

    def stop(self, query_id: str) -> None:
        """End a query that waits for its first rows. Called on another thread."""
        self.loop.call_soon_threadsafe(self._cancelled[query_id].set)

    def break_off(self, query_id: str) -> None:
        """End a query that streams with an error. Called on another thread."""
        [stream] = [stream for stream in self.streams if stream.id == query_id]
        stream.ends_with = DIED
        self._note(query_id, state=State.failed, error=Failure.of(DIED))
        self.loop.call_soon_threadsafe(stream.cancel)

    async def _until_cancelled(self, query_id: str) -> None:
        cancelled = self._cancelled[query_id] = asyncio.Event()
        try:
            await cancelled.wait()
        finally:  # or the client has left
            self._note(query_id, state=State.cancelled)
        raise QueryCancelledError("the query was cancelled")

    def _streamed(self, query_id: str, sql: str) -> Iterator[Piece]:
        if "stall" in sql:  # some rows, then nothing more until it is cancelled
            yield from itertools.islice(million(), 3)
            yield HANGS
        elif "broken" in sql:
            yield from itertools.islice(million(), 2)
            self._note(query_id, state=State.failed, error=Failure.of(DIED))
            yield DIED
        else:
            yield from million()
            self._note(query_id, state=State.finished)

    def _note(self, query_id: str, **changes: object) -> None:
        self.known[query_id] = replace(self.known[query_id], **changes)  # type: ignore[arg-type]


FILTERS = [
    FilterEffect('state = Utf8("CA")', 17_883, "partition values"),
    FilterEffect('date >= Date32("2024-01-05")', 200, "partition values"),
    FilterEffect("npi > Int64(100000)", 12, "statistics"),
    FilterEffect('name LIKE Utf8("%clinic%")', 0, "nothing"),
]
PLAN = "Projection: npi, name\n  Filter: name LIKE '%clinic%'\n    TableScan: partitioned_organizations"
DIED = WorkerDiedError("the worker crashed during this statement")
MILLION = pa.schema([("id", pa.int64()), ("label", pa.string()), ("value", pa.float64())])


def check_syntax(query: Query) -> None:
    """Raise an error with a place, if the statement shall have one."""
    if "syntax" in query.sql:
        raise SqlSyntaxError("Expected: an expression, found: fron", 2, 6)


def result(sql: str) -> pa.Table:
    if "empty" in sql:
        return pa.table({"npi": pa.array([], pa.int64())})
    if "kinds" in sql:
        return kinds()
    names = ["Alder Street Clinic", "Bay Dental", None, "", "Cedar Pediatrics", "Dune Imaging"]
    dates = [START + timedelta(day) for day in range(48)]
    return pa.table(
        {
            "npi": pa.array([1003000126 + 7 * number for number in range(48)], pa.int64()),
            "name": pa.array([names[number % 6] for number in range(48)]),
            "state": pa.array([STATES[number % 3] for number in range(48)]),
            "date": pa.array([dates[number // 3] for number in range(48)]),
            "score": pa.array([round(((number * 37) % 101) / 7, 3) for number in range(48)]),
        }
    )


def kinds() -> pa.Table:
    """One row of what a cell may hold."""
    moment = datetime(2024, 1, 15, 12, 30, 5, 123456, UTC)
    return pa.table(
        {
            "big": pa.array([9_007_199_254_740_993], pa.int64()),
            "price": pa.array([Decimal("-1234.50")], pa.decimal128(12, 2)),
            "at": pa.array([moment], pa.timestamp("us", "UTC")),
            "nanos": pa.array([1_705_321_805_123_456_789], pa.timestamp("ns")),
            "day": pa.array([date(1969, 12, 31)]),
            "flag": pa.array([True]),
            "bytes": pa.array([b"\x01\xff"]),
            "list": pa.array([[1, None, 3]]),
            "struct": pa.array([{"a": 1, "b": "x"}]),
            "wait": pa.array([timedelta(seconds=61.5)], pa.duration("us")),
        }
    )


def million(batches: int = 100, rows: int = 10_000) -> Iterator[bytes]:
    def batch(number: int) -> pa.RecordBatch:
        ids = pa.array(range(number * rows, (number + 1) * rows), pa.int64())
        labels = pa.array([f"row {each}" for each in range(number * rows, (number + 1) * rows)])
        return pa.record_batch([ids, labels, ids.cast(pa.float64())], schema=MILLION)

    pieces = Result(MILLION, lambda: map(batch, range(batches))).pieces()
    return (piece for piece in pieces if isinstance(piece, bytes))


def encoded(table: pa.Table, form: Format) -> bytes:
    encoder = form.encoder(table.schema)
    pieces = [piece for batch in table.to_batches() for piece in encoder.write(batch)]
    return b"".join(map(bytes, [*pieces, *encoder.finish()]))

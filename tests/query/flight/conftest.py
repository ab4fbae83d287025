"""A Flight door over a service that is only an event loop and some tables."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from pyarrow import flight

from dagfusion_contract.naming import TableName
from dagfusion_query.access.grants import Caller, restricted
from dagfusion_query.access.tokens import Tokens
from dagfusion_query.catalog.model import Snapshot, Table, files_schema
from dagfusion_query.documents.queries import ExplanationDocument, Stats
from dagfusion_query.doors.flight import messages
from dagfusion_query.doors.flight.door import FlightDoor
from dagfusion_query.errors import QueryCancelledError, QueryError, UnknownQueryError, UnknownTableError
from dagfusion_query.service.registry import Query
from dagfusion_query.service_settings import ServiceSettings

T = TypeVar("T")


def table(schema: str, name: str, columns: pa.Schema, partition: pa.Schema | None = None) -> Table:
    partition = partition or pa.schema([])
    files = files_schema(partition, pa.struct([])).empty_table()
    return Table((schema, name), TableName(schema, name), columns, partition, f"{schema}.{name}", files)


def snapshot(environment: str, *tables: Table) -> Snapshot:
    return Snapshot(1, environment, MappingProxyType({table.name: table for table in tables}))


@dataclass(frozen=True)
class State:
    """As `dagfusion_query.catalog.environments.EnvironmentState`."""

    name: str
    snapshot: Snapshot
    trouble: QueryError | None = None
    lag: None = None
    dagster_url: str | None = None


class Stream:
    """What a fake query gives: batches as chunks of an Arrow stream, each made when it is asked for."""

    stats = Stats(files_total=4, files_read=1, files_skipped=3)

    def __init__(self, id_: str, result: "Result", closed: Callable[[str], None]) -> None:
        self.id, self.schema, self._result, self._closed = id_, result.schema, result, closed
        self.given = 0
        self.is_closed = False
        self.stopped = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        sink = Pieces()
        with pa.ipc.new_stream(pa.PythonFile(sink, "w"), self.schema) as writer:
            for batch in self._result.batches():
                writer.write_batch(batch)
                if self._result.at_once:
                    continue
                yield sink.take()
                self.given += 1
                if self.is_closed:
                    raise QueryCancelledError("the query was cancelled")
            if self._result.hangs:
                await self.stopped.wait()
                raise QueryCancelledError("the query was cancelled")
            if self._result.fails is not None:
                raise self._result.fails
        yield sink.take()

    async def close(self) -> None:
        self.is_closed = True
        self.stopped.set()
        self._closed(self.id)


class Pieces:
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


@dataclass
class Result:
    """What a statement gives in the fake service."""

    schema: pa.Schema
    batches: Callable[[], Sequence[pa.RecordBatch] | Iterator[pa.RecordBatch]]
    fails: Exception | None = None  # after the last batch
    refused: Exception | None = None  # before the first
    hangs: bool = False  # after the last batch
    waits: bool = False  # before the first
    at_once: bool = False  # all batches are one chunk


def result(rows: pa.Table, **how: Any) -> Result:
    return Result(rows.schema, rows.to_batches, **how)


@dataclass
class FakeService:
    """Statements by their text; see the contract of `dagfusion_query.service.service.Service`."""

    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    asked: list[tuple[Query, Caller]] = field(default_factory=list)
    streams: dict[str, Stream] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    waiting: int = 0
    owners: dict[str, str] = field(default_factory=dict)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def _result(self, query: Query, caller: Caller) -> Result:
        self.asked.append((query, caller))
        if query.sql not in self.results:
            raise UnknownTableError(f"there is no statement {query.sql!r}: did you mean another?")
        found = self.results[query.sql]
        if found.refused is not None:
            raise found.refused
        return found

    async def run(self, query: Query, caller: Caller) -> Stream:
        found = self._result(query, caller)
        if found.waits:
            self.waiting += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.waiting -= 1
        id_ = f"q{len(self.streams)}"
        self.streams[id_] = Stream(id_, found, self.open.discard)
        self.open.add(id_)
        self.owners[id_] = caller.user
        return self.streams[id_]

    async def describe(self, query: Query, caller: Caller) -> pa.Schema:
        return self._result(query, caller).schema

    def query(self, query_id: str, caller: Caller) -> Mapping[str, str]:
        if self.owners.get(query_id) != caller.user:
            raise UnknownQueryError(f"there is no query {query_id}")
        return {"id": query_id}

    async def explain(self, query: Query, caller: Caller) -> ExplanationDocument:
        self._result(query, caller)
        return ExplanationDocument([], "l", "p", "splice")

    def cancel(self, query_id: str, caller: Caller) -> None:
        self.query(query_id, caller)
        self.streams[query_id].is_closed = True
        self.streams[query_id].stopped.set()

    def environments(self, caller: Caller) -> Mapping[str, State]:
        return {
            name: State(name, restricted(found, caller.grants, name))
            for name, found in self.snapshots.items()
            if caller.grants.allow_environment(name)
        }


class Doors:
    """Opens Flight doors over fake services, on loops in threads of their own."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.tokens = Tokens(folder / "tokens.json")
        self._closing = closing
        self._stops: dict[FlightDoor, Callable[[], None]] = {}

    def open(self, service: FakeService, **settings: Any) -> FlightDoor:
        """Open a door on a free port."""
        made = replace(ServiceSettings(flight_address="127.0.0.1:0"), **settings)
        door = FlightDoor(service, self.tokens, made)  # type: ignore[arg-type]  # it is no more than the contract
        run = self._closing.enter_context(running(service.loop))
        run(door.start())
        self._stops[door] = lambda: run(door.stop())
        self._closing.callback(self._stops[door])
        return door

    def stop(self, door: FlightDoor) -> None:
        """Close one of the doors."""
        self._stops[door]()


@contextmanager
def running(loop: asyncio.AbstractEventLoop) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    with ExitStack() as closing:
        yield Doors(tmp_path, closing)


ORDERS = pa.table({"id": [1, 2, 3], "name": ["a", None, "c"]})


@pytest.fixture
def service() -> FakeService:
    return FakeService(
        {
            "uat": snapshot(
                "uat",
                table(
                    "uat_sales",
                    "orders",
                    pa.schema({"id": pa.int64(), "price": pa.decimal128(12, 2)}),
                    pa.schema({"date": pa.date32()}),
                ),
                table("uat_sales", "raw_orders", pa.schema({"id": pa.int64()})),
                table("uat_health", "orgs", pa.schema({"npi": pa.int64(), "name": pa.string()})),
            ),
            "prod": snapshot("prod", table("prod_sales", "orders", pa.schema({"id": pa.int64()}))),
        },
        {"select * from orders": result(ORDERS)},
    )


def url(door: FlightDoor) -> str:
    return f"grpc://127.0.0.1:{door.port}"


@pytest.fixture
def adbc(door: FlightDoor) -> Iterator[flight_sql.Connection]:
    with flight_sql.connect(url(door), autocommit=True) as connection:
        yield connection


@pytest.fixture
def client(door: FlightDoor) -> Iterator[flight.FlightClient]:
    with flight.connect(url(door)) as connection:
        yield connection


def command(name: str, **fields: Any) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(messages.packed(name, **fields))


def query(client: flight.FlightClient, sql: str, options: flight.FlightCallOptions | None = None) -> pa.Table:
    info = client.get_flight_info(command("CommandStatementQuery", query=sql), options)
    return client.do_get(info.endpoints[0].ticket, options).read_all()


def act(client: flight.FlightClient, action: str, body: bytes = b"", headers: Any = ()) -> list[bytes]:
    options = flight.FlightCallOptions(headers=list(headers))
    return [answer.body.to_pybytes() for answer in client.do_action(flight.Action(action, body), options)]


@pytest.fixture
def door(doors: Doors, service: FakeService) -> FlightDoor:
    return doors.open(service)


@pytest.fixture
def door_url(door: FlightDoor) -> str:
    return url(door)

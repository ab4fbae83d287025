"""A query's states, from what a worker sends: the messages are written here, and no process is started."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import orjson
import pyarrow as pa
import pytest

from dagfusion_client.documents import codec
from dagfusion_client.documents.query_documents import ExplanationDocument, QueryInfo
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import (
    InternalError,
    RemoteEngineError,
    RemoteEngineUnavailableError,
    ResourcesError,
    StaleObjectError,
    WorkerDiedError,
)
from dagfusion_query.access.grants import ALL, Caller
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.service import running_query, worker_handle
from dagfusion_server.service.admission import Admission
from dagfusion_server.service.query_registry import Query, Registry
from dagfusion_server.service.repeated_statements import RepeatedStatements
from dagfusion_server.service.running_query import ActiveQuery, ServiceParts
from dagfusion_server.service.spark_tables import SparkTables
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import Cost, End, Kind, Message, Mode, Planned, SparkRun
from tests.server.service.workers import CONFIGURATION, FakeProcess

ANN = Caller("ann", ALL, "http")
SCHEMA = pa.schema({"a": pa.int64()})
Step = Message | Exception
Begin = Callable[..., ActiveQuery]


def message(kind: Kind, head: object, body: bytes | memoryview = b"") -> Message:
    return Message(kind, orjson.loads(codec.encode(head)), body)


PLAN = Planned(planning_s=0.1, generations={"uat": 1}, cached=False, scans=[], path="catalog")
COST = Cost(
    first_batch_s=0.1,
    files_read=0,
    bytes_read=0,
    requests=None,
    requests_s=0.0,
    copies_found=0,
    copies_fetched=0,
    rows=1,
    result_bytes=3,
    truncated=False,
)
PLANNED, END = message(Kind.planned, PLAN, memoryview(SCHEMA.serialize())), message(Kind.end, End(COST))
FIRST, SECOND = Message(Kind.data, {}, b"a"), Message(Kind.data, {}, b"b")
NO_SPARK = SparkTables(ServiceSettings(), None, {})


class Scripted:
    """In place of a worker: gives the messages of a script."""

    def __init__(self, script: list[Step]) -> None:
        self._steps = list(script)
        self.is_released = False

    async def begin(self, *_: object) -> None: ...

    async def next(self) -> Message:
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def end(self) -> Message | None:
        return self._steps.pop(0) if self._steps[:1] == [END] else None  # type: ignore[return-value]

    def stop(self, _: Exception) -> None: ...

    def release(self) -> None:
        self.is_released = True


class Workers:
    """A pool whose workers follow scripts, one after another."""

    def __init__(self, *scripts: list[Step]) -> None:
        self._scripts = list(scripts)

    def lease_idle(self) -> Scripted:
        self.leased = Scripted(self._scripts.pop(0))
        return self.leased


class Nothing:
    """The metrics and the environments, as far as they are asked."""

    def planned(self, **_: object) -> None: ...

    def over(self, *_: object) -> None: ...

    def refresh(self, _: float) -> None: ...

    def states(self) -> dict[str, object]:
        return {}


def parts(registry: Registry, workers: Any, admission: Admission, traces: Any = None) -> ServiceParts:
    nothing: Any = Nothing()
    unknown = RepeatedStatements(nothing, 0)
    return ServiceParts(
        ServiceSettings(), nothing, registry, workers, admission, nothing, nothing, NO_SPARK, unknown, traces
    )


@pytest.fixture
def opened() -> Callable[..., tuple[ActiveQuery, Registry]]:
    """Open a query whose workers follow these scripts, one after another."""

    def open_one(*scripts: list[Step], mode: Mode = Mode.run) -> tuple[ActiveQuery, Registry]:
        registry, workers, admission = Registry(10), Workers(*scripts), Admission(1, 1, 10, 10)
        shared = parts(registry, workers, admission)
        return ActiveQuery(shared, Query("SELECT 1"), ANN, mode), registry

    return open_one


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize("script", [[PLANNED, FIRST, END], [PLANNED, FIRST, SECOND, END], [PLANNED, END]])
def test_the_bytes_come_in_order_and_the_stats_are_final(opened: Any, script: list[Message]) -> None:
    async def test() -> None:
        query, registry = opened(script)
        assert await query.begin() is query
        assert query.schema == SCHEMA
        assert query.is_complete is (len(script) < 4)
        assert [bytes(piece) async for piece in query] == [bytes(f.body) for f in script if f.kind is Kind.data]
        assert (query.is_complete, query.stats.rows, query.stats.path) == (True, 1, "catalog")
        assert [info.state for info in registry.infos(ANN)] == ["finished"]

    run(test)


def test_an_error_on_the_way_is_raised_and_remembered(opened: Any) -> None:
    async def test() -> None:
        query, registry = opened([PLANNED, FIRST, ResourcesError("too much")])
        await query.begin()
        pieces = aiter(query)
        assert await anext(pieces) == b"a"
        with pytest.raises(ResourcesError, match="too much"):
            await anext(pieces)
        assert [info.error.code for info in registry.infos(ANN)] == ["resources"]

    run(test)


def test_leaving_cancels_what_is_not_finished(opened: Any) -> None:
    async def test() -> None:
        query, registry = opened([PLANNED, FIRST, SECOND, END])
        await query.begin()
        await query.close()
        await query.close()
        assert [info.state for info in registry.infos(ANN)] == ["cancelled"]

    run(test)


def test_a_stale_object_starts_it_over(opened: Any) -> None:
    async def test() -> None:
        query, _ = opened([StaleObjectError("replaced")], [PLANNED, SECOND, END])
        await query.begin()
        assert [bytes(piece) async for piece in query] == [b"b"]

    run(test)


class Remote:
    """In place of the tables of Spark: sends each statement to the server."""

    def __init__(self, chosen: EngineChoice) -> None:
        self._chosen = chosen
        self.interrupted: list[SparkRun] = []

    def choice(self, *_: object) -> EngineChoice:
        return self._chosen

    async def run(self, *_: object) -> SparkRun:
        return SparkRun(operation="o", pins={})

    def interrupt(self, run: SparkRun) -> None:
        self.interrupted.append(run)


REFUSED, LOST = RemoteEngineError("refused"), RemoteEngineUnavailableError("lost")


def on_spark(choice: EngineChoice, *script: Step) -> tuple[ActiveQuery, Remote]:
    """Open a query that the server runs as in a script, after a worker planned it, and then a worker."""
    remote: Any = Remote(choice)
    workers = Workers([PLANNED, END], list(script), [PLANNED, SECOND, END])
    shared = replace(parts(Registry(10), workers, Admission(1, 1, 10, 10)), spark=remote)
    return ActiveQuery(shared, Query("SELECT 1"), ANN, Mode.run), remote


def test_auto_runs_here_what_the_server_refuses() -> None:
    async def test() -> None:
        query, remote = on_spark(EngineChoice.auto, PLANNED, REFUSED)
        await query.begin()
        assert [bytes(piece) async for piece in query] == [b"b"]
        assert [run.operation for run in remote.interrupted] == ["o"]
        assert query.stats.path == "catalog"

    run(test)


@pytest.mark.parametrize(("choice", "error"), [(EngineChoice.spark, REFUSED), (EngineChoice.auto, LOST)])
def test_other_errors_of_the_server_are_raised(choice: EngineChoice, error: RemoteEngineError) -> None:
    async def test() -> None:
        query, _ = on_spark(choice, PLANNED, error)
        with pytest.raises(RemoteEngineError, match=str(error)):
            await query.begin()

    run(test)


def test_rows_that_the_client_has_are_not_followed_by_others() -> None:
    async def test() -> None:
        query, _ = on_spark(EngineChoice.auto, PLANNED, FIRST, REFUSED)
        await query.begin()
        pieces = aiter(query)
        assert await anext(pieces) == b"a"
        with pytest.raises(RemoteEngineError, match="refused"):
            await anext(pieces)

    run(test)


def test_what_only_plans_gives_the_schema_and_the_explanation(opened: Any) -> None:
    async def test() -> None:
        described, registry = opened([PLANNED, message(Kind.end, End())], mode=Mode.describe)
        assert (await described.begin()).schema == SCHEMA
        assert registry.infos(ANN) == []
        found = ExplanationDocument([], "l", "p", "splice", generations={"uat": 1})
        explained, _ = opened([PLANNED, message(Kind.end, End(explanation=found))], mode=Mode.explain)
        assert (await explained.begin()).explanation == found

    run(test)


class Hasty(FakeProcess):
    """A process that sends rows and no plan."""

    is_ready = True

    async def send(self, kind: Kind, *_: object) -> None:
        await super().send(kind)
        if kind is Kind.statement:
            self.say(FIRST, END)


@pytest.mark.parametrize("mode", [Mode.run, Mode.describe])
def test_rows_without_a_plan_are_a_fault_of_the_worker(monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    async def test() -> None:
        registry, pool = Registry(10), Pool(1, lambda: CONFIGURATION, 1 << 30, 0.01)
        await pool.start()
        with pytest.raises(WorkerDiedError, match="crashed during this statement"):
            await ActiveQuery(parts(registry, pool, Admission(1, 1, 0, 0)), Query("SELECT 1"), ANN, mode).begin()
        assert [info.state for info in registry.infos(ANN)] == ["failed"]
        await pool.close()

    monkeypatch.setattr(worker_handle, "WorkerProcess", Hasty)
    run(test)


def test_a_fault_before_the_statement_is_sent_gives_the_worker_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(_: object) -> bytes:
        raise MemoryError

    async def test() -> None:
        registry, workers = Registry(10), Workers([])
        admission = Admission(1, 1, 10, 10)
        shared = parts(registry, workers, admission)
        with pytest.raises(InternalError, match="internal error"):
            await ActiveQuery(shared, Query("SELECT 1"), ANN, Mode.run).begin()
        assert workers.leased.is_released
        assert [info.state for info in registry.infos(ANN)] == ["failed"]

    monkeypatch.setattr(running_query, "encode_parameters", damaged)
    run(test)


def test_the_trace_has_the_requests_for_local_copies() -> None:
    fetch = TableFetch("local_default.t", 2, 30, 0.1, 0.2)
    given = list[Any]()

    class Traces:
        def over(self, *arguments: object) -> None:
            given.extend(arguments)

    async def test() -> None:
        registry, admission = Registry(10), Admission(1, 1, 0, 0)
        workers = Workers([PLANNED, FIRST, message(Kind.end, End(COST, fetches=[fetch]))])
        shared = parts(registry, workers, admission, Traces())
        query = await ActiveQuery(shared, Query("SELECT 1"), ANN, Mode.run).begin()
        assert [bytes(chunk) async for chunk in query] == [b"a"]

    run(test)
    assert [*given[-1]] == [fetch]


class Recorded(list[str]):
    """A history that is a list of ids."""

    def record(self, info: QueryInfo, _: str) -> None:
        self.append(info.id)


def test_an_answer_goes_before_its_accounts_and_these_before_the_next_request() -> None:
    async def test() -> None:
        history = Recorded()
        registry, workers = Registry(10, history), Workers([PLANNED, FIRST, END])  # type: ignore[arg-type]
        query = await ActiveQuery(
            parts(registry, workers, Admission(1, 1, 0, 0)), Query("SELECT 1"), ANN, Mode.run
        ).begin()
        assert [bytes(chunk) async for chunk in query] == [b"a"]
        assert ([entry.info.id for entry in registry.running], history) == ([query.id], [])  # a shutdown waits for it
        assert registry.info(query.id, ANN).ended_at is not None
        query.stop(InternalError("too late"))

        async def next_request() -> list[str]:
            return [*history]

        assert await asyncio.create_task(next_request()) == [query.id]
        assert registry.running == []
        [info] = registry.infos(ANN)
        assert (info.state, info.ended_at is None) == ("finished", False)

    run(test)


def test_a_query_that_failed_is_accounted_before_its_error() -> None:
    async def test() -> None:
        history = Recorded()
        registry, workers = Registry(10, history), Workers([PLANNED, InternalError("broken")])  # type: ignore[arg-type]
        query = ActiveQuery(parts(registry, workers, Admission(1, 1, 0, 0)), Query("SELECT 1"), ANN, Mode.run)
        with pytest.raises(InternalError, match="broken"):
            await query.begin()
        assert (registry.running, history) == ([], [query.id])

    run(test)


class Broken:
    """Traces, or a history, that fail."""

    def over(self, *_: object) -> str:
        raise ValueError

    record = over


@pytest.mark.parametrize("broken", ["traces", "history"])
def test_a_fault_of_traces_or_of_the_history_costs_no_place(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        history, traces = (Broken(), None) if broken == "history" else (None, Broken())
        registry, admission = Registry(10, history), Admission(1, 1, 0, 0)  # type: ignore[arg-type]
        workers = Workers([PLANNED, FIRST, END], [PLANNED, FIRST, END])
        shared = parts(registry, workers, admission, traces)
        for _ in range(2):
            query = await ActiveQuery(shared, Query("SELECT 1"), ANN, Mode.run).begin()
            assert [bytes(chunk) async for chunk in query] == [b"a"]
        await asyncio.sleep(0)  # the queries are accounted after their answers
        assert registry.running == []
        assert [info.state for info in registry.infos(ANN)] == ["finished", "finished"]

    run(test)
    assert len([record for record in caplog.records if record.exc_info is not None]) == 2

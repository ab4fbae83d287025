"""A worker and its statement, over a process that is written here: what its query gets, and when it is given back."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace

import orjson
import pytest

from dagfusion_client.documents import codec
from dagfusion_client.documents.query_documents import Failure
from dagfusion_client.errors import (
    InternalError,
    PlanError,
    QueryCancelledError,
    QueryError,
    ResourcesError,
    SnapshotError,
    WorkerDiedError,
)
from dagfusion_server.service import worker_handle
from dagfusion_server.service.worker_handle import TOO_MUCH_MEMORY, Handle, NeverStarted, WorkerState
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import Configuration, Kind, Message, Mode, Phase, Statement
from tests.server.service.workers import FakeProcess, until

CONFIGURATION = Configuration(folders=[], memory_bytes=1, settings={}, environments={})
STATEMENT = Statement(id="1", sql="SELECT 1", limit_rows=1, limit_bytes=1, environments={}, grants=["*"])
READY, PLANNED, DATA, END = (Message(kind) for kind in (Kind.ready, Kind.planned, Kind.data, Kind.end))
FAILED = Message(Kind.failed, orjson.loads(codec.encode(Failure.of(PlanError("no such column")))))
CANCELLED = QueryCancelledError("by the test")


Test = Callable[[Handle, FakeProcess, list[bool]], Coroutine[object, object, None]]


@pytest.fixture
def leased(monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Run a test with a leased worker, its process, and how it was given back each time: warm, or not."""
    monkeypatch.setattr(worker_handle, "WorkerProcess", FakeProcess)

    def run(test: Test) -> None:
        async def within() -> None:
            given_back: list[bool] = []
            worker = Handle(lambda _, warm: given_back.append(warm), lambda _: None, 0.01, 1 << 30)
            process: FakeProcess = worker.process  # type: ignore[assignment]
            process.say(READY)
            assert await worker.start(CONFIGURATION)
            worker.lease()
            async with asyncio.timeout(30):
                await test(worker, process, given_back)

        asyncio.run(within())

    return run


async def statement(worker: Handle, process: FakeProcess, mode: Mode = Mode.run) -> None:
    await worker.begin(replace(STATEMENT, mode=mode), b"")
    process.phase = Phase.running


def test_the_end_gives_a_warm_worker_back(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process)
        process.say(PLANNED, DATA, END)
        assert [(await worker.next()).kind for _ in range(2)] == [Kind.planned, Kind.data]
        assert given_back == []
        assert worker.end() is END
        assert (worker.life.state, given_back) == (WorkerState.idle, [True])

    leased(test)


def test_only_the_end_is_taken_before_it_is_waited_for(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process)
        process.say(PLANNED)
        assert worker.end() is None
        assert await worker.next() is PLANNED
        assert given_back == []

    leased(test)


def test_a_failed_statement_gives_back_a_worker_that_may_rest(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process)
        process.say(FAILED)
        with pytest.raises(PlanError, match="no such column"):
            await worker.next()
        assert (worker.life.state, given_back) == (WorkerState.idle, [False])

    leased(test)


def test_an_error_for_the_operator_is_hidden_and_logged(
    leased: Callable[[Test], None], caplog: pytest.LogCaptureFixture
) -> None:
    async def test(worker: Handle, process: FakeProcess, _: list[bool]) -> None:
        await statement(worker, process)
        process.say(Message(Kind.failed, orjson.loads(codec.encode(Failure.of(SnapshotError("/state is damaged"))))))
        with pytest.raises(InternalError) as raised:
            await worker.next()
        assert "/state" not in str(raised.value)
        assert "/state is damaged" in caplog.text

    leased(test)


@pytest.mark.parametrize("is_reading", [True, False])
def test_a_stopped_statement_is_read_to_its_end(leased: Callable[[Test], None], *, is_reading: bool) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process)
        reader = asyncio.create_task(worker.next()) if is_reading else None
        await asyncio.sleep(0)
        worker.stop(CANCELLED)
        worker.stop(QueryCancelledError("a second time"))
        assert (worker.life.state, process.told) == (
            WorkerState.stopping,
            [Kind.configure, Kind.statement, Kind.cancel],
        )
        process.say(PLANNED, DATA, END)
        with pytest.raises(QueryCancelledError, match="by the test"):
            await (worker.next() if reader is None else reader)
        await until(lambda: bool(given_back))
        assert (worker.life.state, given_back) == (WorkerState.idle, [False])

    leased(test)


def test_the_messages_of_a_fetch_are_returned_after_its_stop(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process, Mode.fetch)
        reader = asyncio.create_task(worker.next())
        await asyncio.sleep(0)
        worker.stop(CANCELLED)
        process.say(DATA, DATA, FAILED)
        assert [await reader, await worker.next()] == [DATA, DATA]
        assert given_back == []
        with pytest.raises(QueryCancelledError, match="by the test"):
            await worker.next()
        assert (worker.life.state, given_back) == (WorkerState.idle, [False])

    leased(test)


def test_a_stopped_fetch_without_a_reader_is_read_to_its_end(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process, Mode.fetch)
        worker.stop(CANCELLED)
        with pytest.raises(QueryCancelledError, match="by the test"):
            await worker.next()
        process.say(DATA, DATA, END)
        await until(lambda: bool(given_back))
        assert (worker.life.state, given_back) == (WorkerState.idle, [False])

    leased(test)


def test_a_worker_that_a_statement_waits_for_is_no_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the release of the worker and the next step of the statement."""

    async def test() -> None:
        pool = Pool(1, lambda: CONFIGURATION, 1 << 30, 0.01)
        await pool.start()
        worker, _ = await pool.lease(), await pool.lease()
        waiting = [asyncio.create_task(pool.lease()) for _ in range(2)]
        await asyncio.sleep(0)
        for statement in waiting:
            worker.release()
            assert pool.lease_spare(CANCELLED) is None
            assert await statement is worker
        worker.release()
        assert pool.lease_spare(CANCELLED) is worker
        await pool.close()

    monkeypatch.setattr(worker_handle, "WorkerProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "is_ready", True)
    asyncio.run(test())


def test_a_worker_that_does_not_yield_is_killed_after_the_grace(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process)
        worker.stop(CANCELLED)
        await until(lambda: bool(given_back))
        assert (worker.life.state, worker.life.kill_reason, given_back) == (WorkerState.gone, "cancelled", [False])

    leased(test)


@pytest.mark.parametrize(
    ("phase", "reason", "error"),
    [
        (Phase.planning, "", WorkerDiedError),
        (Phase.running, TOO_MUCH_MEMORY, ResourcesError),
        (Phase.idle, "", NeverStarted),
    ],
)
def test_what_ended_a_worker_is_told(
    leased: Callable[[Test], None], phase: Phase, reason: str, error: type[Exception]
) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await worker.begin(STATEMENT, b"")
        process.phase = phase
        worker.kill(reason)
        assert worker.life.state is WorkerState.lost
        with pytest.raises(error):
            await worker.next()
        assert (worker.life.state, given_back) == (WorkerState.gone, [False])

    leased(test)


def test_a_closed_socket_means_that_the_statement_never_started(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        process.is_closed = True
        with pytest.raises(NeverStarted):
            await worker.begin(STATEMENT, b"")
        assert (worker.life.state, given_back) == (WorkerState.gone, [False])

    leased(test)


def test_a_malformed_message_kills_the_worker(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process)
        process.is_malformed = True
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            await worker.next()
        assert (worker.life.kill_reason, given_back) == ("it sent a malformed message", [False])

    leased(test)


@pytest.mark.parametrize("message", [DATA, END])
def test_a_result_without_its_plan_kills_the_worker(leased: Callable[[Test], None], message: Message) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        await statement(worker, process)
        process.say(message, END)
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            await worker.next()
        assert (worker.life.kill_reason, given_back) == ("it sent a malformed message", [False])

    leased(test)


def test_a_worker_without_a_statement_is_released_once(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        worker.release()
        worker.release()
        worker.stop(QueryError("too late"))
        assert (worker.life.state, given_back, process.told) == (WorkerState.idle, [True], [Kind.configure])

    leased(test)


def test_a_stop_gives_a_worker_without_a_statement_back(leased: Callable[[Test], None]) -> None:
    async def test(worker: Handle, process: FakeProcess, given_back: list[bool]) -> None:
        worker.stop(QueryError("a fault before the statement was sent"))
        assert (worker.life.state, given_back, process.told) == (WorkerState.idle, [True], [Kind.configure])

    leased(test)

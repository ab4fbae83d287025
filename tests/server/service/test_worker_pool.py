"""Workers as processes: they come up, die in every way, and are replaced; a statement always comes to its end."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from dagfusion_client.errors import (
    QueryCancelledError,
    QueryError,
    ResourcesError,
    ServiceUnavailableError,
    WorkerDiedError,
)
from dagfusion_server.service.worker_handle import NeverStarted, WorkerState
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import Kind, Message
from tests.query.disk import SmallDisk
from tests.server.service.workers import (
    CONFIGURATION,
    ENDLESS,
    ENDLESS_ROWS,
    MEMORY,
    begin,
    messages,
    pool,
    rest,
    rows,
    run,
    statement,
    until,
)

pytestmark = pytest.mark.usefixtures("processes")


def test_a_statement_is_planned_sent_and_ended() -> None:
    async def test(workers: Pool) -> None:
        worker = await begin(workers, "SELECT value FROM generate_series(1, 3)")
        planned, *data, end = [message async for message in messages(worker)]
        assert (planned.kind, {message.kind for message in data}, end.kind) == (Kind.planned, {Kind.data}, Kind.end)
        assert pa.ipc.read_schema(pa.py_buffer(planned.body)).names == ["value"]
        assert (end.head["cost"]["rows"], end.head["cost"]["result_bytes"]) == (
            3,
            sum(len(message.body) for message in data),
        )
        assert worker.life.state is WorkerState.idle
        assert await workers.lease() is worker, "the one that is warm comes first"

    run(test)


def test_workers_start_when_there_is_room_again(small_disk: SmallDisk) -> None:
    async def test() -> None:
        async with asyncio.timeout(50):
            small_disk.fill()
            workers = Pool(1, lambda: CONFIGURATION, MEMORY, 0.3)
            with pytest.raises(ResourcesError, match="no worker can be started because the folder for temporary files"):
                await workers.start()
            small_disk.empty()
            async with pool() as made:
                assert await rows(made) == 1

    asyncio.run(test())


def test_there_is_a_spare_and_both_take_statements() -> None:
    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        first, second = await workers.lease(), await workers.lease()
        assert first is not second
        assert workers.busy == 2

    run(test)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "SIGKILL: Killed"), (signal.SIGSEGV, "SIGSEGV: Segmentation fault")]
)
def test_the_death_of_a_worker_is_told_with_its_cause(number: signal.Signals, said: str) -> None:
    async def test(workers: Pool) -> None:
        worker = await begin(workers, ENDLESS_ROWS)
        while (await worker.next()).kind is not Kind.data:
            pass
        os.kill(worker.process.pid, number)
        with pytest.raises(WorkerDiedError, match=f"while running \\({said}\\)"):
            await rest(worker)
        assert await rows(workers) == 1, "the spare has taken over"
        await until(lambda: workers.live == 2)
        assert workers.restarts == {"died": 1}
        assert not psutil.pid_exists(worker.process.pid)

    run(test)


def test_a_worker_that_dies_while_it_plans_says_so() -> None:
    async def test(workers: Pool) -> None:
        worker = await begin(workers, f"SELECT {'+'.join(['1'] * 20_000)}")
        await until(lambda: worker.process.phase.name == "planning")
        os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match="while planning"):
            await worker.next()

    run(test)


def test_a_worker_that_died_before_the_statement_is_not_the_statement_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_server.service.worker_pool.is_stopped", lambda _: False)

    async def test(workers: Pool) -> None:
        worker = await workers.lease()
        os.kill(worker.process.pid, signal.SIGSTOP)  # it will never read it
        await until(lambda: psutil.Process(worker.process.pid).status() == psutil.STATUS_STOPPED)
        await worker.begin(statement("SELECT 1"), b"")
        os.kill(worker.process.pid, signal.SIGKILL)
        with pytest.raises(NeverStarted):
            await worker.next()
        await asyncio.shield(worker.process.exited)
        with pytest.raises(NeverStarted):
            await worker.begin(statement("SELECT 1"), b"")

    run(test)


def test_a_worker_that_somebody_stops_is_replaced() -> None:
    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        for pid in workers.pids:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: workers.restarts == {"stopped": 2} and workers.live == 2)
        worker = await begin(workers, ENDLESS)
        await until(lambda: worker.process.phase.name == "running")
        os.kill(worker.process.pid, signal.SIGSTOP)
        with pytest.raises(WorkerDiedError, match="the statement was stopped"):
            await rest(worker)
        assert await rows(workers) == 1

    run(test)


def test_a_worker_that_was_killed_is_not_leased_before_its_exit() -> None:
    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        worker = await workers.lease()
        worker.release()
        worker.kill("by the test")
        assert workers.live == 1
        assert await workers.lease() is not worker
        assert await workers.lease() is not worker, "it waits for the one that replaces it"
        assert workers.restarts == {"by the test": 1}

    run(test)


def test_a_worker_that_took_half_a_statement_is_replaced() -> None:
    async def test(workers: Pool) -> None:
        worker = await workers.lease()
        worker.process._socket.shutdown(socket.SHUT_WR)
        with pytest.raises(NeverStarted):
            await worker.begin(statement("SELECT 1"), b"")
        assert worker.life.state is WorkerState.gone
        assert await rows(workers) == 1
        await until(lambda: workers.restarts == {"died": 1} and workers.live == 2)

    run(test)


def test_a_statement_that_is_stopped_while_it_is_sent_ends_with_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_server.service.worker_pool.is_stopped", lambda _: False)

    async def test(workers: Pool) -> None:
        worker = await workers.lease()
        os.kill(worker.process.pid, signal.SIGSTOP)
        begun = asyncio.create_task(worker.begin(statement("SELECT 1"), b" " * (32 << 20)))  # more than a socket takes
        await until(lambda: worker.life.state is WorkerState.sending)
        worker.stop(QueryCancelledError("by the test"))
        assert worker.life.state is WorkerState.lost
        with pytest.raises(QueryCancelledError, match="by the test"):
            await begun
        await until(lambda: worker.life.state is WorkerState.gone)
        assert await rows(workers) == 1

    run(test, grace_s=60)


def test_a_statement_that_is_stopped_leaves_an_idle_worker() -> None:
    async def test(workers: Pool) -> None:
        worker = await begin(workers, "SELECT value FROM generate_series(1, 1000000000)")
        while (await worker.next()).kind is not Kind.data:
            pass
        worker.stop(QueryCancelledError("by the test"))
        assert worker.life.state is WorkerState.stopping
        await until(lambda: not worker.life.is_leased)
        assert (worker.life.state, worker.life.kill_reason) == (WorkerState.idle, "")

    run(test, grace_s=60)


def test_a_worker_that_hears_nothing_is_killed_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "dagfusion_server.service.worker_pool.is_stopped", lambda _: False
    )  # as on systems without /proc

    async def test(workers: Pool) -> None:
        worker = await begin(workers, ENDLESS)
        os.kill(worker.process.pid, signal.SIGSTOP)
        worker.stop(QueryCancelledError("by the test"))
        with pytest.raises(QueryCancelledError, match="by the test"):
            await worker.next()
        await until(lambda: worker.life.exit_code == -signal.SIGKILL)
        await until(lambda: workers.restarts == {"cancelled": 1})

    run(test)


def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    async def test(workers: Pool) -> None:
        worker = await begin(workers, "SELECT value, repeat('x', 100) FROM generate_series(1, 300000)")
        received, waits = b"", 0
        while True:
            try:
                async with asyncio.timeout(0.0005):
                    message: Message = await worker.next()
            except TimeoutError:
                waits += 1
                continue
            if message.kind is Kind.end:
                break
            received += bytes(message.body) if message.kind is Kind.data else b""
        assert waits > 0
        assert pa.ipc.open_stream(received).read_all().num_rows == 300_000

    run(test)


def test_memory_is_watched_from_outside_too() -> None:
    async def test() -> None:
        async with asyncio.timeout(50), pool(limit_bytes=64 << 20) as workers:
            worker = await begin(workers, "SELECT array_agg(x) FROM generate_series(1, 30000000) a(x)")
            with pytest.raises(ResourcesError, match="DAGFUSION_WORKER_MEMORY_BYTES"):
                await rest(worker)
            await until(lambda: workers.restarts == {"memory": 1})
            assert await rows(workers) == 1

    asyncio.run(test())


def test_many_leases_wait_for_few_workers() -> None:
    async def test(workers: Pool) -> None:
        assert await asyncio.gather(*(rows(workers) for _ in range(30))) == [1] * 30
        given_up = [asyncio.create_task(rows(workers)) for _ in range(10)]
        await asyncio.sleep(0.005)
        for task in given_up[::2]:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        assert await rows(workers) == 1

    run(test)


def test_workers_that_cannot_come_up_are_an_error_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text(
        f'#!/bin/sh\n[ -e {tmp_path}/well ] || {{ echo no luck >&2; exit 3; }}\nexec {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    async def broken() -> None:
        with pytest.raises(ServiceUnavailableError, match=r"exit code 3: no luck"):
            async with pool():
                raise AssertionError

    asyncio.run(broken())

    async def test() -> None:
        (tmp_path / "well").touch()
        async with asyncio.timeout(50), pool() as workers:
            (tmp_path / "well").unlink()
            for worker in (await workers.lease(), await workers.lease()):
                os.kill(worker.process.pid, signal.SIGKILL)
                await asyncio.shield(worker.process.exited)
                assert workers.busy > 0
                worker.release()
            assert workers.live == 0
            await until(lambda: workers.problem() is not None)
            assert isinstance(workers.problem(), QueryError)
            with pytest.raises(ServiceUnavailableError, match="no worker can be started") as refused:
                await workers.lease()
            assert "no luck" not in str(refused.value)
            (tmp_path / "well").touch()
            await until(lambda: workers.live > 0)
            assert await rows(workers) == 1
            assert workers.problem() is None

    asyncio.run(test())


def test_a_statement_that_outlives_its_pool_says_how_its_worker_ended() -> None:
    async def test(workers: Pool) -> None:
        worker = await begin(workers, ENDLESS)
        await until(lambda: worker.process.phase.name == "running")
        await workers.close()
        with pytest.raises(WorkerDiedError, match=r"while running \(SIGKILL"):
            await worker.next()
        assert (worker.life.is_leased, workers.busy) == (False, 0)

    run(test)


def test_the_end_is_taken_as_soon_as_it_is_there_and_nothing_else() -> None:
    async def test(workers: Pool) -> None:
        worker = await begin(workers, "SELECT value FROM generate_series(1, 3)")
        kinds = [(await worker.next()).kind]
        await until(lambda: worker.process.phase.name == "idle")  # so all messages were sent
        while (end := worker.end()) is None:
            kinds.append((await worker.next()).kind)
        assert [kinds[0], {*kinds[1:]}, end.kind] == [Kind.planned, {Kind.data}, Kind.end]
        assert await rows(workers) == 1, "the end was not left for the next query"

    run(test)


def test_a_statement_that_waits_stops_what_the_spare_runs() -> None:
    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        needed = QueryCancelledError("a query waits for the worker")
        spare, other = workers.lease_spare(needed), await workers.lease()
        assert spare is not None
        await spare.begin(statement(ENDLESS), b"")
        waiting = asyncio.create_task(workers.lease())
        with pytest.raises(QueryCancelledError, match="a query waits"):
            await rest(spare)
        assert await waiting is spare or spare.life.is_over, "it was taken back, or replaced"
        other.release()

    run(test)


def test_a_spare_that_was_taken_back_is_not_stopped() -> None:
    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        spare = workers.lease_spare(QueryCancelledError("a query waits for the worker"))
        assert spare is not None
        await spare.begin(statement("SELECT 1"), b"")
        await rest(spare)
        both = {await workers.lease(), await workers.lease()}
        assert spare in both
        await spare.begin(statement("SELECT 1"), b"")
        waiting = asyncio.create_task(workers.lease())
        await rest(spare)
        assert await waiting is spare

    run(test)

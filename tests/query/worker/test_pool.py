"""Workers as processes: they come up, die in every way, and are replaced; a lease always comes to its end."""

import asyncio
import fcntl
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from dagfusion_query.errors import (
    QueryCancelledError,
    QueryError,
    ResourcesError,
    ServiceUnavailableError,
    WorkerDiedError,
)
from dagfusion_query.settings import Settings
from dagfusion_query.worker.frames import Configuration, Frame, Kind, Statement
from dagfusion_query.worker.handle import Handle
from dagfusion_query.worker.lease import Lease, NeverStarted
from dagfusion_query.worker.lifecycle import WorkerState
from dagfusion_query.worker.pool import Pool
from tests.query.disk import SmallDisk

pytestmark = pytest.mark.usefixtures("processes")

MEMORY = 1 << 30
CONFIGURATION = Configuration(memory_bytes=MEMORY, settings={"local": Settings()}, environments={}, folders=[])
ENDLESS = "SELECT sum(x * y) FROM generate_series(1, 10000000) a(x) CROSS JOIN generate_series(1, 1000000) b(y)"
ENDLESS_ROWS = "SELECT x, y FROM generate_series(1, 10000000) a(x) CROSS JOIN generate_series(1, 100000) b(y)"


def statement(sql: str) -> Statement:
    return Statement(id="1", sql=sql, limit_rows=10**9, limit_bytes=10**12, environments={}, grants=["*"])


@asynccontextmanager
async def pool(limit_bytes: int = MEMORY, grace_s: float = 0.3) -> AsyncIterator[Pool]:
    made = Pool(1, lambda: CONFIGURATION, limit_bytes, grace_s)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


def run(test: Callable[[Pool], Coroutine[Any, Any, None]], grace_s: float = 0.3) -> None:
    async def within() -> None:
        async with asyncio.timeout(180), pool(grace_s=grace_s) as made:
            await test(made)

    asyncio.run(within())


async def begin(workers: Pool, sql: str) -> tuple[Lease, Handle]:
    lease = await workers.lease()
    await lease.begin(statement(sql), b"")
    return lease, lease.worker


async def rows(workers: Pool, sql: str = "SELECT 1 AS a") -> int:
    lease, _ = await begin(workers, sql)
    received = b""
    while (frame := await lease.next()).kind is not Kind.end:
        received += bytes(frame.body) if frame.kind is Kind.data else b""
    count: int = pa.ipc.open_stream(received).read_all().num_rows
    return count


async def frames(lease: Lease) -> AsyncIterator[Frame]:
    while not lease.is_over:
        yield await lease.next()


async def rest(lease: Lease) -> None:
    while await lease.next():
        pass


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # of any kind
        await asyncio.sleep(0.01)


def test_a_statement_is_planned_sent_and_ended() -> None:
    async def test(workers: Pool) -> None:
        lease, handle = await begin(workers, "SELECT value FROM generate_series(1, 3)")
        planned, *data, end = [frame async for frame in frames(lease)]
        assert (planned.kind, {frame.kind for frame in data}, end.kind) == (Kind.planned, {Kind.data}, Kind.end)
        assert pa.ipc.read_schema(pa.py_buffer(planned.body)).names == ["value"]
        assert (end.head["cost"]["rows"], end.head["cost"]["result_bytes"]) == (
            3,
            sum(len(frame.body) for frame in data),
        )
        assert lease.is_over
        assert (await workers.lease()).worker is handle, "the one that is warm comes first"

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
        assert first.worker is not second.worker
        assert workers.busy == 2

    run(test)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "SIGKILL: Killed"), (signal.SIGSEGV, "SIGSEGV: Segmentation fault")]
)
def test_the_death_of_a_worker_is_told_with_its_cause(number: signal.Signals, said: str) -> None:
    async def test(workers: Pool) -> None:
        lease, handle = await begin(workers, ENDLESS_ROWS)
        while (await lease.next()).kind is not Kind.data:
            pass
        os.kill(handle.pid, number)
        with pytest.raises(WorkerDiedError, match=f"while running \\({said}\\)"):
            await rest(lease)
        assert await rows(workers) == 1, "the spare has taken over"
        await until(lambda: workers.live == 2)
        assert workers.restarts == {"died": 1}
        assert not psutil.pid_exists(handle.pid)

    run(test)


def test_a_worker_that_dies_while_it_plans_says_so() -> None:
    async def test(workers: Pool) -> None:
        lease, handle = await begin(workers, f"SELECT {'+'.join(['1'] * 20_000)}")
        await until(lambda: handle.phase.name == "planning")
        os.kill(handle.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match="while planning"):
            await lease.next()

    run(test)


def test_a_worker_that_died_before_the_statement_is_not_the_statement_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_query.worker.pool.is_stopped", lambda _: False)

    async def test(workers: Pool) -> None:
        lease = await workers.lease()
        handle = lease.worker
        os.kill(handle.pid, signal.SIGSTOP)  # it will never read it
        await until(lambda: psutil.Process(handle.pid).status() == psutil.STATUS_STOPPED)
        await lease.begin(statement("SELECT 1"), b"")
        os.kill(handle.pid, signal.SIGKILL)
        with pytest.raises(NeverStarted):
            await lease.next()
        await asyncio.shield(handle.exited)
        with pytest.raises(NeverStarted):
            await Lease(handle, workers._take_back, 0.3, MEMORY).begin(statement("SELECT 1"), b"")

    run(test)


def test_a_worker_that_somebody_stops_is_replaced() -> None:
    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        for pid in workers.pids:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: workers.restarts == {"stopped": 2} and workers.live == 2)
        lease, handle = await begin(workers, ENDLESS)
        await until(lambda: handle.phase.name == "running")
        os.kill(handle.pid, signal.SIGSTOP)
        with pytest.raises(WorkerDiedError, match="the statement was stopped"):
            await rest(lease)
        assert await rows(workers) == 1

    run(test)


def test_a_worker_that_was_killed_is_not_leased_before_its_exit() -> None:
    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        lease = await workers.lease()
        lease.release()
        lease.worker.kill("by the test")
        assert workers.live == 1
        assert (await workers.lease()).worker is not lease.worker
        assert (await workers.lease()).worker is not lease.worker, "it waits for the one that replaces it"
        assert workers.restarts == {"by the test": 1}

    run(test)


def test_a_worker_that_took_half_a_statement_is_replaced() -> None:
    async def test(workers: Pool) -> None:
        lease = await workers.lease()
        handle = lease.worker
        handle._socket.shutdown(socket.SHUT_WR)
        with pytest.raises(NeverStarted):
            await lease.begin(statement("SELECT 1"), b"")
        assert (lease.is_over, handle.life.state) == (True, WorkerState.gone)
        assert await rows(workers) == 1
        await until(lambda: workers.restarts == {"died": 1} and workers.live == 2)

    run(test)


def test_a_statement_that_is_stopped_while_it_is_sent_ends_with_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_query.worker.pool.is_stopped", lambda _: False)

    async def test(workers: Pool) -> None:
        lease = await workers.lease()
        handle = lease.worker
        os.kill(handle.pid, signal.SIGSTOP)
        begun = asyncio.create_task(lease.begin(statement("SELECT 1"), b" " * (32 << 20)))  # more than a socket takes
        await until(lambda: handle.life.state is WorkerState.sending)
        lease.stop(QueryCancelledError("by the test"))
        assert handle.life.state is WorkerState.lost
        with pytest.raises(QueryCancelledError, match="by the test"):
            await begun
        await lease.ended()
        assert (lease.is_over, handle.life.state) == (True, WorkerState.gone)
        assert await rows(workers) == 1

    run(test, grace_s=60)


def test_a_statement_that_is_stopped_leaves_an_idle_worker() -> None:
    async def test(workers: Pool) -> None:
        lease, handle = await begin(workers, "SELECT value FROM generate_series(1, 1000000000)")
        while (await lease.next()).kind is not Kind.data:
            pass
        lease.stop(QueryCancelledError("by the test"))
        assert handle.life.state is WorkerState.stopping
        await lease.ended()
        assert (lease.is_over, handle.life.state, handle.life.kill_reason) == (True, WorkerState.idle, "")

    run(test, grace_s=60)


def test_a_worker_that_hears_nothing_is_killed_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagfusion_query.worker.pool.is_stopped", lambda _: False)  # as where nobody knows

    async def test(workers: Pool) -> None:
        lease, handle = await begin(workers, ENDLESS)
        os.kill(handle.pid, signal.SIGSTOP)
        lease.stop(QueryCancelledError("by the test"))
        with pytest.raises(QueryCancelledError, match="by the test"):
            await lease.next()
        await until(lambda: handle.life.exit_code == -signal.SIGKILL)
        await until(lambda: workers.restarts == {"cancelled": 1})

    run(test)


def test_a_reader_that_is_cancelled_loses_nothing() -> None:
    async def test(workers: Pool) -> None:
        lease, _ = await begin(workers, "SELECT value, repeat('x', 100) FROM generate_series(1, 300000)")
        received, waits = b"", 0
        while True:
            try:
                async with asyncio.timeout(0.0005):
                    frame: Frame = await lease.next()
            except TimeoutError:
                waits += 1
                continue
            if frame.kind is Kind.end:
                break
            received += bytes(frame.body) if frame.kind is Kind.data else b""
        assert waits > 0
        assert pa.ipc.open_stream(received).read_all().num_rows == 300_000

    run(test)


def test_memory_is_watched_from_outside_too() -> None:
    async def test() -> None:
        async with asyncio.timeout(50), pool(limit_bytes=64 << 20) as workers:
            lease, _ = await begin(workers, "SELECT array_agg(x) FROM generate_series(1, 30000000) a(x)")
            with pytest.raises(ResourcesError, match="DAGFUSION_WORKER_MEMORY_BYTES"):
                await rest(lease)
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
            for lease in (await workers.lease(), await workers.lease()):
                os.kill(lease.worker.pid, signal.SIGKILL)
                await asyncio.shield(lease.worker.exited)
                assert workers.busy > 0
                lease.release()
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


def test_a_lease_that_outlives_its_pool_says_how_its_worker_ended() -> None:
    async def test(workers: Pool) -> None:
        lease, handle = await begin(workers, ENDLESS)
        await until(lambda: handle.phase.name == "running")
        await workers.close()
        with pytest.raises(WorkerDiedError, match=r"while running \(SIGKILL"):
            await lease.next()
        assert (lease.is_over, workers.busy) == (True, 0)

    run(test)


def test_a_frame_that_was_peeked_at_is_read_again() -> None:
    async def test(workers: Pool) -> None:
        lease, _ = await begin(workers, "SELECT value FROM generate_series(1, 3)")
        kinds = []
        while not lease.is_over:
            await until(lambda: lease.worker.peek() is not None)
            kinds.append((lease.end() or await lease.next()).kind)
        assert [kinds[0], {*kinds[1:-1]}, kinds[-1]] == [Kind.planned, {Kind.data}, Kind.end]
        assert await rows(workers) == 1, "the end was not left for the next lease"

    run(test)


def test_workers_end_with_their_service() -> None:
    pids: list[int] = []

    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        pids.extend(workers.pids)
        lease, _ = await begin(workers, ENDLESS)
        assert not lease.is_over

    run(test)
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_workers_end_when_their_service_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where no other service removes what is left
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = f"""
import asyncio
from tests.query.worker.test_pool import ENDLESS, begin, pool, until

async def main():
    async with pool() as workers:
        await until(lambda: workers.live == 2)
        await begin(workers, ENDLESS)
        open({str(tmp_path / "pids")!r}, "w").write(" ".join(map(str, workers.pids)))
        await asyncio.sleep(60)

asyncio.run(main())
"""
    service = psutil.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    path = tmp_path / "pids"
    asyncio.run(asyncio.wait_for(until(lambda: path.exists() and bool(path.read_text())), 30))
    pids = [int(pid) for pid in path.read_text().split()]
    service.kill()
    service.wait()
    asyncio.run(asyncio.wait_for(until(lambda: not any(map(psutil.pid_exists, pids))), 30))
    left = list(Path(tempfile.gettempdir()).glob(f"dagfusion-worker-{service.pid}-*"))
    assert len(left) == 2
    run(one_statement)
    assert not any(folder.exists() for folder in left), "the next service has removed it"


async def one_statement(workers: Pool) -> None:
    assert await rows(workers) == 1


def test_a_worker_s_temporary_files_are_held() -> None:
    async def test(workers: Pool) -> None:
        lease = await workers.lease()
        handle = lease.worker
        folder = os.open(handle._scratch, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as systemd does before it clears a folder
        lease.release()
        handle.kill()
        await asyncio.shield(handle.exited)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)

    run(test)


def test_a_worker_knows_no_secret_but_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "DAGFUSION_EVENT_LOG", "PGPASSWORD", "DAGFUSION_UAT_AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")

    async def test(workers: Pool) -> None:
        process = psutil.Process((await workers.lease()).worker.pid)
        assert "hunter2" not in str(process.environ()) + str(process.cmdline())
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "800"  # noqa: ASYNC240  # not a disk

    run(test)

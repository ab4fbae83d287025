"""The ends of worker processes with their service, their sockets, temporary files, and secrets that they do not get."""

import asyncio
import fcntl
import os
import select
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from dagfusion_client.errors import QueryCancelledError
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.service.worker_process import WorkerProcess
from dagfusion_server.worker.messages import Kind
from tests.server.service.workers import ENDLESS, ENDLESS_ROWS, begin, rows, run, until

pytestmark = pytest.mark.usefixtures("processes")


def test_workers_end_with_their_service() -> None:
    pids: list[int] = []

    async def test(workers: Pool) -> None:
        await until(lambda: workers.live == 2)
        pids.extend(workers.pids)
        worker = await begin(workers, ENDLESS)
        assert worker.life.is_leased

    run(test)
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_workers_end_when_their_service_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where no other service removes what is left
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = f"""
import asyncio
from tests.server.service.workers import ENDLESS, begin, pool, until

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
        worker = await workers.lease()
        folder = os.open(worker.process._scratch, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as systemd does before it clears a folder
        worker.release()
        worker.kill()
        await asyncio.shield(worker.process.exited)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)

    run(test)


def test_a_worker_knows_no_secret_but_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "DAGFUSION_EVENT_LOG", "PGPASSWORD", "DAGFUSION_UAT_AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "hunter2")

    async def test(workers: Pool) -> None:
        process = psutil.Process((await workers.lease()).process.pid)
        assert "hunter2" not in str(process.environ()) + str(process.cmdline())
        assert process.rlimit(psutil.RLIMIT_CORE) in [(1, 1), (0, 0)]  # the latter where nobody may raise it
        assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "800"  # noqa: ASYNC240  # not a disk

    run(test)


def test_bytes_that_nobody_reads_do_not_wake_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    woken = list[None]()
    arrived = WorkerProcess._arrived

    def count(process: WorkerProcess) -> None:
        woken.append(None)
        arrived(process)

    async def test(workers: Pool) -> None:
        worker = await begin(workers, ENDLESS_ROWS)
        assert (await worker.next()).kind is Kind.planned
        assert (await worker.next()).kind is Kind.data
        socket = worker.process._socket
        await until(lambda: bool(select.select([socket], [], [], 0)[0]))  # more has arrived
        woken.clear()
        for _ in range(100):
            await asyncio.sleep(0)  # the loop looks at its sockets each time
        assert len(woken) <= 1
        for _ in range(3):
            assert (await worker.next()).kind is Kind.data
        worker.stop(QueryCancelledError("by the test"))
        with pytest.raises(QueryCancelledError):
            await worker.next()
        await until(lambda: not worker.life.is_leased)
        assert await rows(workers) == 1

    monkeypatch.setattr(WorkerProcess, "_arrived", count)
    run(test)

"""Claims: one process at a time has one, and others do not wait for a process that has stopped."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dagfusion_query.object_cache import claims
from dagfusion_query.object_cache.claims import Claim, Claims
from tests.waiting import eventually

KEY = "0" * 32
NEVER, NOW = threading.Event(), threading.Event()
NOW.set()
HOLDER = """
import sys, threading, time
from pathlib import Path
from dagfusion_query.object_cache.claims import Claims

claim = Claims(Path(sys.argv[1])).take(sys.argv[2], threading.Event())
print("taken", flush=True)
while True:
    claim.beat()
    time.sleep(0.02)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "claims"


def now(folder: Path) -> Claim | None:
    """Take the claim without a wait."""
    return Claims(folder).take(KEY, NOW)


@contextmanager
def waiting(
    folder: Path, times: int = 1, cancelled: threading.Event | None = None
) -> Iterator[list["Future[Claim | None]"]]:
    """Start to wait for the claim, and go on when a wait is under way. What still waits at the end is cancelled."""
    cancelled = cancelled or threading.Event()
    with ThreadPoolExecutor(times) as pool, ExitStack() as stack:
        stack.callback(cancelled.set)
        started = [threading.Event() for _ in range(times)]

        def wait(begun: threading.Event) -> Claim | None:
            begun.set()
            return Claims(folder).take(KEY, cancelled)

        futures = [pool.submit(wait, begun) for begun in started]
        assert all(begun.wait(60) for begun in started)
        assert eventually(lambda: (folder / KEY).stat().st_mode & claims._WANTED != 0)
        yield futures


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the limit of a wait, so that a busy machine does not end it."""
    monkeypatch.setattr(claims, "_PATIENCE_S", 1e9)


def test_one_run_at_a_time_has_the_claim(folder: Path) -> None:
    claim = now(folder)
    assert claim is not None
    assert now(folder) is None
    assert Claims(folder).take("1" * 32, NEVER) is not None
    claim.release()
    claim.release()
    claim.beat()
    assert not (folder / KEY).exists()
    assert now(folder) is not None


@pytest.mark.usefixtures("patient")
def test_a_wait_ends_with_the_release(folder: Path) -> None:
    claim = Claims(folder).take(KEY, NEVER)
    assert claim is not None
    with waiting(folder) as [future]:
        assert claim.is_wanted
        assert not future.done()
        claim.release()
        following = future.result(30)
    assert following is not None
    assert not following.is_wanted
    assert now(folder) is None


@pytest.mark.usefixtures("patient")
def test_a_wait_can_be_cancelled(folder: Path) -> None:
    claim = now(folder)
    cancelled = threading.Event()
    with waiting(folder, cancelled=cancelled) as [future]:
        cancelled.set()
        assert future.result(30) is None
    assert claim is not None
    assert now(folder) is None


@pytest.mark.parametrize("last", ["none", "handed out"])
def test_nobody_waits_for_a_run_that_does_not_go_on(last: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sign of life comes after this; a client that takes nothing of its result is one reason."""
    claim = now(folder)
    assert claim is not None
    if last == "handed out":
        monkeypatch.setattr(claims, "_PATIENCE_S", 1e9)
        claim.mark_delivered()
        os.utime(folder / KEY, (0, (folder / KEY).stat().st_mtime - claims._HANDED_OUT_S))
    assert Claims(folder).take(KEY, NEVER) is None
    assert claim.is_wanted  # the run still has it


def test_signs_of_life_prolong_the_wait(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_PATIENCE_S", 1e6)
    claim = now(folder)
    assert claim is not None
    os.utime(folder / KEY, (0, time.time() - 2e6))
    assert Claims(folder).take(KEY, NEVER) is None
    claim.beat()
    with waiting(folder) as [future]:
        assert not future.done()
        claim.release()
        assert future.result(30) is not None


@pytest.mark.usefixtures("patient")
def test_one_of_those_who_waited_has_the_next_claim(folder: Path) -> None:
    claim, cancelled = now(folder), threading.Event()
    assert claim is not None
    with waiting(folder, 3, cancelled) as futures:
        claim.release()
        assert eventually(lambda: any(future.done() and future.result() is not None for future in futures))
        cancelled.set()
        assert sorted(future.result(30) is not None for future in futures) == [False, False, True]


def test_the_claim_of_a_run_that_is_dropped_is_free(folder: Path) -> None:
    claim = now(folder)
    assert claim is not None
    del claim
    assert now(folder) is not None


@pytest.mark.usefixtures("patient", "processes")
@pytest.mark.parametrize("then", ["waits", "is made", "takes it"])
def test_the_claim_of_a_process_that_was_killed_is_free(then: str, folder: Path) -> None:
    folder.mkdir()
    command = [sys.executable, "-c", HOLDER, str(folder), KEY]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: S603  # this interpreter
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        assert now(folder) is None
        if then == "waits":
            with waiting(folder) as [future]:
                holder.kill()
                assert future.result(30) is not None
            return
        holder.kill()
    assert (folder / KEY).exists()
    if then == "is made":
        Claims(folder)
        assert not (folder / KEY).exists()
    assert now(folder) is not None


def test_a_sweep_leaves_a_claim_that_is_taken_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that the sweep has opened is removed, and another one has its name before the sweep has its lock."""
    folder.mkdir()
    (folder / KEY).touch()
    is_locked, taken = claims._is_locked, list[Claim | None]()

    def replaced(descriptor: int) -> bool:
        monkeypatch.setattr(claims, "_is_locked", is_locked)
        (folder / KEY).unlink()
        taken.append(now(folder))
        return is_locked(descriptor)

    monkeypatch.setattr(claims, "_is_locked", replaced)
    Claims(folder)
    assert len(taken) == 1
    assert (folder / KEY).exists()
    assert now(folder) is None


@pytest.mark.usefixtures("patient")
def test_threads_that_take_and_release_are_never_two(folder: Path) -> None:
    """The file of a claim is removed when it is released, also while others open it."""
    holders, most, taken = 0, 0, 0
    lock = threading.Lock()

    def run() -> None:
        nonlocal holders, most, taken
        mine = Claims(folder)
        for _ in range(100):
            if (claim := mine.take(KEY, NEVER)) is None:
                continue
            with lock:
                holders += 1
                most, taken = max(most, holders), taken + 1
            time.sleep(0)
            with lock:
                holders -= 1
            claim.release()

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(run) for _ in range(6)]:
            future.result(60)
    assert most == 1
    assert taken > 1


def test_a_folder_that_is_gone_lets_nobody_wait(folder: Path) -> None:
    made = Claims(folder)
    folder.rmdir()
    assert made.take(KEY, NEVER) is None

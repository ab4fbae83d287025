"""The engine's threads end without a word."""

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from functools import partial
from typing import cast

import pyarrow as pa
import pytest
from datafusion import RecordBatchStream

from dagfusion_client.errors import ConnectionClosedError
from dagfusion_query.engine.runtime import Job, Loop, Planners, arrow_batches, together

ROUNDS = 200


async def _forever() -> None:
    await asyncio.Event().wait()


async def _nothing() -> None:
    pass


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What Python says of coroutines that are dropped."""
    said: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: said.append(str(unraisable.exc_value)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield said


def test_a_loop_that_is_closed_cancels_what_runs_and_takes_no_more(complaints: list[str]) -> None:
    loop = Loop()
    running = loop.submit(_forever())

    loop.close()
    loop.close()

    with pytest.raises(CancelledError):
        running.result(timeout=0)
    with pytest.raises(ConnectionClosedError, match="is closed: connect again"):
        loop.submit(_forever())
    gc.collect()
    assert complaints == []


def test_the_end_of_a_stream_holds_no_frame() -> None:
    """DataFusion's thread drops it, and would free on that thread what the frames hold."""
    end = StopAsyncIteration()

    class Stream:
        async def __anext__(self) -> None:
            raise end

    async def received() -> list[pa.RecordBatch]:
        return [batch async for batch in arrow_batches(cast("RecordBatchStream", Stream()))]

    assert asyncio.run(received()) == []
    assert end.__traceback__ is None


@pytest.mark.usefixtures("heavy")
def test_a_loop_may_be_closed_while_another_thread_submits(complaints: list[str]) -> None:
    """Ctrl-C in the command closes the engine while its other thread asks for the next batch."""
    for _ in range(ROUNDS):
        loop, asks = Loop(), threading.Event()

        def ask(loop: Loop = loop, asks: threading.Event = asks) -> None:
            try:
                while True:
                    submitted = loop.submit(_nothing())
                    asks.set()
                    submitted.result(timeout=60)
            except (CancelledError, ConnectionClosedError):
                pass

        asking = threading.Thread(target=ask)
        asking.start()
        asks.wait()
        loop.close()
        asking.join()
    gc.collect()
    assert complaints == []


async def _slow_to_end(ended: list[str], begun: threading.Event | None = None) -> None:
    try:
        if begun is not None:
            begun.set()
        await _forever()
    finally:
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append("slow")


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_job_that_is_cancelled_is_awaited_to_its_end(complaints: list[str], *, has_begun: bool) -> None:
    loop, ended, begun = Loop(), list[str](), threading.Event()
    job = Job(loop, _slow_to_end(ended, begun))
    if has_begun:
        begun.wait()
    job.cancel()
    with pytest.raises(CancelledError):
        job.result()
    assert ended == (["slow"] if begun.is_set() else [])
    job.cancel()
    loop.close()
    gc.collect()
    assert complaints == []


def test_a_loop_that_is_closed_awaits_what_it_cancels() -> None:
    loop, ended, begun = Loop(), list[str](), threading.Event()
    loop.submit(_slow_to_end(ended, begun))
    begun.wait()
    loop.close()
    assert ended == ["slow"]


@pytest.mark.parametrize("ends", ["an error", "a cancellation"])
def test_what_runs_together_ends_together(ends: str) -> None:
    ended = list[str]()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async def test() -> None:
        calls = [partial(_slow_to_end, ended), partial(_slow_to_end, ended)]
        running = asyncio.ensure_future(together([*calls, fail] if ends == "an error" else calls, 3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if ends == "a cancellation":
            running.cancel()
        with pytest.raises(ValueError if ends == "an error" else asyncio.CancelledError):
            await running
        assert ended == ["slow", "slow"]

    asyncio.run(test())


def test_planners_that_are_closed_take_no_more() -> None:
    planners = Planners(2)
    planners.close()
    planners.close()

    with pytest.raises(ConnectionClosedError):
        planners.run(lambda: 1)

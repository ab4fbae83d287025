"""The engine's threads end without a word."""

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from dagfusion_query.engine.runtime import Loop, Planners
from dagfusion_query.errors import ConnectionClosedError

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


def test_planners_that_are_closed_take_no_more() -> None:
    planners = Planners(2)
    planners.close()
    planners.close()

    with pytest.raises(ConnectionClosedError):
        planners.run(lambda: 1)

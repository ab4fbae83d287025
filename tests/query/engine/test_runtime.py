"""The engine's threads end without a word."""

import asyncio
import gc
import warnings
from concurrent.futures import CancelledError

import pytest

from dagfusion_query.engine.runtime import Loop


async def _forever() -> None:
    await asyncio.Event().wait()


def test_a_loop_that_is_closed_ends_what_runs_and_what_was_just_submitted() -> None:
    loop = Loop()
    running = loop.submit(_forever())
    loop._loop.call_soon_threadsafe(loop._loop.stop)
    loop._thread.join()
    late = loop.submit(_forever())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.close()
        gc.collect()

    for future in (running, late):
        with pytest.raises(CancelledError):
            future.result(timeout=0)

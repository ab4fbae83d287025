"""Threads of the engine: deep stacks for planning, one event loop for execution."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from dagfusion_query.errors import ConnectionClosedError

T = TypeVar("T")

STACK_BYTES = (
    512 << 20
)  # address space, not memory: a statement nested 10,000 deep overflows the usual 8 MB and ends the process
PLANNERS = 4


def closed() -> ConnectionClosedError:
    """Return the error of a call on a closed embedded connection."""
    return ConnectionClosedError("this connection is closed: connect again")


class Planners:
    """A few threads with stacks deep enough that no statement overflows them while it is planned."""

    def __init__(self, count: int = PLANNERS) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        before = threading.stack_size(STACK_BYTES)
        try:
            self._threads = [
                threading.Thread(target=self._run, name="dagfusion-plan", daemon=True) for _ in range(count)
            ]
            for thread in self._threads:
                thread.start()
        finally:
            threading.stack_size(before)

    def run(self, function: Callable[[], T]) -> T:
        """Run a function on a deep stack, and return or raise what it does.

        Raises:
            ConnectionClosedError: The threads have ended.
        """
        return self._submit(function).result()

    async def call(self, function: Callable[[], T]) -> T:
        """Await a function that runs on a deep stack."""
        return await asyncio.wrap_future(self._submit(function))

    def close(self) -> None:
        """End the threads once their work is done; once more does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for _ in self._threads:
                self._work.put(None)

    def _submit(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise closed()
            self._work.put((future, function))
        return future

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, function = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  # it is the caller's, who waits for it
                future.set_exception(error)
            del work, future, function


class Loop:
    """An event loop on a thread of its own: a batch awaited there can be given up, unlike a blocking call into Rust."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._loop.run_forever, name="dagfusion-execute", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start a coroutine; cancelling the future cancels it.

        Raises:
            ConnectionClosedError: The loop is closed.
        """
        with self._lock:
            if self._closed:
                coroutine.close()  # one that is dropped unstarted prints a warning
                raise closed()
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def close(self) -> None:
        """Cancel what was submitted and stop the loop; once more does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    async def _end(self) -> None:
        """Start what was submitted last, and cancel it with the rest: a task that never starts prints a warning."""
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

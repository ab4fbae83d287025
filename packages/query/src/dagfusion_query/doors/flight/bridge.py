"""Runs coroutines of the service's event loop for gRPC's threads, and passes the chunks of results back to them."""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol, TypeVar

from dagfusion_query.errors import QueryCancelledError, ServiceUnavailableError

T = TypeVar("T")
_STOPPING = "the service is stopping: connect again in a moment"
LOOK_S = 0.25  # how often a waiting thread asks whether its client is still there


class Call(Protocol):
    """The part of `ServerCallContext` that a waiting thread uses."""

    def is_cancelled(self) -> bool:
        """True if the client disconnected or cancelled, or its deadline has passed."""


class Bridge:
    """Runs coroutines on the service's loop for threads that wait for them.

    Args:
        loop: The service's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._closing = threading.Event()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine without waiting for it.

        Raises:
            ServiceUnavailableError: The loop is closed.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise ServiceUnavailableError(_STOPPING) from error

    def wait(self, future: Future[T], call: Call) -> T:
        """Wait for a coroutine as long as its client does.

        Raises:
            QueryCancelledError: The client went away; the coroutine is cancelled.
            ServiceUnavailableError: The door is closing; likewise.
        """
        while True:
            try:
                return future.result(LOOK_S)
            except CancelledError:
                raise ServiceUnavailableError(_STOPPING) from None
            except TimeoutError:
                if future.done():
                    raise
                try:
                    self.check(call)
                except BaseException:
                    future.cancel()
                    raise

    def check(self, call: Call) -> None:
        """Look whether it makes sense to wait on.

        Raises:
            QueryCancelledError: The client went away.
            ServiceUnavailableError: The door is closing.
        """
        if call.is_cancelled():
            raise QueryCancelledError("the query was cancelled: its client disconnected")
        if self._closing.is_set():
            raise ServiceUnavailableError(_STOPPING)

    def call(self, work: Coroutine[Any, Any, T], call: Call) -> T:
        """Run a coroutine and wait for what it returns, as long as the client waits; raises as `wait` does."""
        return self.wait(self.begin(work), call)

    def close(self) -> None:
        """End every wait."""
        self._closing.set()

    def post(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine without waiting for it. It does not run if the loop is closed."""
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()

    def later(self, seconds: float, step: Callable[[], None]) -> None:
        """Call something on the loop after a while, if there is a loop then."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, step)


_READ_AHEAD_BYTES = 4 << 20


class Buffer:
    """A queue that is bounded in bytes. Filled on the loop that it was made on, emptied by one thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[Any] = deque()
        self._size_bytes = 0
        self._is_over = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()

    async def put(self, chunk: Any) -> None:
        """Add a chunk; returns when there is room for another."""
        with self._changed:
            self._chunks.append(chunk)
            self._size_bytes += len(chunk)
            is_full = self._size_bytes >= _READ_AHEAD_BYTES
            if is_full:
                self._room.clear()
            self._changed.notify()
        if is_full:
            await self._room.wait()

    def end(self, error: BaseException | None = None) -> None:
        """End the stream, with an error if it failed. Called on the loop."""
        with self._changed:
            self._is_over, self._error = True, error
            self._changed.notify()

    def take_all(self, limit_bytes: int) -> Any:
        """Return everything, if it is there, whole and within the limit; None otherwise. From the thread."""
        with self._changed:
            if not self._is_over or self._error is not None or self._size_bytes > limit_bytes:
                return None
            chunks = list(self._chunks)
            self._chunks.clear()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def take(self, bridge: Bridge, call: Call) -> Any:
        """Return the next chunk, or None at the end. From the thread.

        Raises:
            QueryError: The query fails on the way, its client went away, or the door is closing.
        """
        with self._changed:
            while not self._chunks and not self._is_over:
                if not self._changed.wait(LOOK_S):
                    bridge.check(call)
            if not self._chunks:
                if self._error is not None:
                    raise self._error
                return None
            chunk = self._chunks.popleft()
            was_full = self._size_bytes >= _READ_AHEAD_BYTES
            self._size_bytes -= len(chunk)
        if was_full and self._size_bytes < _READ_AHEAD_BYTES:
            self._loop.call_soon_threadsafe(self._room.set)
        return chunk

"""From gRPC's threads to the service's loop and back."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol, TypeVar

from dagfusion_query.errors import QueryCancelledError, ServiceUnavailableError

T = TypeVar("T")
_STOPPING = "the service is stopping: connect again in a moment"
LOOK_S = 0.25  # how often a waiting thread asks whether its client is still there


class Call(Protocol):
    """What a waiting thread asks of its `ServerCallContext`."""

    def is_cancelled(self) -> bool:
        """Whether the client went away, cancelled, or let its deadline pass."""


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
            raise QueryCancelledError("the query was cancelled: its client went away")
        if self._closing.is_set():
            raise ServiceUnavailableError(_STOPPING)

    def call(self, work: Coroutine[Any, Any, T], call: Call) -> T:
        """Run a coroutine and wait for what it returns, as long as the client waits; raises as `wait` does."""
        return self.wait(self.begin(work), call)

    def close(self) -> None:
        """End every wait."""
        self._closing.set()

    def post(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a coroutine that nobody waits for; where there is no loop any more, it need not run."""
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()

    def later(self, seconds: float, step: Callable[[], None]) -> None:
        """Call something on the loop after a while, if there is a loop then."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, step)

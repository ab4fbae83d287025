"""An event loop for awaitables of Rust libraries (DataFusion, obstore), whose threads hand their results to it."""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

_END_S = 5.0  # to wait for the threads that wake the loop; each needs the time of one system call


class HandoverLoop(asyncio.SelectorEventLoop):
    """An event loop whose `close` waits for the threads that are in the middle of handing a result to it.

    A thread gives up the GIL while it wakes the loop. If it asks for the GIL again when Python has begun to shut down,
    CPython (before 3.14) exits the thread, which unwinds through frames of Rust and aborts the process.
    """

    def __init__(self) -> None:
        self._handing_over: dict[object, None] = {}
        super().__init__()

    def call_soon_threadsafe(  # type: ignore[override]  # typeshed binds the arguments to the callback
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run a callback on the loop's thread."""
        this = object()  # not the thread's number: a finalizer may call this within a call
        self._handing_over[this] = None
        try:
            return super().call_soon_threadsafe(callback, *args, context=context)
        finally:
            del self._handing_over[this]  # not by a call: after one, the thread may give up the GIL

    def close(self) -> None:
        """Close the loop, when no thread hands over a result, or after five seconds."""
        self._wait()
        super().close()
        self._wait()  # for a thread that began in between

    def _wait(self) -> None:
        deadline = time.monotonic() + _END_S
        while self._handing_over and time.monotonic() < deadline:
            time.sleep(0.001)

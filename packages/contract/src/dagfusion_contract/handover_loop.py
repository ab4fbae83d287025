"""An event loop for awaitables of Rust libraries (DataFusion, obstore), whose threads hand their results to it."""

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

_END_S = 5.0  # that a thread has to leave the loop; it needs the time of one system call


class HandoverLoop(asyncio.SelectorEventLoop):
    """An event loop that closes only when no thread is in the middle of handing a result to it.

    A thread gives up the GIL while it wakes the loop. If it asks for the GIL again when Python has begun to shut down,
    CPython (before 3.14) exits the thread, which unwinds through frames of Rust and aborts the process.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handing_over: dict[object, None] = {}

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
        """Wait for the threads that hand over results, and close the loop."""
        deadline = time.monotonic() + _END_S
        while self._handing_over and time.monotonic() < deadline:
            time.sleep(0.001)
        super().close()

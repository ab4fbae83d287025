"""Chunks on their way from the service's loop to the thread that sends them."""

import asyncio
import threading
from collections import deque
from typing import Any

from dagfusion_query.doors.flight.bridge import LOOK_S, Bridge, Call

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
        """Say that there is no more, and why, if that is not as it should be. On the loop."""
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

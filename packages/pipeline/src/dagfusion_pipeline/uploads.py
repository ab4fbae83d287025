"""Uploads in the background: many at once, bounded in number and in bytes."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import pyarrow as pa

from dagfusion_contract.handover_loop import HandoverLoop

Result = TypeVar("Result")
Stored = TypeVar("Stored")
Put: TypeAlias = Callable[[str, pa.Buffer | Path], Coroutine[Any, Any, Stored]]


class Uploads(Generic[Stored]):
    """Puts objects in the background of the caller, who waits only when too many, or too many bytes, are in progress.

    Leaving the context waits for every object, so that afterwards all of them are there; leaving it with an error
    gives up those that are not.

    Args:
        put: Puts an object, and returns what the store has confirmed.
        concurrency: Objects at once.
        max_bytes: The most bytes of objects in progress, unless one alone is larger.
    """

    def __init__(self, put: Put[Stored], concurrency: int, max_bytes: int) -> None:
        self._put_object = put
        self._concurrency = concurrency
        self._max_bytes = max_bytes
        # Waking the background for each of many small objects would cost more than encoding them.
        self._batch_objects = max(1, min(8, concurrency // 4))
        self._batch = _Batch()
        self._changed = threading.Condition()
        self._pending: dict[Future[None], _Batch] = {}
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._context = background_loop()
        self._loop = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._start()
            self._drain(give_up=error is not None)
        finally:
            self._context.__exit__(None, None, None)

    def put(self, key: str, content: pa.Buffer | Path, done: Callable[[Stored], None]) -> None:
        """Start to put an object; `done` is called, in another thread, when the store has confirmed it.

        Raises:
            StoreError: An earlier object could not be put.
        """
        self._batch.work.append(partial(self._put, key, content, done))
        self._batch.size_bytes += size_of(content)
        if len(self._batch.work) >= self._batch_objects or self._batch.size_bytes >= self._max_bytes // 4:
            self._start()

    async def _put(self, key: str, content: pa.Buffer | Path, done: Callable[[Stored], None]) -> None:
        done(await self._put_object(key, content))

    def _start(self) -> None:
        batch, self._batch = self._batch, _Batch()
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._has_room(batch))
            if self._failure is not None:
                raise self._failure
            future = asyncio.run_coroutine_threadsafe(batch.run(), self._loop)
            self._pending[future] = batch
        future.add_done_callback(self._settle)

    def _has_room(self, batch: "_Batch") -> bool:
        pending = self._pending.values()
        objects = sum(len(other.work) for other in pending) + len(batch.work)
        size_bytes = sum(other.size_bytes for other in pending) + batch.size_bytes
        return not pending or (objects <= self._concurrency and size_bytes <= self._max_bytes)

    def _settle(self, future: Future[None]) -> None:
        with self._changed:
            del self._pending[future]
            if not future.cancelled() and self._failure is None:
                self._failure = future.exception()
            self._changed.notify_all()

    def _drain(self, *, give_up: bool) -> None:
        with self._changed:
            self._changed.wait_for(lambda: give_up or self._failure or not self._pending)
            unfinished = list(self._pending)
        for future in unfinished:
            future.cancel()
        with self._changed:
            self._changed.wait_for(lambda: not self._pending)
            if self._failure is not None and not give_up:
                raise self._failure


@dataclass
class _Batch:
    """Objects that are put at the same time."""

    work: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    size_bytes: int = 0

    async def run(self) -> None:
        await all_or_none([start() for start in self.work])


def size_of(content: pa.Buffer | Path) -> int:
    """Return the size of an object's content, in bytes."""
    return content.stat().st_size if isinstance(content, Path) else int(content.size)


async def all_or_none(work: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Wait for all results, in order; if one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def background_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread of its own: the caller may be inside an event loop already, as a notebook is."""
    loop = HandoverLoop()
    thread = threading.Thread(target=loop.run_forever, name="dagfusion-store", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

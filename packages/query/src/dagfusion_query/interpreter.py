"""How this process uses the interpreter: pandas hidden from pyarrow, pauses of the garbage collector, and Ctrl-C.

Commands import, connect and wait on a thread of their own, so that the main thread can be interrupted.
"""

import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")
_CHECK_S = 0.2
_THREAD = "dagfusion-ask"
_SWITCH_INTERVAL_S = 0.0005


class _NoPandas(MetaPathFinder):
    """Finds that there is no pandas.

    With the first array that it makes, pyarrow imports pandas where it is installed, so that it can tell pandas' values
    from others: 0.2 s and 30 MB. Neither commands nor workers have such values.
    """

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def hide_pandas() -> MetaPathFinder:
    """Hide pandas from everything that this process imports; return what hides it, in `sys.meta_path`."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    return finder


def import_without_pandas() -> None:
    """Import pyarrow, and let it find that there is no pandas; a process that has imported either is left as it is."""
    if {"pandas", "pyarrow"} & sys.modules.keys():
        return
    finder = hide_pandas()
    try:
        import pyarrow as pa  # noqa: PLC0415

        pa.scalar(0)  # it looks once
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def uncollected() -> Iterator[None]:
    """Pause the garbage collector, which takes a seventh of the start of a command that imports and connects."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


class _BulkWork:
    """Sets the interpreter up for full reads, from the start of the first to the end of the last.

    The cycle collector would walk each batch over and over: there are no cycles in it. And the thread that fetches rows
    would wait the usual 5 ms for its turn, while PostgreSQL waits for it after every 200 KB that a socket holds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._full_reads = 0
        self._before = (True, 0.0)

    def __enter__(self) -> None:
        with self._lock:
            self._full_reads += 1
            if self._full_reads == 1:
                self._before = gc.isenabled(), sys.getswitchinterval()
                gc.disable()
                sys.setswitchinterval(min(self._before[1], _SWITCH_INTERVAL_S))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._full_reads -= 1
            if self._full_reads == 0:
                was_enabled, interval_s = self._before
                sys.setswitchinterval(interval_s)
                if was_enabled:
                    gc.enable()


BULK_WORK = _BulkWork()


def interruptibly(work: Callable[[], T]) -> T:
    """Do something on another thread, and return or raise what it does.

    Python heeds a signal on its main thread, between two steps of its own: never while a library waits there for a
    service, and an import may drop the exception. So whatever imports, connects or waits is done here. An interrupted
    thread is left alone: closing the connection ends what it does, and `end_abandoned` the process.
    """
    outcome: Future[T] = Future()
    threading.Thread(target=_run, args=(work, outcome), name=_THREAD, daemon=True).start()
    while not outcome.done():
        wait([outcome], _CHECK_S)  # with an end, because a signal that comes just before it does not end it
    return outcome.result()


def end_abandoned(code: int) -> None:
    """End the process at once, if an interrupted thread is left: one that imports a library aborts Python's own end."""
    if any(thread.name == _THREAD for thread in threading.enumerate()):
        os._exit(code)


def _run(work: Callable[[], T], outcome: "Future[T]") -> None:
    try:
        done = work()
    except BaseException as error:  # noqa: BLE001  # it is the waiting thread's
        outcome.set_exception(error)
    else:
        outcome.set_result(done)

"""Ctrl-C: commands import, connect and wait on a thread of their own, so that the main thread can be interrupted."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
_CHECK_S = 0.2
_THREAD = "dagfusion-command"


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

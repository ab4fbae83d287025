"""Ctrl-C, heeded at once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future


def interruptibly(work: Callable[[], None]) -> None:
    """Do something on another thread, and return or raise what it does.

    Python heeds a signal on its main thread, between two steps of its own: never while a library waits there for a
    service. An interrupted thread is left alone; closing the connection ends what it does, and the process ends it.
    """
    outcome: Future[None] = Future()
    threading.Thread(target=_run, args=(work, outcome), name="dagfusion-ask", daemon=True).start()
    outcome.result()


def _run(work: Callable[[], None], outcome: "Future[None]") -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001  # it is the waiting thread's
        outcome.set_exception(error)
    else:
        outcome.set_result(None)

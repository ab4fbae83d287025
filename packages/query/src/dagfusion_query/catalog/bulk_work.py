"""The set-up of the interpreter while event logs are read in full."""

import gc
import sys
import threading

_SWITCH_INTERVAL_S = 0.0005


class _BulkWork:
    """Sets the interpreter up for full syncs, from the start of the first to the end of the last.

    The cycle collector would walk each batch over and over: there are no cycles in it. And the thread that fetches rows
    would wait the usual 5 ms for its turn, while PostgreSQL waits for it after every 200 KB that a socket holds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._syncs = 0
        self._before = (True, 0.0)

    def __enter__(self) -> None:
        with self._lock:
            self._syncs += 1
            if self._syncs == 1:
                self._before = gc.isenabled(), sys.getswitchinterval()
                gc.disable()
                sys.setswitchinterval(min(self._before[1], _SWITCH_INTERVAL_S))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._syncs -= 1
            if self._syncs == 0:
                was_enabled, interval_s = self._before
                sys.setswitchinterval(interval_s)
                if was_enabled:
                    gc.enable()


BULK_WORK = _BulkWork()

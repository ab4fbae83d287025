"""Whether this process still computes something that it was told to give up.

A statement's execution is asked to stop; some of DataFusion's joins do not hear of it, and go on for minutes. A process
in which they do is of no use any more.
"""

import threading
import time
from pathlib import Path

_TASKS = Path("/proc/self/task")
_LOOKS = 3  # in a row that have to agree: a thread sleeps now and then
_LOOK_S = 0.005
EXIT_CODE = 75  # of a worker that ends because it cannot come to rest


def comes_to_rest(within_s: float) -> bool:
    """Wait until no other thread runs; return whether that was so in time."""
    deadline = time.monotonic() + within_s
    looks = 0
    while looks < _LOOKS:
        looks = looks + 1 if _is_at_rest() else 0
        if looks == 0 and time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def _is_at_rest() -> bool:
    """Tell whether no other thread runs or would like to."""
    if not _TASKS.exists():  # not Linux
        before = time.process_time()
        time.sleep(4 * _LOOK_S)
        return time.process_time() - before < _LOOK_S
    own = str(threading.get_native_id())
    return not any(_is_running(task) for task in _TASKS.iterdir() if task.name != own)


def _is_running(task: Path) -> bool:
    try:
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it has ended
        return False
    return state == "R"

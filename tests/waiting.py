"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable

PATIENCE_S = 60.0


def eventually(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> bool:
    """Wait until a condition holds, and return whether it does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True

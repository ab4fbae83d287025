"""Runs a program in which the threads of Rust libraries come back to Python only while it shuts down."""

import subprocess
import sys
from pathlib import Path

# A busy machine lets such a thread go on so late.
LATE = """
import asyncio.selector_events, sys, threading, time
def wake(self, wake=asyncio.selector_events.BaseSelectorEventLoop._write_to_self):
    wake(self)
    if threading.current_thread().name.startswith("Dummy"):
        time.sleep(0.5)
asyncio.selector_events.BaseSelectorEventLoop._write_to_self = wake
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1)
sys.slow = Slow()
"""


def check_end(program: str, folder: Path) -> None:
    """Run a program, which has to end without a failure."""
    ran = subprocess.run(  # noqa: S603  # a test's own program
        [sys.executable, "-c", LATE + program], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert (ran.returncode, ran.stderr) == (0, "")

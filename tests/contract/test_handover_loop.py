"""A process that used Rust libraries ends in order, however late their threads come back."""

import subprocess
import sys
import threading
from pathlib import Path

import dagster as dg
import pytest

from dagfusion_contract.handover_loop import HandoverLoop

# A thread of a library wakes the loop, and a busy machine lets it go on only while Python shuts down.
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
PIPELINE = """
import obstore
from obstore.store import MemoryStore
from dagfusion_pipeline.uploads import background_loop
async def put():
    await obstore.put_async(MemoryStore(), "key", b"content")
with background_loop() as loop:
    asyncio.run_coroutine_threadsafe(put(), loop).result()
"""
QUERY = """
import dagfusion_query
with dagfusion_query.connect() as connection:
    assert connection.sql("SELECT 1").to_arrow().num_rows == 1
"""


def test_a_loop_closes_when_all_have_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, wakes, goes_on = HandoverLoop(), threading.Event(), threading.Event()

    def wake(_: HandoverLoop) -> None:
        wakes.set()
        assert goes_on.wait(30)

    monkeypatch.setattr(HandoverLoop, "_write_to_self", wake)
    library = threading.Thread(target=loop.call_soon_threadsafe, args=(print,))
    library.start()
    assert wakes.wait(30)
    closing = threading.Thread(target=loop.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    assert not loop.is_closed()
    goes_on.set()
    closing.join(30)
    library.join(30)

    assert loop.is_closed()


def test_a_hand_over_within_another_ends_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector may run a finalizer at any time."""
    loop, depth = HandoverLoop(), iter([1, 2])

    def wake(loop: HandoverLoop) -> None:
        if next(depth) == 1:
            loop.call_soon_threadsafe(print)

    monkeypatch.setattr(HandoverLoop, "_write_to_self", wake)
    loop.call_soon_threadsafe(print)
    loop.close()

    assert loop.is_closed()


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("program", [PIPELINE, QUERY], ids=["pipeline", "query"])
def test_a_process_ends_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    dg.DagsterInstance.from_config(str(tmp_path)).dispose()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGFUSION_STATE_DIR", "none")

    ran = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", LATE + program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )

    assert ran.returncode == 0, ran.stderr

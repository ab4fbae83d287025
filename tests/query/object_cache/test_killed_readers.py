"""Processes that are killed while they fetch objects: the next answers are right, and what is left is removed.

The default run kills a few readers. KILLED_READERS=200 kills more.
"""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dagfusion_query.engine.engine import Engine
from dagfusion_query.event_log.event_log_interface import Event
from dagfusion_query.object_cache.copies import Copies
from dagfusion_query.settings import Settings
from tests.e2e.wire import Recorded
from tests.query.engine.conftest import Lake
from tests.query.engine.stored_lake import SUM, StoredLake, numbers, server, stored, wire

__all__ = ["server", "stored", "wire"]

KILLS = int(os.environ.get("KILLED_READERS", "3"))
OBJECTS = 100
ROWS = 2000
EXPECTED = [{"n": sum(sum(range(number, number + ROWS)) for number in range(OBJECTS))}]
STARTED = "from tests.query.object_cache.test_killed_readers import read_forever; read_forever({!r})"


def read(settings: Settings, events: Sequence[Event], root: Path) -> list[dict[str, int]]:
    """Answer one statement as a new process does: with nothing in memory."""
    lake = Lake(root)
    lake.engine.close()
    lake.engine = Engine(settings)
    lake.fold(list(events))
    try:
        return lake.rows(SUM)
    finally:
        lake.engine.close()


def read_forever(file: str) -> None:
    """Be a reader until something is wrong."""
    settings, events, root = pickle.loads(Path(file).read_bytes())  # noqa: S301  # our own
    while read(settings, events, root) == EXPECTED:
        pass


def kill_in_the_middle_of_a_fetch(file: Path, wire: Recorded) -> None:
    """Start a reader, and kill it when it has asked for some of the objects."""
    wire.requests.clear()
    some = random.randrange(1, OBJECTS // 2)  # noqa: S311  # any moment will do
    with subprocess.Popen([sys.executable, "-c", STARTED.format(str(file))]) as reader:  # noqa: S603
        while len(wire.requests) < some:
            assert reader.poll() is None, "a reader got a wrong answer"
            time.sleep(0.001)
        reader.kill()
        assert reader.wait() == -signal.SIGKILL


def finished(folder: Path) -> list[Path]:
    return [path for path in folder.glob("objects/*/*") if "." not in path.name]


def test_kills_in_the_middle_of_a_fetch(stored: Callable[..., StoredLake], wire: Recorded, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    lake = stored(object_cache_dir=str(folder), scan_concurrency=4)
    events = [lake.put(str(number), numbers(number, ROWS)) for number in range(OBJECTS)]
    file = tmp_path / "reader"
    file.write_bytes(pickle.dumps((lake.settings, events, tmp_path)))

    for _ in range(KILLS):
        kill_in_the_middle_of_a_fetch(file, wire)
        whole = finished(folder)
        wire.requests.clear()
        assert read(lake.settings, events, tmp_path) == EXPECTED
        assert len(wire.requests) >= OBJECTS - len(whole), "what was killed is fetched again"
        assert len(finished(folder)) == OBJECTS
        for path in finished(folder):  # what was half written stays for the next round
            path.unlink()

    copies = Copies(folder, 0)
    copies._eviction.run(copies._eviction.listed(), frozenset(copies._pinned()))
    assert [path for path in folder.glob("objects/*/*") if path.stat().st_size] == []  # an empty file takes no room
    assert list(folder.glob("pins/*")) == []

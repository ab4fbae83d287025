"""Local copies on a file system that is really full: answers stay right, and nothing half written stays."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.wire import Recorded
from tests.query.disk import SmallDisk, mounted
from tests.query.engine.stored_lake import SUM, StoredLake, numbers, server, stored, wire

__all__ = ["server", "stored", "wire"]

OBJECTS = 12
ROWS = 4000  # 32 KB an object, and the disk has 256
EXPECTED = [{"n": sum(sum(range(number, number + ROWS)) for number in range(OBJECTS))}]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "copies"
    folder.mkdir()
    with mounted(folder) as disk:
        yield disk


def half_written(folder: Path) -> list[Path]:
    return [*folder.glob("objects/*/*.*"), *folder.glob("pins/*")]


def test_answers_are_right_before_while_and_after_the_disk_is_full(
    disk: SmallDisk, stored: Callable[..., StoredLake], wire: Recorded
) -> None:
    lake = stored(object_cache_dir=str(disk.folder))
    for number in range(OBJECTS):
        lake.put(str(number), numbers(number, ROWS))

    assert lake.rows(SUM) == EXPECTED, "the disk fills up while copies are made"
    assert half_written(disk.folder) == []
    disk.fill()
    assert lake.rows(SUM) == EXPECTED, "not even a pin can be written"
    assert half_written(disk.folder) == []
    disk.empty()
    assert lake.rows(SUM) == EXPECTED
    few = "SELECT sum(x + 0) AS n FROM local_default.t WHERE p IN ('0', '1')"
    for copy in disk.folder.glob("objects/*/*"):
        copy.unlink()
    assert lake.rows(few) == [{"n": sum(range(ROWS)) + sum(range(1, ROWS + 1))}]
    wire.requests.clear()
    assert lake.rows(few) == [{"n": sum(range(ROWS)) + sum(range(1, ROWS + 1))}]
    assert wire.requests == [], "with room, copies are made and read again"
    assert half_written(disk.folder) == []

"""Processes that are killed while they write, pin and evict: what is left is whole, or is not read, and goes.

`DAGFUSION_KILLS` is how often two of them are killed.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dagfusion_query.object_cache.copies import DIGEST_BYTES, Copies, copy_key

pytestmark = pytest.mark.usefixtures("processes")

SIZE = 20_000
LIMIT_BYTES = 40 * (SIZE + DIGEST_BYTES)
OBJECTS = 200
KILLS = int(os.environ.get("DAGFUSION_KILLS", "8"))
BUSY = """
import random, sys
from pathlib import Path
from tests.query.object_cache.test_killed import OBJECTS, Copies, LIMIT_BYTES, read

copies = Copies(Path(sys.argv[1]), LIMIT_BYTES)
print("ready", flush=True)
while True:
    read(copies, random.sample(range(OBJECTS), 8))
"""


def content(number: int) -> bytes:
    return number.to_bytes(8, "little") * (SIZE // 8)


def read(copies: Copies, numbers: list[int]) -> None:
    """Do what a run does: pin, fetch what is missing, and read."""
    keys = [copy_key(str(number)) for number in numbers]
    with copies.pinned(keys):
        for number, key in zip(numbers, keys, strict=True):
            is_block = number % 4 == 0
            if copies.has(key, SIZE, is_block=is_block):
                continue
            if is_block:
                copies.put_block(key, SIZE, [(0, content(number)[:8]), (SIZE - 8_000, content(number)[-8_000:])])
            else:
                copies.put(key, content(number), hashlib.sha256(content(number)).digest())
        for number, key in zip(numbers, keys, strict=True):
            stored = Path(copies.path(key)).read_bytes()
            if number % 4 == 0:
                assert stored[:8] == content(number)[:8]
                assert stored[SIZE - 8_000 : SIZE] == content(number)[-8_000:]
            else:
                assert stored[:SIZE] == content(number)


def taken_bytes(copies: Copies) -> int:
    statuses = (path.stat() for path in copies.folder.glob("objects/*/*"))
    return sum(min(status.st_size, 512 * status.st_blocks) for status in statuses)


def test_kills_leave_nothing_that_is_read_or_stays(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    for _ in range(KILLS):
        readers = [
            subprocess.Popen([sys.executable, "-c", BUSY, str(folder)], stdout=subprocess.PIPE)  # noqa: S603
            for _ in range(2)
        ]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"ready\n"
        time.sleep(random.uniform(0, 0.3))  # noqa: S311  # any moment will do
        for reader in readers:
            assert reader.poll() is None, "a reader failed"
            reader.kill()
            assert reader.wait() == -signal.SIGKILL
            assert reader.stdout is not None
            reader.stdout.close()

    copies = Copies(folder, LIMIT_BYTES)
    for number in range(OBJECTS):
        read(copies, [number])
    with copies._evicting:
        copies._eviction.run(copies._eviction.listed(), frozenset(copies._pinned()))
    assert taken_bytes(copies) <= LIMIT_BYTES
    assert not list(folder.glob("pins/*"))


@pytest.mark.parametrize("method", ["_entries", "_read_ghosts", "_write_ghosts"])
def test_an_eviction_that_cannot_write_is_no_error(
    tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = Copies(tmp_path / "copies", LIMIT_BYTES)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    copies._evicting.acquire()
    copies._eviction._wrote = 0
    for number in range(OBJECTS // 4):
        copies.put(copy_key(str(number)), content(number), hashlib.sha256(content(number)).digest())
    monkeypatch.setattr(copies._eviction, method, fail)

    copies._evict()

    assert "No space left on device" in caplog.text
    assert not copies._evicting.locked()

"""Evicts copies by S3-FIFO (Yang et al., SOSP 2023). Its state is in the metadata of the copies' files.

A new copy enters the small queue, which has a tenth of the space. A copy that is used again moves to the main queue,
and the others are evicted. So a scan of everything does not evict copies that are used often. A copy that was evicted a
short time ago enters the main queue at once. The modification time of a file is its position in its queue, and bits of
its mode have the queue and the number of uses, up to three.
"""

import os
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SMALL_SHARE = 0.1
_ROOM_SHARE = 0.05  # of the limit that is freed at once, so that eviction runs now and then
_GHOSTS = 100_000
_BLOCK_BYTES = 4096  # of the disk: a file takes whole ones
_STAT_BYTES = 512  # the unit of `st_blocks`
_MODE = 0o600
_MAIN = 0o001
_COUNT = 0o030  # two bits
_ONE = 0o010
_SHARD = re.compile(r"[0-9a-f]{2}")
_COPY = re.compile(r"([0-9a-f]{30})(?:\.[0-9a-f]{8})?")  # with an end while it is written


def counted(path: str, mode: int) -> None:
    """Count a use of a copy."""
    if mode & _COUNT < _COUNT:
        with suppress(FileNotFoundError):  # removed by hand in the meantime
            os.chmod(path, (mode & 0o777) + _ONE)  # noqa: PTH101  # once for each object that a query reads


@dataclass(frozen=True)
class Entry:
    """A copy as it is listed, and how many bytes of the disk it takes."""

    path: Path
    key: str
    size: int
    mode: int
    at_ns: int


class Eviction:
    """Removes copies.

    Args:
        objects: The folder of the copies.
        ghosts: A file for the keys that left last.
        limit_bytes: How much the copies may take together.
    """

    def __init__(self, objects: Path, ghosts: Path, limit_bytes: int) -> None:
        self._objects, self._ghosts, self._limit_bytes = objects, ghosts, limit_bytes
        self._gone: frozenset[str] | None = None
        self._wrote: int | None = None  # since the last look at all copies; None before the first

    def wrote(self, status: os.stat_result) -> None:
        """Count the room of a new copy."""
        self._wrote = None if self._wrote is None else self._wrote + _room(status)

    @property
    def is_due(self) -> bool:
        """True if the copies may exceed their limit."""
        return self._wrote is None or self._wrote > self._limit_bytes * _ROOM_SHARE

    def admit(self, path: Path, key: str) -> None:
        """Put a new copy into a queue."""
        if self._gone is None:
            self._gone = self._read_ghosts()
        if key in self._gone:
            path.chmod(_MODE | _MAIN)

    def listed(self) -> Sequence[Entry]:
        """Return all copies, the oldest first."""
        self._wrote = 0
        return sorted(self._entries(), key=lambda entry: entry.at_ns)

    def run(self, entries: Sequence[Entry], pinned: Collection[str]) -> None:
        """Remove copies until there is room again.

        Args:
            entries: All copies, the oldest first.
            pinned: The keys of copies that are needed now.
        """
        total = sum(entry.size for entry in entries)
        target = self._limit_bytes * (1 - _ROOM_SHARE)
        if total > target:
            free = [entry for entry in entries if entry.key not in pinned]
            left = self._evict(free, total, target)
            self._gone = frozenset([*left, *self._read_ghosts()][:_GHOSTS])
            self._write_ghosts()

    def _evict(self, entries: list[Entry], total: float, target: float) -> list[str]:
        """Remove copies, and return the keys of those that were not used again."""
        small = deque(entry for entry in entries if not entry.mode & _MAIN)
        main = deque(entry for entry in entries if entry.mode & _MAIN)
        small_bytes = sum(entry.size for entry in small)
        ghosts: list[str] = []
        while total > target and (small or main):
            if small and (small_bytes > self._limit_bytes * _SMALL_SHARE or not main):
                entry = small.popleft()
                small_bytes -= entry.size
                if entry.mode & _COUNT:
                    main.append(_requeued(entry, _MODE | _MAIN))
                    continue
                ghosts.append(entry.key)
            else:
                entry = main.popleft()
                if entry.mode & _COUNT:
                    main.append(_requeued(entry, entry.mode - _ONE))
                    continue
            entry.path.unlink(missing_ok=True)
            total -= entry.size
        return ghosts

    def _entries(self) -> Iterator[Entry]:
        """Yield the copies, also those that are being written; files and folders of other names are not ours."""
        shards = [shard for shard in os.scandir(self._objects) if _SHARD.fullmatch(shard.name) and shard.is_dir()]
        for shard in shards:
            for file in os.scandir(shard):
                name = _COPY.fullmatch(file.name)
                try:
                    if name is None or not file.is_file(follow_symlinks=False):
                        continue
                    status = file.stat()
                except FileNotFoundError:
                    continue
                mode = status.st_mode & 0o777
                yield Entry(Path(file.path), shard.name + name[1], _room(status), mode, status.st_mtime_ns)

    def _read_ghosts(self) -> frozenset[str]:
        try:
            return frozenset(self._ghosts.read_text("ascii").split())
        except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
            return frozenset()

    def _write_ghosts(self) -> None:
        temporary = self._ghosts.with_suffix(".new")
        temporary.write_text("\n".join(self._gone or ()), "ascii")
        temporary.rename(self._ghosts)


def _room(status: os.stat_result) -> int:
    """Return how many bytes of the disk a copy takes; one with holes takes less than its size.

    Some file systems do not tell, and report no block at all.
    """
    used = min(status.st_size, status.st_blocks * _STAT_BYTES or status.st_size)
    return max(1, -(-used // _BLOCK_BYTES)) * _BLOCK_BYTES


def _requeued(entry: Entry, mode: int) -> Entry:
    """Put a copy at the end of its queue."""
    with suppress(FileNotFoundError):  # removed by hand in the meantime
        entry.path.chmod(mode)
        os.utime(entry.path)
    return Entry(entry.path, entry.key, entry.size, mode & 0o777, entry.at_ns)

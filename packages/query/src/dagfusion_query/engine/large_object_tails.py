"""The tails of large objects, which are their page indexes and footers: compared, and kept while blocks need them.

A block that is made with a damaged tail has wrong rows for as long as it is kept. So each tail is fetched twice, and no
block is made before both answers are equal. docs/explanation/limits.md has what is compared, and what is not.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable

from dagfusion_query.engine.stored_objects import StoredObject
from dagfusion_query.object_cache.parquet_blocks import ParquetTail, Range
from dagfusion_query.scan.large_objects import REQUEST_BYTES

RECENT_BYTES = 32 << 20
_Version = tuple[str, str, str | None]  # of an object: environment, URI, etag


class RecentTails:
    """The tails that were fetched or used last. They belong to one event loop.

    Args:
        limit_bytes: How much memory they may take together.
    """

    def __init__(self, limit_bytes: int = RECENT_BYTES) -> None:
        self._limit_bytes, self._tails = limit_bytes, dict[_Version, ParquetTail]()

    @property
    def bytes(self) -> int:
        """The memory that they take."""
        return sum(tail.memory_bytes for tail in self._tails.values())

    def get(self, file: StoredObject) -> ParquetTail | None:
        """Return the tail of an object, if it is there."""
        tail = self._tails.pop(_version(file), None)
        if tail is not None:
            self._tails[_version(file)] = tail
        return tail

    def add(self, file: StoredObject, tail: ParquetTail) -> None:
        """Keep a tail if it fits, instead of those that were not used for the longest time."""
        if tail.memory_bytes > self._limit_bytes:
            return
        self.forget(file)
        while self.bytes + tail.memory_bytes > self._limit_bytes:
            del self._tails[next(iter(self._tails))]
        self._tails[_version(file)] = tail

    def forget(self, file: StoredObject) -> None:
        """Drop the tail of an object."""
        self._tails.pop(_version(file), None)


class Tails:
    """The tails that one execution needs. A tail is held from the first block of its object until the last one.

    Together the tails use at most `limit_bytes`, except that a single tail may be larger. If there is no room for
    another tail, its fetch waits until all blocks of an earlier one are made. The size of a tail is not known before it
    is fetched. So the first tail is fetched alone, and each tail that is being fetched counts as the largest one so
    far.

    Args:
        recent: Finds tails that are already in memory, and keeps new ones.
        fetch: Fetches the tail of an object.
        files: For each block that is needed, its object.
        limit_bytes: The most memory that the tails use together.
    """

    def __init__(
        self,
        recent: RecentTails,
        fetch: Callable[[StoredObject], Awaitable[ParquetTail]],
        files: Iterable[StoredObject],
        limit_bytes: int = RECENT_BYTES,
    ) -> None:
        self._recent, self._fetch, self._limit_bytes = recent, fetch, limit_bytes
        self._blocks = Counter(_version(file) for file in files)
        self._held: dict[_Version, ParquetTail] = {}
        self._locks: defaultdict[_Version, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._largest_bytes: int | None = None
        self._coming, self._users = 0, Counter[_Version]()
        self._turn, self._changed = asyncio.Lock(), asyncio.Event()

    @property
    def bytes(self) -> int:
        """The memory that they take."""
        return sum(tail.memory_bytes for tail in self._held.values())

    async def get(self, file: StoredObject) -> ParquetTail:
        """Return the tail of an object, when there is room. Each call is followed by one of `release` or `forget`."""
        version = _version(file)
        self._users[version] += 1
        async with self._locks[version]:
            if version not in self._held:
                async with self._turn:  # first come, first served: all blocks of a tail that is held were begun before
                    await self._room()
                    self._coming += 1
                self._held[version] = await self._next(file)
            return self._held[version]

    def forget(self, file: StoredObject) -> None:
        """Fetch the tail of an object again when it is needed next: it may be damaged."""
        version = _version(file)
        self._held.pop(version, None)
        self._recent.forget(file)
        self._leave(version)

    def release(self, file: StoredObject) -> None:
        """Count a block of an object that is made."""
        version = _version(file)
        self._blocks[version] -= 1
        if not self._blocks[version]:
            self._held.pop(version, None)
            self._locks.pop(version, None)
        self._leave(version)

    async def _room(self) -> None:
        """Wait until one more tail fits, or no block is being made, because then nothing would make room."""
        while not self._fits() and (self._coming or any(self._users[version] for version in self._held)):
            self._changed.clear()
            await self._changed.wait()

    def _fits(self) -> bool:
        if self._largest_bytes is None:
            return False
        return self.bytes + (self._coming + 1) * self._largest_bytes <= self._limit_bytes

    async def _next(self, file: StoredObject) -> ParquetTail:
        try:
            tail = self._recent.get(file)
            if tail is None:
                tail = await self._fetch(file)
                self._recent.add(file, tail)
        finally:
            self._coming -= 1
            self._changed.set()
        self._largest_bytes = max(self._largest_bytes or 0, tail.memory_bytes)
        return tail

    def _leave(self, version: _Version) -> None:
        self._users[version] -= 1
        self._changed.set()


async def fetch_tail(get: Callable[[Range], Awaitable[bytes]], size_bytes: int) -> ParquetTail:
    """Fetch the tail of an object of this size, each byte twice.

    Args:
        get: Fetches a range of the object.
        size_bytes: The size of the object.

    Raises:
        NoBlocksError: The object has a bloom filter.
        ValueError: Two answers differ, or the object is not Parquet.
    """
    start, end, content = max(0, size_bytes - REQUEST_BYTES), size_bytes, b""
    while True:
        first, second = await asyncio.gather(get((start, end)), get((start, end)))
        if first != second:
            raise ValueError(f"two answers with the bytes {start} to {end} differ")
        content = first + content
        # A footer of many row groups takes long to read, and other executions share the event loop.
        tail = await asyncio.to_thread(ParquetTail, content, size_bytes)
        if tail.start >= start:
            return tail
        start, end = tail.start, start


def _version(file: StoredObject) -> _Version:
    return file.table.environment, file.uri, file.etag

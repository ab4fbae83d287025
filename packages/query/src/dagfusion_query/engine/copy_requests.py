"""Requests that make local copies of objects, or of blocks of large ones, each verified before it is written.

A copy holds the bytes of one GET, whose etag, size and checksum are those of the event. A block of a large object takes
one GET, and its pages have checksums. The first block of an object takes two more, for the footer, which must be equal.
All of them are of the event's etag.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import obstore
from obstore.exceptions import BaseError, PreconditionError

from dagfusion_client.errors import ArchivedObjectError, CorruptObjectError, QueryError, StaleObjectError
from dagfusion_query.engine.large_object_tails import RecentTails, Tails, fetch_tail
from dagfusion_query.engine.runtime import Stores, all_ended, together
from dagfusion_query.engine.stored_objects import StoredObject, stored_objects
from dagfusion_query.object_cache.copies import Copies, CopyUse, TableFetch
from dagfusion_query.object_cache.parquet_blocks import NoBlocksError, ParquetTail, Range
from dagfusion_query.scan.copied_objects import CopiedPart, CopiedScan
from dagfusion_query.scan.large_objects import REQUEST_BYTES
from dagfusion_query.scan.table_scan import Scan

if TYPE_CHECKING:
    from obstore import GetOptions

_IN_FLIGHT_BYTES = 128 << 20
_TRIES = 2
_TAIL_BYTES = 2 * REQUEST_BYTES  # of the two answers with a tail, most of which have no more


class Missing(NamedTuple):
    """A copy that must be made: its key, its object, and the part of the object that it has."""

    key: str
    file: StoredObject
    part: CopiedPart


_Put = Callable[[], None]  # writes a copy of what was fetched


@dataclass
class RequestTime:
    """The time of the requests of an execution.

    Attributes:
        seconds: The sum over all requests, also over those at once.
        fetches: The requests that made local copies, by table.
    """

    seconds: float = 0.0
    fetches: dict[str, TableFetch] = field(default_factory=dict)
    _found: set[str] = field(default_factory=set)  # keys of copies
    _fetched: set[str] = field(default_factory=set)
    _began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Measure one request."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began

    @contextmanager
    def fetch(self, file: StoredObject, size_bytes: int) -> Iterator[None]:
        """Measure one request that gives so many bytes of a local copy; see `TableFetch.bytes`."""
        began_s, table, fetched = time.perf_counter() - self._began, str(file.table.name), size_bytes
        try:
            with self.request():
                yield
        except Exception:
            fetched = 0
            raise
        finally:
            one = TableFetch(table, 1, fetched, began_s, time.perf_counter() - self._began)
            if (others := self.fetches.get(table)) is not None:
                requests, fetched = others.requests + 1, others.bytes + fetched
                one = replace(one, requests=requests, bytes=fetched, began_s=min(others.began_s, began_s))
            self.fetches[table] = one

    def used(self, scans: Sequence[CopiedScan], missing: Sequence[Missing]) -> None:
        """Count the copies of scans, of which these were fetched; each once, as partitions and scans may share it."""
        self._fetched.update(one.key for one in missing)
        self._found.update(key for scan in scans for key in scan.keys)
        self._found -= self._fetched

    def is_copy(self, path: str) -> bool:
        """Return True if a file is a local copy that the execution needed; its key is the end of its path."""
        key = "".join(path.rsplit("/", 2)[-2:])
        return key in self._found or key in self._fetched

    @property
    def copies(self) -> CopyUse:
        """The local copies that the execution needed."""
        return CopyUse(len(self._found), len(self._fetched))


class CopyRequests:
    """Makes local copies.

    Args:
        stores: The stores.
        copies: Where local copies are; None where there are none, and none is made.
        concurrency: Requests at once.
    """

    def __init__(self, stores: Stores, copies: Copies | None, concurrency: int) -> None:
        self._stores, self._copies, self._concurrency = stores, copies, concurrency
        self._recent = RecentTails()

    async def copy(self, missing: Sequence[Missing], spent: RequestTime) -> list[QueryError]:
        """Make copies that no query waits for.

        Returns:
            The errors of objects that are gone, replaced, archived or damaged. The others are copied.

        Raises:
            StoreUnavailableError: The store did not answer, or refused.
            OSError: There is no room for a copy.
        """
        errors: list[QueryError] = []
        failures: list[QueryError | OSError] = []

        async def copy_one(one: Missing) -> None:
            if failures:
                return
            try:
                await self.fetch([one], spent)
            except (StaleObjectError, ArchivedObjectError, CorruptObjectError) as error:
                errors.append(error)
            except (QueryError, OSError) as error:  # those at the same time go on: cancelled requests count in full
                failures.append(error)

        await together((partial(copy_one, one) for one in missing), self._at_once(missing))
        if failures:
            raise failures[0]
        return errors

    async def fetch(self, missing: Sequence[Missing], spent: RequestTime) -> None:
        """Make copies.

        Args:
            missing: The copies.
            spent: Gets the time of the requests.

        Raises:
            StaleObjectError: An object is gone, or is not the event's.
            PastError: The same of an object of a past state.
            CorruptObjectError: Its bytes are not those that were written.
            StoreUnavailableError: The store did not answer, or refused.
            OSError: There is no room for a copy.
            NoBlocksError: An object can only be read in place.
        """
        concurrency = self._at_once(missing)
        blocks = [one.file for one in missing if one.part.is_block]
        tails = Tails(self._recent, partial(self._tail, spent=spent), blocks)
        # The blocks of an object are made one after another, so few tails are in memory.
        missing = sorted(missing, key=lambda one: (one.file.uri, one.file.etag or "") if one.part.is_block else ())
        fetched: asyncio.Queue[_Put] = asyncio.Queue(concurrency)
        # A file takes long to make on some systems, during which the next objects can come.
        writing = self._write(fetched, len(missing))
        copies = (partial(self._copy, one, tails, fetched, spent) for one in missing)
        await all_ended([together(copies, concurrency), writing])

    def _at_once(self, missing: Sequence[Missing]) -> int:
        """Return how many of these copies are fetched at once, so that few bytes are in flight."""
        largest = max(one.part.size_bytes + (_TAIL_BYTES if one.part.is_block else 0) for one in missing)
        return max(1, min(self._concurrency, len(missing), _IN_FLIGHT_BYTES // max(largest, 1)))

    def forget_tails(self, scan: Scan) -> None:
        """Fetch the footers of a scan's large objects again before the next block of them is made."""
        for file in stored_objects(scan):
            self._recent.forget(file)

    async def _write(self, fetched: "asyncio.Queue[_Put]", count: int) -> None:
        while count:
            batch = [await fetched.get()]
            while not fetched.empty():
                batch.append(fetched.get_nowait())
            await asyncio.to_thread(lambda batch=batch: [put() for put in batch])  # type: ignore[misc]
            count -= len(batch)

    async def _copy(self, one: Missing, tails: Tails, fetched: "asyncio.Queue[_Put]", spent: RequestTime) -> None:
        for _ in range(_TRIES):
            put = await (self._block(one, tails, spent) if one.part.is_block else self._whole(one, spent))
            if put is not None:
                await fetched.put(put)
                return
        raise one.file.corrupt()

    async def _whole(self, one: Missing, spent: RequestTime) -> _Put | None:
        """Fetch an object; None if its bytes are not those that were written."""
        assert self._copies is not None  # noqa: S101  # what is missing is missing there
        content = memoryview(await self._get(one.file, spent))
        digest = hashlib.sha256(content)
        if one.file.checksum not in (None, f"sha256:{digest.hexdigest()}"):
            return None
        return partial(self._copies.put, one.key, content, digest.digest())

    async def _block(self, one: Missing, tails: Tails, spent: RequestTime) -> _Put | None:
        """Fetch a block of an object; None if the bytes of its pages are not those that were written."""
        assert self._copies is not None  # noqa: S101  # likewise
        tail = await tails.get(one.file)
        try:
            block = await asyncio.to_thread(tail.block, one.part.start, one.part.end)
        except ValueError:
            tails.forget(one.file)
            return None
        pages = (await self._get(one.file, spent, block.pages)).to_bytes()
        # Checksums of many pages block, and other executions share the event loop.
        if not await asyncio.to_thread(block.is_intact, pages):
            tails.forget(one.file)  # it may be what is damaged
            return None
        tails.release(one.file)
        return partial(self._copies.put_block, one.key, one.file.size_bytes, block.extents(pages))

    async def _tail(self, file: StoredObject, spent: RequestTime) -> ParquetTail:
        async def get(part: Range) -> bytes:
            return (await self._get(file, spent, part)).to_bytes()

        for _ in range(_TRIES):
            try:
                with suppress(ValueError):
                    return await fetch_tail(get, file.size_bytes)
            except NoBlocksError as error:
                raise NoBlocksError(f"{file.uri} {error}") from None
        raise file.corrupt("whose footer cannot be read, or differs between two requests")

    async def _get(self, file: StoredObject, spent: RequestTime, part: Range | None = None) -> obstore.Bytes:
        """Return the bytes of an object or of a part of it, of the event's version."""
        environment = file.table.environment
        options: GetOptions = {"if_match": file.etag}
        size_bytes = file.size_bytes
        if part is not None:
            options["range"], size_bytes = part, part[1] - part[0]
        try:
            store = self._stores.fetching(file.uri, environment)
            with spent.fetch(file, size_bytes):
                answer = await obstore.get_async(store, file.path, options=options)
                if answer.meta["e_tag"] != file.etag or answer.meta["size"] != file.size_bytes:
                    raise file.changed(answer.meta["size"])
                return await answer.bytes_async()
        except PreconditionError:
            raise file.changed() from None
        except (BaseError, FileNotFoundError) as error:
            raise await asyncio.to_thread(file.unavailable, error, self._stores) from error

"""Requests for the objects of an execution: copy them before it, or compare them with their events after it.

No result mixes versions of an object. A copy holds the bytes of one GET, whose etag, size and checksum are those of the
event. An object that is read in place takes several requests, and its etag is requested once more after the last one.
If it is still the event's, all requests read that version, unless the object was replaced twice in between and ended
with its first bytes. The time of its last modification does not help: a store reports whole seconds, and an event has
the clock of the writer.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import obstore
import pyarrow as pa
from obstore.exceptions import BaseError, NotFoundError, PreconditionError

from dagfusion_contract.uri import LOCAL
from dagfusion_query.engine.runtime import Stores
from dagfusion_query.engine.stored_objects import StoredObject, stored_objects
from dagfusion_query.object_cache.copies import Copies, TableFetch, copy_key
from dagfusion_query.scan.table_scan import CopiedScan, CopyPolicy, Scan
from dagfusion_query.settings import Settings

_IN_FLIGHT_BYTES = 128 << 20
_TRIES = 2


class _Fetched(NamedTuple):
    """The bytes of an object, and their SHA-256, under the key of its copy."""

    key: str
    content: memoryview
    digest: bytes


@dataclass
class RequestTime:
    """The time of the requests of an execution.

    Attributes:
        seconds: The sum over all requests, also over those at once.
        fetches: The requests that made local copies, by table.
    """

    seconds: float = 0.0
    fetches: dict[str, TableFetch] = field(default_factory=dict)
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
    def fetch(self, file: StoredObject) -> Iterator[None]:
        """Measure one request that gives the bytes of a local copy."""
        began_s, table = time.perf_counter() - self._began, str(file.table.name)
        with self.request():
            yield
        one = TableFetch(table, 1, file.size_bytes, began_s, time.perf_counter() - self._began)
        if (others := self.fetches.get(table)) is not None:
            requests, size_bytes = others.requests + 1, others.bytes + one.bytes
            one = replace(one, requests=requests, bytes=size_bytes, began_s=min(others.began_s, began_s))
        self.fetches[table] = one


class ObjectRequests:
    """Requests to object stores beside DataFusion's own.

    Args:
        stores: The stores.
        copies: Where local copies are; None where there are none.
        concurrency: Requests at once, for one scan.
    """

    def __init__(self, stores: Stores, copies: Copies | None, concurrency: int) -> None:
        self._stores, self._copies, self._concurrency = stores, copies, concurrency

    @asynccontextmanager
    async def pinned(self, scans: Sequence[CopiedScan]) -> AsyncIterator[list[tuple[str, StoredObject]]]:
        """Pin the local copies of the scans; yield the objects that must still be fetched, with their keys.

        Raises:
            OSError: The copies' folder cannot be written to.
        """
        if self._copies is None or not scans:
            yield []
            return
        pins = ExitStack()
        # Locks, files and checksums block, and other executions share the event loop.
        pinning = asyncio.ensure_future(asyncio.to_thread(self._pin, pins, self._copies, scans))
        try:
            yield await asyncio.shield(pinning)
        finally:
            if pinning.done():
                pins.close()
            else:  # the execution was cancelled, but the thread goes on
                pinning.add_done_callback(lambda _: pins.close())

    def _pin(self, pins: ExitStack, copies: Copies, scans: Sequence[CopiedScan]) -> list[tuple[str, StoredObject]]:
        pins.enter_context(copies.pinned([key for scan in scans for key in scan.keys]))
        return list(self._missing(copies, scans))

    def _missing(self, copies: Copies, scans: Sequence[CopiedScan]) -> Iterator[tuple[str, StoredObject]]:
        seen: set[str] = set()
        for copied in scans:
            sizes = copied.scan.kept["size_bytes"].to_pylist()
            absent = [i for i, key in enumerate(copied.keys) if key not in seen and not copies.has(key, sizes[i])]
            seen.update(copied.keys)
            if absent:
                files = stored_objects(_part(copied.scan, absent))
                yield from zip([copied.keys[i] for i in absent], files, strict=True)

    async def fetch(self, missing: Sequence[tuple[str, StoredObject]], spent: RequestTime) -> None:
        """Make copies.

        Args:
            missing: The objects, with the keys of their copies.
            spent: Gets the time of the requests.

        Raises:
            StaleObjectError: An object is gone, or is not the event's.
            PastError: The same of an object of a past state.
            CorruptObjectError: Its bytes are not those that were written.
            StoreUnavailableError: The store did not answer, or refused.
            OSError: There is no room for a copy.
        """
        largest = max(file.size_bytes for _, file in missing)
        concurrency = max(1, min(self._concurrency, len(missing), _IN_FLIGHT_BYTES // max(largest, 1)))
        fetched: asyncio.Queue[_Fetched] = asyncio.Queue(concurrency)
        # A file takes long to make on some systems, during which the next objects can come.
        writer = asyncio.ensure_future(self._write(fetched, len(missing)))
        gets = asyncio.ensure_future(
            _together((partial(self._copy, key, file, fetched, spent) for key, file in missing), concurrency)
        )
        try:
            await asyncio.gather(gets, writer)
        finally:
            gets.cancel()
            writer.cancel()

    async def check(
        self, scans: Sequence[Scan], opened: Callable[[], Collection[str] | None], spent: RequestTime
    ) -> None:
        """Compare the objects that were read in place with their events, when all of them were read.

        Args:
            scans: What was read in place.
            opened: Gives the paths of the objects that were opened; None for all.
            spent: Gets the time of the requests.

        Raises:
            StaleObjectError: An object is gone, or is not the event's.
            PastError: The same of an object of a past state.
            StoreUnavailableError: The store did not answer, or refused.
        """
        mutable = [file for scan in scans for file in stored_objects(scan) if not file.is_immutable]
        if mutable:
            paths = opened()
            read = [file for file in mutable if paths is None or file.path in paths]
            await _together((partial(self._compare, file, spent) for file in read), self._concurrency)

    async def _write(self, fetched: "asyncio.Queue[_Fetched]", count: int) -> None:
        assert self._copies is not None  # noqa: S101  # what is missing is missing there
        put = self._copies.put
        while count:
            batch = [await fetched.get()]
            while not fetched.empty():
                batch.append(fetched.get_nowait())
            await asyncio.to_thread(lambda batch=batch: [put(*copy) for copy in batch])  # type: ignore[misc]
            count -= len(batch)

    async def _copy(self, key: str, file: StoredObject, fetched: "asyncio.Queue[_Fetched]", spent: RequestTime) -> None:
        for _ in range(_TRIES):
            with spent.fetch(file):
                content = memoryview(await self._get(file))
            digest = hashlib.sha256(content)
            if file.checksum in (None, f"sha256:{digest.hexdigest()}"):
                await fetched.put(_Fetched(key, content, digest.digest()))
                return
        raise file.corrupt()

    async def _get(self, file: StoredObject) -> obstore.Bytes:
        """Return an object's bytes, of the event's version."""
        environment = file.table.environment
        try:
            answer = await obstore.get_async(
                self._stores.fetching(file.uri, environment), file.path, options={"if_match": file.etag}
            )
            if answer.meta["e_tag"] != file.etag or answer.meta["size"] != file.size_bytes:
                raise file.changed(answer.meta["size"])
            return await answer.bytes_async()
        except PreconditionError:
            raise file.changed() from None
        except (NotFoundError, FileNotFoundError):
            raise file.gone() from None
        except BaseError as error:
            raise file.unavailable(error, self._stores.settings(environment).endpoint_url) from error

    async def _compare(self, file: StoredObject, spent: RequestTime) -> None:
        environment = file.table.environment
        if file.uri.startswith(LOCAL) and not file.etag:
            size, etag = _local_size(file), None
        else:
            try:
                with spent.request():
                    meta = await obstore.head_async(self._stores.fetching(file.uri, environment), file.path)
            except (NotFoundError, FileNotFoundError):
                raise file.gone() from None
            except BaseError as error:
                raise file.unavailable(error, self._stores.settings(environment).endpoint_url) from error
            size, etag = meta["size"], meta["e_tag"]
        if size != file.size_bytes or (file.etag and etag and etag != file.etag):
            raise file.changed(size)


def copy_policy(copies: Copies, settings: Settings) -> CopyPolicy:
    """Return which scans read local copies."""
    return CopyPolicy(copies.path, copy_key, settings.object_cache_object_bytes, copies.limit_bytes // 2)


def _part(scan: Scan, numbers: Sequence[int]) -> Scan:
    """Return a scan of some of a scan's files, by their places in it."""
    places = pa.array(numbers, pa.int64())
    return replace(scan, files=places if scan.files is None else scan.files.take(places))


def _local_size(file: StoredObject) -> int:
    try:
        return Path(f"/{file.path}").stat().st_size
    except FileNotFoundError:
        raise file.gone() from None


async def _together(calls: Iterable[Callable[[], Coroutine[Any, Any, None]]], concurrency: int) -> None:
    """Await calls, so many at once; the first error ends all."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call()

    tasks = [asyncio.ensure_future(work()) for _ in range(concurrency)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()

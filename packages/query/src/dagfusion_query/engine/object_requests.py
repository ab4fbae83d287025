"""The objects that queries need: pins their copies before an execution, or compares them with their events after it.

It also lists new objects, of which the service makes copies before a query needs them.

No result mixes versions of an object. A copy is of one version, see `copy_requests.py`. An object that is read in place
takes several requests, and its etag is requested once more after the last one. If it is still the event's, all requests
read that version, unless the object was replaced twice in between and ended with its first bytes. The time of its last
modification does not help: a store reports whole seconds, and an event has the clock of the writer.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path
from typing import TypeVar

import obstore
import pyarrow as pa
import pyarrow.compute as pc
from obstore.exceptions import BaseError

from dagfusion_contract.uri import LOCAL_FILES, S3
from dagfusion_query.catalog.model import Table
from dagfusion_query.engine.copy_requests import CopyRequests, Missing, RequestTime
from dagfusion_query.engine.runtime import Planners, Stores, together
from dagfusion_query.engine.stored_objects import StoredObject, stored_objects
from dagfusion_query.object_cache.copies import Copies, copy_key
from dagfusion_query.scan.copied_objects import CopiedPart, CopiedScan, CopyPolicy
from dagfusion_query.scan.table_scan import FEW, Scan
from dagfusion_query.settings import Settings

_log = logging.getLogger(__name__)
T = TypeVar("T")

# Copies of one statement. More are pinned on another thread: their checksums would delay the planning of others.
_PINNED_BY_PLANNER = 64


class ObjectRequests:
    """Requests to object stores beside DataFusion's own.

    Args:
        stores: The stores.
        copies: Where local copies are; None where there are none.
        concurrency: Requests at once, for one scan.

    Attributes:
        copying: The requests that make copies.
    """

    def __init__(self, stores: Stores, copies: Copies | None, concurrency: int) -> None:
        self._stores, self._copies, self._concurrency = stores, copies, concurrency
        self.copying = CopyRequests(stores, copies, concurrency)

    @asynccontextmanager
    async def pinned(
        self, scans: Sequence[CopiedScan], planners: Planners, start: Callable[[], T]
    ) -> AsyncIterator[tuple[list[Missing], T | None]]:
        """Pin the local copies of the scans, and start what reads them if none is missing.

        Yields:
            The copies that must be made before the start, and what `start` returned; None if it was not called.

        Raises:
            OSError: The copies' folder cannot be written to.
        """
        if self._copies is None or not scans:
            yield [], None
            return
        pins = ExitStack()
        # Locks, files and checksums block, and other executions share the event loop.
        pinning = asyncio.ensure_future(self._pinning(pins, self._copies, scans, planners, start))
        try:
            yield await asyncio.shield(pinning)
        finally:
            if pinning.done():
                pins.close()
            else:  # the execution was cancelled, but the thread goes on
                pinning.add_done_callback(lambda _: pins.close())

    async def _pinning(
        self, pins: ExitStack, copies: Copies, scans: Sequence[CopiedScan], planners: Planners, start: Callable[[], T]
    ) -> tuple[list[Missing], T | None]:
        if sum(len(scan.keys) for scan in scans) > _PINNED_BY_PLANNER:
            return await asyncio.to_thread(self._pin, pins, copies, scans), None

        def pin_and_start() -> tuple[list[Missing], T | None]:
            missing = self._pin(pins, copies, scans)
            return missing, None if missing else start()

        return await planners.call(pin_and_start)  # one thread: each more has to be woken

    def _pin(self, pins: ExitStack, copies: Copies, scans: Sequence[CopiedScan]) -> list[Missing]:
        pins.enter_context(copies.pinned([key for scan in scans for key in scan.keys]))
        return list(self._missing(copies, scans))

    def _missing(self, copies: Copies, scans: Sequence[CopiedScan]) -> Iterator[Missing]:
        seen: set[str] = set()
        for copied in scans:
            sizes = copied.scan.sizes.to_pylist()
            absent = [
                (key, part)
                for key, part in zip(copied.keys, copied.parts, strict=True)
                if key not in seen and not copies.has(key, sizes[part.file], is_block=part.is_block)
            ]
            seen.update(copied.keys)
            if absent:
                numbers = sorted({part.file for _, part in absent})
                files = dict(zip(numbers, stored_objects(_part(copied.scan, numbers)), strict=True))
                yield from (Missing(key, files[part.file], part) for key, part in absent)

    def found(self, scan: CopiedScan) -> Sequence[str]:
        """Return those keys of a scan whose copies are there, which is no use of them."""
        if self._copies is None:
            return []
        sizes = scan.scan.sizes.to_pylist()
        if scan.copied is None:
            return [*compress(scan.keys, map(self._copies.has_size, scan.keys, sizes))]
        return [
            key
            for key, part in zip(scan.keys, scan.copied, strict=True)
            if self._copies.has_size(key, sizes[part.file], is_block=part.is_block)
        ]

    def has_file(self, key: str) -> bool:
        """Return True if the copy with this key is there, which is no use of it."""
        return self._copies is not None and Path(self._copies.path(key)).exists()

    async def discard_blocks(self, scans: Sequence[CopiedScan]) -> None:
        """Remove the blocks of scans that cannot be decoded: the headers of pages have no checksum.

        Blocks that other executions need at the moment stay. So do all if the copies' folder cannot be written to.
        """
        for scan in scans:
            self.copying.forget_tails(scan.scan)
        keys = [key for scan in scans for key, part in zip(scan.keys, scan.parts, strict=True) if part.is_block]
        if self._copies is not None and keys:
            try:
                await asyncio.to_thread(self._copies.discard, keys)
            except OSError as error:
                _log.warning("local copies of blocks that cannot be decoded are not removed: %s", error)

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
        every = (file for scan in scans for file in stored_objects(scan) if not file.is_immutable)
        mutable = {(file.table.environment, file.uri, file.etag, file.size_bytes): file for file in every}.values()
        if mutable:
            paths = opened()
            read = [file for file in mutable if paths is None or file.path in paths]
            await together((partial(self._compare, file, spent) for file in read), self._concurrency)

    async def _compare(self, file: StoredObject, spent: RequestTime) -> None:
        environment = file.table.environment
        if file.uri.startswith(LOCAL_FILES) and not file.etag:
            size, etag = _local_size(file), None
        else:
            try:
                with spent.request():
                    meta = await obstore.head_async(self._stores.fetching(file.uri, environment), file.path)
            except (BaseError, FileNotFoundError) as error:
                raise await asyncio.to_thread(file.unavailable, error, self._stores) from error
            size, etag = meta["size"], meta["e_tag"]
        if size != file.size_bytes or (file.etag and etag and etag != file.etag):
            raise file.changed(size)


def copy_policy(copies: Copies, settings: Settings) -> CopyPolicy:
    """Return which objects are read from local copies."""
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


def new_objects(
    table: Table, after_event: int, limit_bytes: int, object_bytes: int, has: Callable[[str], bool]
) -> Iterator[list[Missing]]:
    """Find the objects that are written by later events, are copied whole and have no copy.

    Args:
        table: The table.
        after_event: The last event that is too old.
        limit_bytes: The most bytes together.
        object_bytes: The most bytes of one object; larger ones are not copied.
        has: Returns True if there is a copy with a key.

    Yields:
        Lists of missing copies, those of the newest files first. Partitions that share an object have one copy. A list
        may be empty, so that a cancelled caller can stop.
    """
    newest = _newest(table.files, after_event, object_bytes)
    chosen = set[str]()
    for start in range(0, len(newest), FEW):
        found = list[Missing]()
        for file in _objects(table, newest.slice(start, FEW).to_pylist()):
            key = copy_key(table.environment, file.uri, file.etag or "")
            if key in chosen or has(key):
                continue
            limit_bytes -= file.size_bytes
            if limit_bytes < 0:
                yield found
                return
            chosen.add(key)
            found.append(Missing(key, file, CopiedPart(0, 0, file.size_bytes)))
        yield found


def _objects(table: Table, numbers: Sequence[int]) -> Iterator[StoredObject]:
    """Yield the objects of a table's files, which are given as rows of it, in any order."""
    ascending = sorted(numbers)
    objects = stored_objects(Scan(table, pa.array(ascending, pa.int64()), []))
    yield from map(dict(zip(ascending, objects, strict=True)).__getitem__, numbers)


def _newest(files: pa.Table, after_event: int, object_bytes: int) -> pa.Array:
    """Return the files that later events wrote and that are copied, as rows of the table's files, the newest first."""
    is_small = pc.and_(pc.less_equal(files["size_bytes"], object_bytes), pc.is_valid(files["etag"]))
    is_wanted = pc.and_(pc.and_(pc.greater(files["event_id"], after_event), is_small), pc.starts_with(files["uri"], S3))
    numbers = pc.indices_nonzero(is_wanted).cast(pa.int64())
    return numbers.take(pc.sort_indices(files["event_id"].take(numbers), sort_keys=[("", "descending")]))

"""Reuse of plans and of results: the plans used last, and results that are kept for equal queries.

A plan is used again for the same text and parameters over the same generation of the catalog.

A result is stored under the identity of its plan. A plan names its objects, and the catalog has the version of each. So
a plan over the same versions has the same result, for every user and every spelling of the statement. If a partition
that it reads is materialized again, the plan has another identity. Nothing is invalidated: results that are not used
are evicted when the space is needed.

A result is a file, and those used last are in memory, too. It is kept at once if the query took long, or if an equal
statement waits for it; else when an equal plan runs a second time. Equal statements that arrive while the first one
runs wait for its result.
"""

import hashlib
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from threading import BoundedSemaphore, Event
from typing import Generic, Protocol, TypeVar

import datafusion
import pyarrow as pa

from dagfusion_client.sql_text import may_mention
from dagfusion_query.object_cache.claims import Claim, Claims
from dagfusion_query.object_cache.copies import KEY_BYTES, Copies
from dagfusion_query.plan_messages import PhysicalDynamicFilterNode, PhysicalExprNode, ScalarValue
from dagfusion_query.scan.prune import scalar_functions
from dagfusion_query.scan.table_scan import Scan
from dagfusion_query.wire import VARINT, message, uint, varint

_log = logging.getLogger(__name__)
_FORMAT = 1  # of identities and kept results
_VERSION = ("uri", "size_bytes", "etag", "checksum", "run_id", "event_id")  # columns of the catalog that tell a version
_LONG_S = 0.05
_REMEMBERED = 100_000  # plans that came once
_WAITING = 8  # results that wait to be written; more are not kept
_TOGETHER = 32  # batches that become one
_ROWS = 8192  # of the catalog that are encoded at once
_TRUE = message(PhysicalExprNode.LITERAL, uint(ScalarValue.BOOL, 1))
# The end of a dynamic filter that is not known yet. The process numbers them, so equal plans have different numbers.
_FILTER_END = message(PhysicalDynamicFilterNode.INNER_EXPR, _TRUE) + varint(PhysicalExprNode.EXPR_ID << 3 | VARINT)
_FILTER_NUMBER = re.compile(b"(?<=" + re.escape(_FILTER_END) + rb")[\x80-\xff]{0,9}[\x00-\x7f]")


class Sized(Protocol):
    """A value that knows how much memory it takes."""

    @property
    def size_bytes(self) -> int:
        """Bytes that it keeps in memory."""


V = TypeVar("V", bound=Sized)


class PlanCache(Generic[V]):
    """The plans used last, up to a number of bytes. Thread-safe.

    Args:
        limit_bytes: How much the plans may take together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._plans: OrderedDict[Hashable, V] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """Return a plan, which is then the one used last."""
        with self._lock:
            if key in self._plans:
                self._plans.move_to_end(key)
            return self._plans.get(key)

    def put(self, key: Hashable, plan: V) -> None:
        """Keep a plan, and drop those that were not used for the longest time."""
        with self._lock:
            if key in self._plans or plan.size_bytes > self._limit_bytes:
                return
            self._plans[key] = plan
            self._bytes += plan.size_bytes
            while self._bytes > self._limit_bytes:
                _, dropped = self._plans.popitem(last=False)
                self._bytes -= dropped.size_bytes


def parameters_key(values: Mapping[str, pa.Scalar]) -> bytes:
    """Return parameters as bytes that are equal only for the same names, types and values, bit for bit.

    Scalars are no key: -0.0 equals 0.0, and NaN does not equal itself.
    """
    if not values:
        return b""
    names = sorted(values)
    row = pa.record_batch([pa.repeat(values[name], 1) for name in names], names)
    return bytes(_stream(row.schema, [row]))


def is_repeatable(sql: str) -> bool:
    """Return True if a statement's plan can be reused: it names no function that DataFusion may evaluate as it plans.

    Such are the functions that are not immutable: `now()` is a constant of the plan.
    """
    return not may_mention(sql, _not_immutable())


@cache
def _not_immutable() -> frozenset[str]:
    return frozenset(name for name, is_immutable in scalar_functions().items() if not is_immutable)


def identity(plan: bytes, statement: bytes, schema: pa.Schema, scans: Sequence[Scan]) -> str | None:
    """Return what two planned statements share only if they have the same result: 32 hexadecimal digits.

    Args:
        plan: The encoded physical plan.
        statement: The text and the parameters that it was made of.
        schema: The result's columns.
        scans: What the plan reads.

    Returns:
        None if the plan reads no object, or one whose version is not known.
    """
    if not any(scan.count for scan in scans):
        return None
    digest = hashlib.blake2b(_programs(), digest_size=KEY_BYTES)
    numbered = _numbered(plan)
    # A constant that looks like a filter's number is told apart by the text.
    for encoded in (schema.serialize(), numbered, b"" if numbered == plan else statement):
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    for scan in scans:
        objects = scan.of(scan.table.files.select(_VERSION))
        if not _have_versions(objects):
            return None
        digest.update(f"{scan.table.name}\0{len(objects)}\0".encode())
        for start in range(0, len(objects), _ROWS):  # all at once would take gigabytes for a million objects
            part = objects.slice(start, _ROWS).combine_chunks()
            digest.update(memoryview(_stream(part.schema, part.to_batches())))
    return digest.hexdigest()


class Keeper:
    """Collects the batches of one execution, and stores them at its end if the result is worth keeping.

    Args:
        limit_bytes: The largest result that is kept.
        keep: Takes the batches, and the seconds that were waited for them.
        claim: On the result; None if others do not wait for it.
    """

    def __init__(
        self,
        limit_bytes: int,
        keep: Callable[[Sequence[pa.RecordBatch], float], None],
        claim: Claim | None = None,
    ) -> None:
        self._keep, self._left, self._claim = keep, limit_bytes, claim
        self._batches: list[pa.RecordBatch] | None = []
        self._apart = 0  # how many of the last batches are not joined yet
        self._waited_s = 0.0

    def take(self, batch: pa.RecordBatch | None, waited_s: float) -> None:
        """Return the next batch, or None at the end, and the seconds spent waiting for it."""
        self._waited_s += waited_s
        batches = self._batches
        if batches is None:
            return
        if batch is None:
            self._batches = None
            self._keep(batches, self._waited_s)
            return
        if self._claim is not None:
            self._claim.mark_delivered()
        self._left -= batch.nbytes
        batches.append(batch)
        self._apart += 1
        if self._left < 0:
            self.drop()
        elif self._apart == _TOGETHER:
            self._join(batches)

    def beat(self) -> None:
        """Show those who wait for the result that the execution goes on."""
        if self._claim is not None:
            self._claim.beat()

    def drop(self) -> None:
        """Keep nothing, because a cancelled execution looks like one at its end. May be called on another thread."""
        self._batches = None
        if self._claim is not None:
            self._claim.release()

    def _join(self, batches: list[pa.RecordBatch]) -> None:
        """Make one batch of the last ones: a batch of a few rows holds many times their bytes in memory."""
        try:
            batches[-_TOGETHER:] = [pa.concat_batches(batches[-_TOGETHER:])]
        except (pa.ArrowException, MemoryError):  # nested dictionaries, for example
            self.drop()
        self._apart = 0


@dataclass(frozen=True)
class _KeptResult:
    """A result in memory."""

    table: pa.Table
    size_bytes: int


class ResultCache:
    """Kept results. Thread-safe; processes share the folder.

    Args:
        copies: The folder.
        limit_bytes: The largest result that is kept.
        memory_bytes: How much of the results that were used last is in memory, too.
    """

    def __init__(self, copies: Copies, limit_bytes: int, memory_bytes: int) -> None:
        self._copies, self._limit_bytes = copies, limit_bytes
        self._memory: PlanCache[_KeptResult] = PlanCache(memory_bytes)
        self._claims = Claims(copies.folder / "claims")
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._writer = ThreadPoolExecutor(1, "dagfusion-results")
        self._room = BoundedSemaphore(_WAITING)

    def find(self, key: str, schema: pa.Schema) -> pa.Table | None:
        """Return the result with this identity, if there is one."""
        if (kept := self._memory.get(key)) is None and (kept := self._read(key)) is not None:
            self._memory.put(key, kept)
        return kept.table if kept is not None and kept.table.schema.equals(schema, check_metadata=True) else None

    def find_or_keep(self, key: str, schema: pa.Schema, cancelled: Event) -> pa.Table | Keeper:
        """Return the result with this identity, or the keeper of an execution that computes it.

        While another execution computes it, wait for that: until it ends, shows no sign of life, or `cancelled` is set.
        If it leaves no result, this execution does not wait for a second one.
        """
        if (found := self.find(key, schema)) is not None:
            return found
        claim = self._claims.take(key, cancelled)
        if (found := self.find(key, schema)) is not None:  # it was kept since the first look
            if claim is not None:
                claim.release()
            return found
        return self._keeper(key, schema, claim)

    def _keeper(self, key: str, schema: pa.Schema, claim: Claim | None) -> Keeper:
        """Return the keeper of an execution whose result is not stored."""
        is_known = key in self._seen
        self._remember(key)

        def keep(batches: Sequence[pa.RecordBatch], took_s: float) -> None:
            is_worth_it = is_known or took_s >= _LONG_S or (claim is not None and claim.is_wanted)
            if is_worth_it and self._room.acquire(blocking=False):
                with suppress(RuntimeError):  # the engine was closed meanwhile
                    self._writer.submit(self._write, key, schema, batches, claim)
                    return
            if claim is not None:
                claim.release()

        return Keeper(self._limit_bytes, keep, claim)

    def close(self) -> None:
        """Write the results that are queued."""
        self._writer.shutdown()

    def _read(self, key: str) -> _KeptResult | None:
        try:
            content = self._copies.read(key)
            if content is None:
                return None
            return _KeptResult(pa.ipc.open_stream(pa.py_buffer(content)).read_all(), len(content))
        except (OSError, MemoryError, pa.ArrowException) as error:
            _log.warning("a kept result cannot be read: %s", error)
            return None

    def _remember(self, key: str) -> None:
        self._seen[key] = None
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _write(self, key: str, schema: pa.Schema, batches: Sequence[pa.RecordBatch], claim: Claim | None) -> None:
        try:
            content = memoryview(_stream(schema, batches))
            if len(content) <= self._limit_bytes:
                self._copies.put(key, content, hashlib.sha256(content).digest())
        except OSError as error:
            _log.warning("a result cannot be kept: %s", error)
        finally:
            self._room.release()
            if claim is not None:
                claim.release()


def timed(take: Callable[[], pa.RecordBatch | None], keeper: Keeper) -> pa.RecordBatch | None:
    """Read the next batch of an execution, and pass it to its keeper."""
    began = time.perf_counter()
    keeper.beat()
    try:
        batch = take()
    except BaseException:
        keeper.drop()  # an execution that has failed looks as if it were at its end, too
        raise
    keeper.take(batch, time.perf_counter() - began)
    return batch


@cache
def _programs() -> bytes:
    """Return the versions of the programs that made a result: another version may give another result."""
    return f"{_FORMAT} {version('dagfusion-query')} {datafusion.__version__} {pa.__version__}".encode()


def _numbered(plan: bytes) -> bytes:
    """Return a plan whose dynamic filters are numbered from 0 on, each by its first mention."""
    numbers: dict[bytes, bytes] = {}
    return _FILTER_NUMBER.sub(lambda found: numbers.setdefault(found[0], b"%d;" % len(numbers)), plan)


def _have_versions(objects: pa.Table) -> bool:
    """Return True if the store's etag of each object is known: an execution compares it, and not the checksum.

    An object without one may be another than the event's while it is read, and that one's again later.
    """
    return not objects["etag"].null_count


def _stream(schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue()

"""Statements that come again over the same catalogs and need no worker: their columns, and their kept results.

What is known depends on the text, the parameters, the caller's grants and the generation of each environment. A result
is the one that a worker had kept, and whose plan it used again: so the statement has no function such as `now()`.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Generic, TypeVar

import pyarrow as pa

from dagfusion_client.documents.codec import encode
from dagfusion_query.access.grants import Caller
from dagfusion_query.object_cache import CACHE
from dagfusion_server.environments import Environments
from dagfusion_server.service.query_registry import Query, sources
from dagfusion_server.worker.messages import End, Planned, encode_parameters

_SCHEMAS = 256
_FACTS_BYTES, _SCAN_BYTES = 4096, 256  # of a result's facts and of each of its scans, about
V = TypeVar("V")


@dataclass(frozen=True)
class KeptResult:
    """A kept result as a worker has sent it.

    Attributes:
        schema: The serialized columns.
        body: The encoded result.
        planned: What the statement reads.
        end: What the result cost.
    """

    schema: bytes
    body: bytes
    planned: Planned
    end: End

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, about."""
        return len(self.schema) + len(self.body) + _FACTS_BYTES + _SCAN_BYTES * len(self.planned.scans)


class RepeatedStatements:
    """Columns and kept results of the statements that were used last. Thread-safe.

    Args:
        environments: The catalogs.
        result_bytes: Memory of the kept results; 0 to keep none.
    """

    def __init__(self, environments: Environments, result_bytes: int) -> None:
        self._environments, self._result_bytes = environments, result_bytes
        self._schemas = _MostRecent[pa.Schema](_SCHEMAS, lambda _: 1)
        self._results = _MostRecent[KeptResult](result_bytes, lambda kept: kept.size_bytes)

    def schema(self, query: Query, caller: Caller) -> pa.Schema | None:
        """Return the columns of a statement that was described over the current catalogs."""
        return self._schemas.get(self.schema_key(query, caller))

    def schema_key(self, query: Query, caller: Caller) -> bytes | None:
        """Return what the columns of a statement depend on now; None for a statement over past tables."""
        return None if query.as_of is not None else self._key(query, caller)

    def keep_schema(self, key: bytes | None, query: Query, caller: Caller, schema: pa.Schema) -> None:
        """Keep the columns of a statement, unless a catalog has changed since the key was made."""
        if key == self.schema_key(query, caller):  # else the worker may have seen the change
            self._schemas.put(key, schema)

    def result(self, key: bytes | None) -> KeptResult | None:
        """Return a kept result."""
        return self._results.get(key)

    def result_key(self, query: Query, caller: Caller) -> bytes | None:
        """Return what the result of a statement depends on now; None if it must not be a kept one."""
        if not self._result_bytes or query.as_of is not None or not query.result_cache:
            return None
        today = datetime.now(UTC).date()  # by which archived objects are left out
        return self._key(query, caller, f"{query.format.value} {query.limit_rows} {today}")

    def keep_result(self, key: bytes | None, query: Query, caller: Caller, result: KeptResult) -> None:
        """Keep what a worker had kept of an equal plan, if it is of the generations that the key was made of."""
        planned, cost = result.planned, result.end.cost
        if not (planned.path == CACHE and planned.cached) or cost is None:
            return
        known = sources(self._environments, caller.grants).items()
        generations = {name: source.generation for name, source in known if source.problem is None}
        if planned.generations != generations or key != self.result_key(query, caller):
            return  # the worker found other snapshots in the folder, or a catalog has changed
        end = replace(result.end, cost=replace(cost, first_batch_s=0.0))
        self._results.put(key, replace(result, planned=replace(planned, planning_s=0.0), end=end))

    def _key(self, query: Query, caller: Caller, more: str = "") -> bytes:
        digest = hashlib.blake2b()
        catalogs = encode(sources(self._environments, caller.grants))
        grants = encode(sorted(caller.grants.names))
        for part in (query.sql.encode(), encode_parameters(query.params), grants, catalogs, more.encode()):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()


class _MostRecent(Generic[V]):
    """The values that were used last, up to a total size. Thread-safe."""

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self._limit, self._size, self._total = limit, size, 0
        self._lock = threading.Lock()
        self._values: OrderedDict[bytes, V] = OrderedDict()

    def get(self, key: bytes | None) -> V | None:
        with self._lock:
            if key is None or key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: bytes | None, value: V) -> None:
        with self._lock:
            if key is None or key in self._values or self._size(value) > self._limit:
                return
            self._values[key] = value
            self._total += self._size(value)
            while self._total > self._limit:
                _, evicted = self._values.popitem(last=False)
                self._total -= self._size(evicted)

"""Plans of statements that were planned before, over the same generation of the catalog."""

import re
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Generic, Protocol, TypeVar

import pyarrow as pa

from dagfusion_query.scan.prune import scalar_functions


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
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as stream:
        stream.write_batch(row)
    return bytes(sink.getvalue())


def is_repeatable(sql: str) -> bool:
    """Return True if a statement's plan can be reused: it names no function that DataFusion may evaluate as it plans.

    Such are the functions that are not immutable: `now()` is a constant of the plan.
    """
    return _not_immutable().search(sql) is None


@cache
def _not_immutable() -> re.Pattern[str]:
    names = (re.escape(name) for name, is_immutable in scalar_functions().items() if not is_immutable)
    return re.compile(rf"\b({'|'.join(names)})\b", re.IGNORECASE)

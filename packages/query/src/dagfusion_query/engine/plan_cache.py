"""Plans of statements that were planned before, over the same generation of the catalog."""

import re
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

# What DataFusion computes while it plans, and so must be planned again.
_VOLATILE = re.compile(r"\b(now|today|current_\w+|localtime\w*|random|uuid)\b", re.IGNORECASE)


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


def is_repeatable(sql: str) -> bool:
    """Tell whether a statement's plan holds the next time too: it does not when it asks for the time or for chance."""
    return _VOLATILE.search(sql) is None

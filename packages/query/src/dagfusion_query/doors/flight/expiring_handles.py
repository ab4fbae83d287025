"""Random handles that a client holds of values in the service. A handle is valid for its owner only, and expires."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from dagfusion_query.errors import UnknownQueryError

T = TypeVar("T")
_OWNER_COUNT = 2_000
_OWNER_BYTES = 32 << 20


@dataclass
class _Entry(Generic[T]):
    owner: str
    value: T
    size_bytes: int
    expires: float


class Handles(Generic[T]):
    """Values under random handles. Thread-safe.

    An owner may have 2,000 of them and 32 MiB. Beyond that, those that were used least recently are dropped.

    Args:
        what: The name of a value in errors, such as "ticket".
        lifetime_s: Seconds after which an unused value is dropped.
        dropped: Called with each value that is dropped, from any thread.
        clock: A monotonic clock, seconds.
    """

    def __init__(
        self,
        what: str,
        lifetime_s: float,
        dropped: Callable[[T], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._lifetime_s, self._dropped, self._clock = what, lifetime_s, dropped, clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, _Entry[T]] = OrderedDict()  # the one used last is last
        self._usage: dict[str, tuple[int, int]] = {}

    def add(self, owner: str, value: T, size_bytes: int) -> bytes:
        """Keep a value and return its handle."""
        handle = secrets.token_bytes(16)
        with self._lock:
            self._put(handle, _Entry(owner, value, size_bytes, self._clock() + self._lifetime_s))
            gone = self._expired() + self._excess(owner)
        self._tell(gone)
        return handle

    def get(self, owner: str, handle: bytes) -> T:
        """Return a value, and count it as used.

        Raises:
            UnknownQueryError: The handle is unknown, belongs to another owner, or was dropped.
        """
        with self._lock:
            gone = self._expired()
            entry = self._entries.get(handle)
            if entry is not None and entry.owner == owner:
                entry.expires = self._clock() + self._lifetime_s
                self._entries.move_to_end(handle)
            else:
                entry = None
        self._tell(gone)
        if entry is None:
            raise UnknownQueryError(f"there is no such {self._what} of yours, or it has expired: make it again")
        return entry.value

    def replace(self, owner: str, handle: bytes, value: T, size_bytes: int) -> None:
        """Replace the value of a handle. Raises as `get` does."""
        self.get(owner, handle)
        with self._lock:
            if handle in self._entries:
                self._remove(handle)
            self._put(handle, _Entry(owner, value, size_bytes, self._clock() + self._lifetime_s))

    def pop(self, owner: str, handle: bytes) -> T | None:
        """Remove a value without calling `dropped`, and return it; None if there is none."""
        with self._lock:
            entry = self._entries.get(handle)
            if entry is None or entry.owner != owner:
                return None
            return self._remove(handle)

    def clear(self) -> None:
        """Drop all values."""
        with self._lock:
            gone = [self._remove(handle) for handle in list(self._entries)]
        self._tell(gone)

    def _put(self, handle: bytes, entry: _Entry[T]) -> None:
        count, size_bytes = self._usage.get(entry.owner, (0, 0))
        self._usage[entry.owner] = count + 1, size_bytes + entry.size_bytes
        self._entries[handle] = entry

    def _remove(self, handle: bytes) -> T:
        entry = self._entries.pop(handle)
        count, size_bytes = self._usage.pop(entry.owner)
        if count > 1:
            self._usage[entry.owner] = count - 1, size_bytes - entry.size_bytes
        return entry.value

    def _expired(self) -> list[T]:
        now, gone = self._clock(), []
        while self._entries and next(iter(self._entries.values())).expires <= now:
            gone.append(self._remove(next(iter(self._entries))))
        return gone

    def _excess(self, owner: str) -> list[T]:
        if self._is_within(owner):
            return []
        gone = []
        for handle in [handle for handle, entry in self._entries.items() if entry.owner == owner][:-1]:
            if self._is_within(owner):
                break
            gone.append(self._remove(handle))
        return gone

    def _is_within(self, owner: str) -> bool:
        count, size_bytes = self._usage[owner]
        return count <= _OWNER_COUNT and size_bytes <= _OWNER_BYTES

    def _tell(self, gone: list[T]) -> None:
        for value in gone:
            self._dropped(value)

"""Tables as of past events, and what is kept of them: their snapshots in memory or in files, for later use."""

import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import MappingProxyType

from dagfusion_contract.record import Layout
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.event_log.event_log_interface import AssetKey, Moment

_KEPT_TABLES = 64
_KEPT_SNAPSHOTS = 8
KEPT_FILES = 2_000_000  # in all tables together


@dataclass(eq=False)
class PastTable:
    """A table as of an event.

    Attributes:
        table: The table.
        moment: Its state.
        layouts: The layouts of its files.
        folder: Where its snapshot is for other processes; None where it is in memory only.
        pins: How many statements need the folder.
    """

    table: Table
    moment: Moment
    layouts: Sequence[Layout]
    folder: Path | None = None
    pins: int = 0


@dataclass(frozen=True)
class PastKey:
    """The cache key of a past table: a full read, which may follow the deletion of a run, begins anew."""

    asset_key: AssetKey
    event_id: int
    full_reads: int


class PastTables:
    """A cache of past tables. Those that statements need stay. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: OrderedDict[PastKey | int, PastTable] = OrderedDict()
        self._numbers = count()
        self._folder: Path | None = None  # made with the first snapshot

    def pinned(self, key: PastKey, make: Callable[[], PastTable], *, is_final: bool) -> PastTable:
        """Return a table that stays, with its folder, until `unpin`.

        Args:
            key: The table and its event.
            make: Returns the table if it is not there. Called without a lock, so perhaps on two threads.
            is_final: Whether a later call may have it too: no event that is still being written can change it.
        """
        with self._lock:
            if (cached := self._tables.get(key)) is not None:
                self._tables.move_to_end(key)
                cached.pins += 1
                return cached
        made = make()
        made.pins += 1
        with self._lock:
            self._tables[key if is_final and key not in self._tables else next(self._numbers)] = made
        return made

    def unpin(self, tables: Sequence[PastTable]) -> None:
        """Release pins, and drop the tables above the limits."""
        with self._lock:
            for past in tables:
                past.pins -= 1
            self._evict()

    def new_folder(self) -> Path:
        """Return the path of a folder for one snapshot, which is not made yet."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="dagfusion-past-"))
            return self._folder / str(next(self._numbers))

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _evict(self) -> None:
        """Drop the tables that were not used for the longest time. The lock is held."""
        files = sum(len(past.table.files) for past in self._tables.values())
        for key, past in [*self._tables.items()]:
            is_found = isinstance(key, PastKey)
            if past.pins or (is_found and len(self._tables) <= _KEPT_TABLES and files <= KEPT_FILES):
                continue
            files -= len(past.table.files)
            del self._tables[key]
            if past.folder is not None:
                shutil.rmtree(past.folder, ignore_errors=True)


def as_past(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot as one of the past, whose tables know the event that they are as of."""
    tables = {name: replace(table, as_of=snapshot.generation) for name, table in snapshot.tables.items()}
    return replace(snapshot, tables=MappingProxyType(tables), is_past=True)


class PastSnapshots:
    """Snapshots of past tables: the same tables give the same object, so that what is cached for it stays warm."""

    def __init__(self) -> None:
        self._snapshots: OrderedDict[frozenset[int], Snapshot] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, tables: Collection[Table]) -> Snapshot:
        """Return the snapshot of some tables."""
        key = frozenset(map(id, tables))  # a snapshot that is kept has its tables, so that an id stays theirs
        with self._lock:
            if key not in self._snapshots:
                by_name = MappingProxyType({table.name: table for table in tables})
                last = max((table.as_of or 0 for table in tables), default=0)
                self._snapshots[key] = Snapshot(last, "", by_name, is_past=True)
            self._snapshots.move_to_end(key)
            while len(self._snapshots) > _KEPT_SNAPSHOTS:
                self._snapshots.popitem(last=False)
            return self._snapshots[key]

"""The catalog as it is now: follows an event log, and serves one immutable snapshot after another."""

import gc
import logging
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dagfusion_query.catalog.fold import adopt, fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.rows import LARGE_ROWS
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.discovery.discovery import Discovery
from dagfusion_query.errors import EventLogUnavailableError, QueryError, SnapshotError
from dagfusion_query.event_log.protocol import Cursor, Event, EventLog

_log = logging.getLogger(__name__)

_POLL_GRACE_S = 0.5  # closing ends a full sync; a poll may come to its own end
_CLOSE_TIMEOUT_S = 5.0
_SAVE_AGAIN_S = 2.0
_SWITCH_INTERVAL_S = 0.0005


class _BulkWork:
    """Sets the interpreter up for full syncs, from the start of the first to the end of the last.

    The cycle collector would walk each batch over and over: there are no cycles in it. And the thread that fetches rows
    would wait the usual 5 ms for its turn, while PostgreSQL waits for it after every 200 KB that a socket holds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._syncs = 0
        self._before = (True, 0.0)

    def __enter__(self) -> None:
        with self._lock:
            self._syncs += 1
            if self._syncs == 1:
                self._before = gc.isenabled(), sys.getswitchinterval()
                gc.disable()
                sys.setswitchinterval(min(self._before[1], _SWITCH_INTERVAL_S))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._syncs -= 1
            if self._syncs == 0:
                was_enabled, interval_s = self._before
                sys.setswitchinterval(interval_s)
                if was_enabled:
                    gc.enable()


_BULK_WORK = _BulkWork()


@dataclass(frozen=True)
class Lag:
    """How far behind the catalog may be.

    Attributes:
        age_s: Seconds since the catalog was known to hold all that the event log did.
        last_poll_s: Seconds that the last successful poll took.
        last_error: Why the event log cannot be read now, or what was read cannot be written to disk; or None.
        syncs: Full syncs since the start.
        last_sync_reason: Why the latest of them was made, or None.
        undiscovered: Materializations of other IO managers whose objects have still to be looked at.
    """

    age_s: float
    last_poll_s: float
    last_error: Exception | None
    syncs: int
    last_sync_reason: str | None
    undiscovered: int = 0


class LiveCatalog:
    """A catalog that follows its event log in a thread of its own. Thread-safe.

    The first snapshot is there when the constructor returns: from `state_dir` if one was left, else from a full sync.

    Args:
        event_log: Read and closed by this catalog from now on.
        environment: The first word of each schema's name.
        state_dir: Where snapshots are kept between processes; None keeps none.
        poll_interval_s: Seconds between two looks at the event log.
        verify_interval_s: Seconds between two checks that what was read is still there; a full sync follows when not.
        sync_interval_s: Seconds between two full syncs, whatever the checks say.
        shared: Serve only generations that are in `state_dir`, for other processes map them; else a full disk only
            costs the snapshots.
        discovery: Looks at what other IO managers wrote; closed by this catalog. None leaves it out.
        discovery_wait_s: Seconds that the constructor and `refresh` wait for what is being discovered.

    Raises:
        EventLogError: The event log cannot be read, and no snapshot was left.
    """

    def __init__(
        self,
        event_log: EventLog,
        environment: str,
        state_dir: Path | None = None,
        *,
        poll_interval_s: float,
        verify_interval_s: float = 60.0,
        sync_interval_s: float = 3600.0,
        shared: bool = False,
        discovery: Discovery | None = None,
        discovery_wait_s: float = 0.0,
    ) -> None:
        self._event_log = event_log
        self._environment = environment
        self._store = None if state_dir is None else SnapshotStore(state_dir)
        self._poll_interval_s, self._verify_interval_s, self._sync_interval_s = (
            poll_interval_s,
            verify_interval_s,
            sync_interval_s,
        )
        self._reading = threading.Lock()
        self._stop = threading.Event()
        self._shared = shared
        self._discovery, self._discovery_wait_s = discovery, discovery_wait_s
        self._snapshot = Snapshot(0, environment)
        self._saved: Snapshot | None = None  # the generation on disk
        self._save_at: float | None = None  # when to try again to write the latest
        self._save_error: SnapshotError | None = None
        self._cursor: Cursor | None = None
        self._identity: str | None = None  # of the event log that snapshot and cursor are of
        self._stale: str | None = "there is no snapshot yet"  # why a full sync is due
        self._adoptable = (
            True  # whether what a full sync finds may be taken from the snapshot before, where it is the same
        )
        self._recognised = False  # whether the event log was found to be the snapshot's
        self._lag = Lag(0.0, 0.0, None, 0, None)
        self._read_at = self._verified_at = self._synced_at = time.monotonic()
        try:
            self._start()
        except BaseException:
            self._let_go()
            raise
        self._thread = threading.Thread(target=self._follow, name="dagfusion-catalog", daemon=True)
        self._thread.start()

    def current(self) -> Snapshot:
        """Return the latest generation, without a look at the event log."""
        return self._saved or Snapshot(0, self._environment) if self._shared else self._snapshot

    @property
    def is_saved(self) -> bool:
        """Whether there is a generation on disk."""
        return self._saved is not None

    def refresh(self) -> Snapshot:
        """Look at the event log now, and return the generation that results.

        Raises:
            EventLogError: It cannot be read.
        """
        with self._reading:
            self._poll()
            self._discover()
            return self.current()

    def lag(self) -> Lag:
        """Say how far behind the catalog may be."""
        undiscovered = 0 if self._discovery is None else self._discovery.waiting
        return replace(self._lag, age_s=time.monotonic() - self._read_at, undiscovered=undiscovered)

    def close(self) -> None:
        """Stop following the event log and close it. `current` still answers."""
        self._stop.set()
        self._thread.join(_POLL_GRACE_S)
        self._event_log.close()
        self._thread.join(_CLOSE_TIMEOUT_S)
        with self._reading:
            self._let_go()

    def _let_go(self) -> None:
        self._event_log.close()
        if self._discovery is not None:
            self._discovery.close()

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_interval_s):
            try:
                with self._reading:
                    self._poll()
            except QueryError:
                continue  # it is kept in `lag`, and the last snapshot is served meanwhile
            except Exception:  # noqa: BLE001  # a bug in reading must not end the following for good
                _log.exception("the event log could not be followed; it is tried again")

    def _start(self) -> None:
        if self._store is not None:
            try:
                stored = self._store.load(self._environment)
            except SnapshotError as error:
                _log.warning("the catalog is read anew from the event log: %s", error)
                # A generation's number stands for one content, also for processes that followed the damaged one.
                self._snapshot = Snapshot(self._store.last_generation(), self._environment)
            else:
                if stored is not None:
                    self._snapshot, self._cursor, self._identity = stored.snapshot, stored.cursor, stored.identity
                    self._saved, self._stale = stored.snapshot, None
        try:
            self._poll()
            self._discover()
        except EventLogUnavailableError:
            if self._cursor is None:
                raise
            _log.warning("the last snapshot is served, since %s", self._lag.last_error)

    def _discover(self) -> None:
        """Wait for what is being discovered, and take it in: all of it, but for what has to be tried again later."""
        deadline = time.monotonic() + self._discovery_wait_s
        before = None
        while self._discovery is not None and (left := self._discovery.waiting) and left != before:
            if (wait_s := deadline - time.monotonic()) <= 0:
                return
            self._discovery.wait(wait_s)
            self._poll()
            before = left

    def _poll(self) -> None:
        started = time.monotonic()
        try:
            self._recognise()
            if self._cursor is None or self._stale is not None:
                self._sync()
            else:
                self._advance(self._cursor)
        except Exception as error:
            self._lag = replace(self._lag, last_error=error)
            raise
        now = time.monotonic()
        if self._save_error is None or not self._shared:
            self._read_at = now
        self._lag = replace(self._lag, last_error=self._save_error, last_poll_s=now - started)

    def _recognise(self) -> None:
        """Find out once whether a stored snapshot is this event log's, and still true."""
        if self._recognised:
            return
        identity = self._event_log.identity()
        if self._cursor is not None and identity != self._identity:
            self._stale, self._adoptable = "the snapshot is of another event log", False
        elif self._cursor is not None:
            self._stale = self._event_log.verify(self._cursor)
        self._identity = identity
        if self._discovery is not None:
            self._discovery.recognise(identity, resume=self._cursor is not None and self._stale is None)
        self._recognised = True

    def _advance(self, cursor: Cursor) -> None:
        poll = self._event_log.poll(cursor)
        now = time.monotonic()
        self._stale = poll.resync
        if self._stale is None and now - self._verified_at >= self._verify_interval_s:
            self._stale = self._event_log.verify(poll.cursor)
            self._verified_at = now
        if self._stale is None and now - self._synced_at >= self._sync_interval_s:
            self._stale = f"the last full sync was {now - self._synced_at:.0f} s ago"
        if self._stale is None:
            self._publish(fold(self._snapshot, self._discovered(poll.events)), poll.cursor)
        else:
            self._sync()

    def _discovered(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return events with what is known of other IO managers' files, and what was learnt since the last time."""
        if self._discovery is None:
            return events
        return [*self._discovery.resolve(events), *self._discovery.take()]

    def _sync(self) -> None:
        snapshot = Snapshot(0, self._environment)
        if (discovery := self._discovery) is not None:
            discovery.start_sync()

        def receive(events: Sequence[Event]) -> None:
            nonlocal snapshot
            snapshot = fold(snapshot, events if discovery is None else discovery.resolve(events))
            if self._store is not None:
                with suppress(OSError):  # they stay in memory, and saving will say why
                    snapshot = self._store.seal(snapshot, LARGE_ROWS)

        with _BULK_WORK:
            cursor = self._event_log.sync(receive)
        _log.info("read the event log in full: %s", self._stale)
        self._lag = replace(self._lag, syncs=self._lag.syncs + 1, last_sync_reason=self._stale)
        self._synced_at = self._verified_at = time.monotonic()
        self._stale = None
        if discovery is not None:
            discovery.end_sync()
        before = self._snapshot if self._adoptable else Snapshot(self._snapshot.generation + 1, self._environment)
        self._adoptable = True
        self._publish(adopt(before, snapshot), cursor)

    def _publish(self, snapshot: Snapshot, cursor: Cursor) -> None:
        known = self._cursor
        changed = snapshot is not self._snapshot or known is None or known.watermark.settled != cursor.watermark.settled
        self._snapshot, self._cursor = snapshot, cursor
        due = changed if self._save_at is None else time.monotonic() >= self._save_at
        if self._store is not None and self._identity is not None and due:
            self._save(self._store, cursor, self._identity)

    def _save(self, store: SnapshotStore, cursor: Cursor, identity: str) -> None:
        try:
            if self._discovery is not None:
                self._discovery.flush()
            self._snapshot = self._saved = store.save(self._snapshot, cursor, identity)
        except SnapshotError as error:
            if self._save_error is None:
                _log.warning("the catalog goes on without its latest snapshot on disk: %s", error)
            self._save_error, self._save_at = error, time.monotonic() + _SAVE_AGAIN_S
        else:
            self._save_error = self._save_at = None
            if self._discovery is not None:
                self._discovery.published()

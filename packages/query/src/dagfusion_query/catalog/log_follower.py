"""Reads an event log, in full or only new events, and folds the events into a snapshot."""

import gc
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from dagfusion_client.errors import EventLogError
from dagfusion_query.catalog.fold import adopt, fold, with_asset_states
from dagfusion_query.catalog.model import AssetState, Snapshot
from dagfusion_query.catalog.snapshot import Stored
from dagfusion_query.catalog.snapshot_merge import (
    compare_events,
    event_ids,
    has_lost,
    has_same_rules,
    is_same_database,
    merge,
    restrict,
    sample_events,
    without_events,
)
from dagfusion_query.discovery.discovery import Discovery
from dagfusion_query.event_log.event_log_interface import AssetKey, Cursor, Event, EventLog, parse_asset_key

_log = logging.getLogger(__name__)

_CHECKPOINT = "the checkpoint"
_OTHER_LOG = "the snapshot is of another event log"
_LOOKED_UP = 50_000  # events at once
_SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True)
class FullReadSchedule:
    """The times to verify what was read, and to read the event log in full.

    Attributes:
        verify_interval_s: Seconds between two checks that what was read is still there.
        full_read_interval_s: Seconds between two full reads, whatever the checks say.
        verified_at: When the last check was made, by a monotonic clock, seconds.
        full_read_at: When the last full read was made, by the same clock.
    """

    verify_interval_s: float
    full_read_interval_s: float
    verified_at: float
    full_read_at: float

    def is_verify_due(self, now_s: float) -> bool:
        """Return True if what was read has to be checked."""
        return now_s - self.verified_at >= self.verify_interval_s

    def full_read_reason(self, now_s: float) -> str | None:
        """Return why a full read is due, or None if it is not."""
        age_s = now_s - self.full_read_at
        return f"the last full read was {age_s:.0f} s ago" if age_s >= self.full_read_interval_s else None


class Reading(NamedTuple):
    """The catalog after one look at the event log.

    Attributes:
        latest: The snapshot, its cursor and the event log's identity.
        changed: True if the snapshot or its cursor differ from those before, so that they have to be saved.
    """

    latest: Stored
    changed: bool


@dataclass(frozen=True)
class Retention:
    """The catalog keeps what was purged from the event log: only a later event, a wipe or a tombstone replaces it.

    Attributes:
        bucket: The one bucket whose objects may be read; None allows any.
    """

    bucket: str | None = None


def purged_without_trace(event_log: EventLog, snapshot: Snapshot) -> list[AssetKey]:
    """Return the assets that had files, of which neither the event log nor the snapshot has any.

    Raises:
        EventLogError: The event log cannot be read.
    """
    with_files = {key for key, state in snapshot.asset_states.items() if state.segments or state.absent.num_rows}
    return [key for key in event_log.purged_assets() if key not in with_files]


class LogFollower:
    """Keeps a snapshot up to date with an event log. Used by one thread at a time; any thread may read the attributes.

    Args:
        event_log: Read, but not closed.
        environment: The first word of each schema's name.
        schedule: When full reads are due.
        seal: Called with the snapshot of a full read after each batch; returns it with large segments moved to disk.
        discovery: Looks at what other IO managers wrote; None leaves it out.
        retention: Given if purged events still count; None leaves out what is not in the event log any more.
        clock: A monotonic clock, seconds.

    Attributes:
        snapshot: The latest. After it has been saved, the same one with its rows mapped from disk is put in its place.
        full_reads: The number of full reads since the start. The service's log has the reason of each.
        refusal: Why a snapshot was not combined with this event log, unless a checkpoint has been since; or None.
        is_set_back: True if what was combined last had later events, which a restore of the event log from a backup
            lost.
    """

    def __init__(
        self,
        event_log: EventLog,
        environment: str,
        schedule: FullReadSchedule,
        seal: Callable[[Snapshot], Snapshot],
        *,
        discovery: Discovery | None = None,
        retention: Retention | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retention = retention
        self._event_log, self._discovery, self._seal, self._clock = event_log, discovery, seal, clock
        self._schedule = schedule
        self.snapshot = Snapshot(0, environment)
        self.full_reads = 0
        self._cursor: Cursor | None = None
        self._stored_identity: str | None = None  # of the event log that the stored snapshot is of
        self._identity: str | None = None  # of this event log, once the stored snapshot was compared with it
        self._stale: str | None = "there is no snapshot yet"  # why a full read is due
        self._adoptable = True  # whether a full read may take unchanged tables from the snapshot before
        self._checkpoint: Stored | None = None  # to be combined with the snapshot
        self._began_with_checkpoint = False
        self._is_unsaved = False
        self.refusal: str | None = None
        self.is_set_back = False

    @property
    def has_snapshot(self) -> bool:
        """True if a snapshot can be served: a stored one, or one read from the event log."""
        is_compared = self._identity is not None and self._stale is None
        return self._cursor is not None and (is_compared or not self._began_with_checkpoint)

    @property
    def is_proof(self) -> bool:
        """True if the snapshot's own events would show what was purged from the event log since."""
        return self._cursor is not None and self._stale is None and self._cursor.watermark.count > 0

    @property
    def latest(self) -> Stored | None:
        """The snapshot with its cursor and the event log's identity; None before all that is known was combined."""
        is_settled = self._stale is None and self._checkpoint is None
        if self._cursor is None or self._identity is None or not is_settled:
            return None
        return Stored(self.snapshot, self._cursor, self._identity)

    @property
    def settled(self) -> int:
        """The id up to which no event will appear any more."""
        return 0 if self._cursor is None else self._cursor.watermark.settled

    def resume(self, stored: Stored) -> None:
        """Continue from a stored snapshot; the first `read` checks that it is this event log's, and still true."""
        self.snapshot, self._cursor, self._stored_identity = stored.snapshot, stored.cursor, stored.identity
        self._stale = None if stored.is_current else "the snapshot is of an older version, which did not see all events"

    def combine(self, checkpoint: Stored) -> None:
        """Merge a checkpoint into the snapshot at the next `read`. A second call replaces the first."""
        if self._cursor is None:
            snapshot = with_asset_states(self.snapshot, checkpoint.snapshot.asset_states)
            self.resume(replace(checkpoint, snapshot=self._seal(snapshot)))
            self._began_with_checkpoint = self._is_unsaved = True
        else:
            self._checkpoint = checkpoint

    def read(self) -> Reading:
        """Read what is new, or everything if a full read is due, and fold it into the snapshot.

        Raises:
            EventLogError: The event log cannot be read.
            SnapshotError: What was discovered cannot be read or noted.
        """
        identity = self._recognise()
        if self._cursor is None or self._stale is not None:
            reading = self._read_all(identity)
        else:
            reading = self._advance(self._cursor, identity)
        if self._checkpoint is not None:
            combined = self._with_retained(reading.latest, self._checkpoint, _CHECKPOINT)
            reading = self._take_in(combined, reading.latest.cursor, identity)
            self._checkpoint = None
        self._is_unsaved = False
        return reading

    def _recognise(self) -> str:
        """Check once whether a stored snapshot belongs to this event log and agrees with it; return its identity."""
        if self._identity is not None:
            return self._identity
        identity = self._event_log.identity()
        if self._cursor is not None and identity != self._stored_identity:
            # By other rules, the same events come to other files.
            has_rules = has_same_rules(identity, self._stored_identity or "")
            self._stale, self._adoptable = _OTHER_LOG, self._retention is not None and has_rules
        elif self._cursor is not None:
            self._stale = self._stale or self._event_log.verify(self._cursor) or self._contradiction()
        if self._discovery is not None:
            self._discovery.recognise(identity, resume=self._cursor is not None and self._stale is None)
        self._identity = identity
        return identity

    def _contradiction(self) -> str | None:
        """Return why the event log is not the one that the snapshot was read from, or None; ids may be given again."""
        if self._retention is None:
            return None
        sampled = sample_events(self.snapshot)
        return compare_events(sampled, self._event_log.evidence([*sampled]), is_same_database=True).why

    def _advance(self, cursor: Cursor, identity: str) -> Reading:
        poll = self._event_log.poll(cursor)
        now_s = self._clock()
        self._stale = poll.full_read_reason
        if self._stale is None and self._schedule.is_verify_due(now_s):
            self._stale = self._event_log.verify(poll.cursor)
            self._schedule = replace(self._schedule, verified_at=now_s)
        if self._stale is None:
            self._stale = self._schedule.full_read_reason(now_s)
        if self._stale is None:
            return self._take_in(fold(self.snapshot, self._discovered(poll.events)), poll.cursor, identity)
        return self._read_all(identity)

    def _discovered(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return events with the records of other IO managers' files, and those discovered since the last call."""
        if self._discovery is None:
            return events
        return [*self._discovery.resolve(events), *self._discovery.take()]

    def _read_all(self, identity: str) -> Reading:
        environment = self.snapshot.environment
        snapshot = Snapshot(0, environment)
        if (discovery := self._discovery) is not None:
            discovery.start_full_read()

        def receive(events: Sequence[Event]) -> None:
            nonlocal snapshot
            snapshot = self._seal(fold(snapshot, events if discovery is None else discovery.resolve(events)))

        with _BULK_READING:
            cursor = self._event_log.read_all(receive)
        if discovery is not None:
            discovery.end_full_read()  # if it fails, the full read is still due
        _log.info("read the event log in full: %s", self._stale)
        self.full_reads += 1
        now_s = self._clock()
        self._schedule = replace(self._schedule, verified_at=now_s, full_read_at=now_s)
        snapshot, before = self._after_full_read(Stored(snapshot, cursor, identity))
        self._stale, self._adoptable, self._stored_identity = None, True, identity
        return self._take_in(adopt(before, snapshot), cursor, identity)

    def _after_full_read(self, current: Stored) -> tuple[Snapshot, Snapshot]:
        """Return the outcome of a full read with what is retained, and the generation that it follows."""
        if self._adoptable and self._retention is None:
            self._warn_of_lost(current)
        is_first = self._cursor is None or self._began_with_checkpoint
        if self._retention is not None and self._cursor is not None:
            before = Stored(self.snapshot, self._cursor, self._stored_identity or current.identity)
            what = _CHECKPOINT if self._began_with_checkpoint else "the stored snapshot"
            self._began_with_checkpoint = False
            current = replace(current, snapshot=self._with_retained(current, before, what))
        if is_first:
            self._warn_of_purged(current.snapshot)
        empty = Snapshot(self.snapshot.generation + 1, self.snapshot.environment)
        return current.snapshot, self.snapshot if self._adoptable else empty

    def _with_retained(self, latest: Stored, other: Stored, what: str) -> Snapshot:
        """Return a snapshot with what another one has and the event log does not.

        Args:
            latest: The snapshot of the event log as it is now.
            other: The other one.
            what: What it is called in the service's log.
        """
        sampled = sample_events(other.snapshot)
        evidence = self._event_log.evidence([*sampled])
        compared = compare_events(sampled, evidence, is_same_database=is_same_database(other.identity, latest.identity))
        if not compared.is_same:
            self.refusal = f"{what} is not used: {compared.why}"
            _log.warning("%s; the tables are those of the event log alone", self.refusal)
            return latest.snapshot
        if what == _CHECKPOINT:
            self.refusal = None
        is_set_back = compared.last_event_id is not None
        self.is_set_back = is_set_back or (self.is_set_back and what != _CHECKPOINT)
        if compared.why is not None:
            _log.warning("%s is used up to event %s: %s", what, compared.last_event_id, compared.why)
        rows, before = latest.cursor.rows, other.cursor.rows
        assets = {parse_asset_key(key) for key in latest.cursor.assets if before.get(key) in (None, rows.get(key))}
        bucket = None if self._retention is None else self._retention.bucket
        retained = restrict(other.snapshot, assets, compared.last_event_id, bucket)
        if not has_same_rules(other.identity, latest.identity):
            retained = without_events(retained, self._logged(event_ids(retained)))
        return merge(latest.snapshot, retained)

    def _logged(self, event_ids: Sequence[int]) -> set[int]:
        """Return those of the events that the event log still has."""
        parts = (event_ids[start : start + _LOOKED_UP] for start in range(0, len(event_ids), _LOOKED_UP))
        return {event_id for part in parts for event_id in self._event_log.evidence(part).marks}

    def _warn_of_purged(self, snapshot: Snapshot) -> None:
        try:
            purged = purged_without_trace(self._event_log, snapshot)
        except EventLogError as error:  # the catalog is whole without the warning
            _log.warning("whether tables are missing because the event log was purged is unknown: %s", error)
            return
        if purged:
            _log.warning(
                "the event log was purged of all materializations of %s, and no checkpoint has them: these tables are "
                "missing until they are materialized again",
                ", ".join(map("/".join, purged)),
            )

    def _warn_of_lost(self, current: Stored) -> None:
        """Log that a full read leaves out what was read before, unless it was wiped or its asset was removed."""
        assets = {*map(parse_asset_key, current.cursor.assets)}
        lost = sorted(
            "/".join(key)
            for key, state in self.snapshot.asset_states.items()
            if key in assets and has_lost(state, current.snapshot.asset_states.get(key, AssetState()))
        )
        if lost:
            _log.warning(
                "events were deleted from the event log, and partitions of %s with them%s",
                ", ".join(lost),
                ": DAGFUSION_CATALOG_CHECKPOINT keeps what is purged" if self._event_log.keeps_ids else "",
            )

    def _take_in(self, snapshot: Snapshot, cursor: Cursor, identity: str) -> Reading:
        before = self._cursor
        changed = (
            snapshot is not self.snapshot or before is None or before.watermark.settled != cursor.watermark.settled
        )
        self._is_unsaved |= changed
        self.snapshot, self._cursor = snapshot, cursor
        return Reading(Stored(snapshot, cursor, identity), self._is_unsaved)


class _BulkReading:
    """Sets the interpreter up for full reads, from the start of the first to the end of the last.

    The cycle collector would walk each batch over and over: there are no cycles in it. And the thread that fetches rows
    would wait the usual 5 ms for its turn, while PostgreSQL waits for it after every 200 KB that a socket holds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._full_reads = 0
        self._before = (True, 0.0)

    def __enter__(self) -> None:
        with self._lock:
            self._full_reads += 1
            if self._full_reads == 1:
                self._before = gc.isenabled(), sys.getswitchinterval()
                gc.disable()
                sys.setswitchinterval(min(self._before[1], _SWITCH_INTERVAL_S))

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._full_reads -= 1
            if self._full_reads == 0:
                was_enabled, interval_s = self._before
                sys.setswitchinterval(interval_s)
                if was_enabled:
                    gc.enable()


_BULK_READING = _BulkReading()

"""Discovery in the background: reads the objects of other IO managers, once for each materialization.

Discovery is between the event log and the catalog. It holds back the events of other IO managers until their objects
have been read. Until then the catalog serves the previous files of their partitions.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from dagfusion_client.errors import EventRecordError, SnapshotError, StoreUnavailableError, UndiscoverableError
from dagfusion_query.discovery.foreign_objects import TemporaryReadError
from dagfusion_query.discovery.foreign_records import ForeignRecords
from dagfusion_query.discovery.record_cache import Outcome, RecordCache, Refusal
from dagfusion_query.event_log.event_log_interface import AssetKey, Event, Materialization
from dagfusion_query.event_log.stored_event import DataFiles, EventReader, Foreign

_log = logging.getLogger(__name__)

CONCURRENCY = 32
TAKEN_AT_ONCE = 4096  # so that a poll of the event log is never busy with them for long
_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 60.0
_LOOK_AGAIN_S = 300.0  # at objects that were not there, or not to be read
_CLOSE_TIMEOUT_S = 5.0

Partition = tuple[AssetKey, str | None]


class _Finding(NamedTuple):
    event: Materialization
    outcome: Outcome


class Discovery:
    """Reads the files of materializations. The methods that the catalog calls are called from one thread at a time.

    Args:
        reader: Looks at one; called on several threads.
        cache: What was read before.
        concurrency: The most materializations that are looked at at once.
    """

    def __init__(self, reader: ForeignRecords, cache: RecordCache, concurrency: int = CONCURRENCY) -> None:
        self._reader, self._cache, self._concurrency = reader, cache, concurrency
        self._records = EventReader()
        self._changed = threading.Condition()
        # All of these are guarded by it.
        self._waiting: dict[Partition, Materialization] = {}  # the latest event of each partition, to be read
        self._queue: deque[Partition] = deque()
        self._findings: list[_Finding] = []
        self._active = 0
        self._resume_at, self._retry_s = 0.0, _FIRST_RETRY_S
        self._closed = False
        # These belong to the catalog's thread.
        self._refused: dict[Partition, tuple[Materialization, Refusal, float]] = {}
        self._found_by_full_read: dict[Partition, Materialization] | None = None
        self._events_of_full_read: set[int] = set()
        self._taken_ids: list[int] = []

    @property
    def waiting(self) -> int:
        """The number of materializations whose files are not discovered yet."""
        with self._changed:
            return len(self._waiting) + len(self._findings)

    def recognise(self, identity: str, *, resume: bool) -> None:
        """Load the cached records of an event log.

        Args:
            identity: The event log's.
            resume: Whether the catalog goes on from where it was left, so that events that were waiting will not be
                read again.
        """
        left = self._cache.recognise(identity)
        if resume:
            cached = self._cached_outcomes(left)
            with self._changed:
                self._findings += [_Finding(*found) for found in cached]
            cached_ids = {event.event_id for event, _ in cached}
            self._wait_for(event for event in left if event.event_id not in cached_ids)

    def start_full_read(self) -> None:
        """Start a full read: the events that it finds are all that exist."""
        self._found_by_full_read, self._events_of_full_read = {}, set()

    def end_full_read(self) -> None:
        """End the full read, and forget the records of all other events."""
        found = self._found_by_full_read or {}
        self._found_by_full_read = None
        self._cache.keep_only(self._events_of_full_read)
        self._refused = {
            key: refusal for key, refusal in self._refused.items() if refusal[0].event_id in self._events_of_full_read
        }
        with self._changed:
            self._waiting.clear()
            self._queue.clear()
            self._findings = [
                finding for finding in self._findings if finding.event.event_id in self._events_of_full_read
            ]
        self._wait_for(found.values())

    def resolve(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return events with what is known of those of other IO managers; what is not known is held back."""
        foreign = [e for e in events if type(e) is Materialization and type(e.file) is Foreign]
        if not foreign:
            return events
        resolved = {event.event_id: self._resolved(event, outcome) for event, outcome in self._cached_outcomes(foreign)}
        unknown = [event for event in foreign if event.event_id not in resolved]
        if self._found_by_full_read is None:
            self._wait_for(unknown)
        else:
            self._found_by_full_read |= {_partition(event): event for event in unknown}
            self._events_of_full_read |= {event.event_id for event in foreign}
        own = [e for e in events if not (type(e) is Materialization and type(e.file) is Foreign)]
        return [*own, *resolved.values()]

    def take(self) -> list[Event]:
        """Return some of the events that were read since the last call, and queue unreadable ones once more."""
        with self._changed:
            findings, self._findings = self._findings[:TAKEN_AT_ONCE], self._findings[TAKEN_AT_ONCE:]
        now = time.monotonic()
        for event, outcome in findings:
            if isinstance(outcome, Refusal) and outcome.is_temporary:
                self._refused[_partition(event)] = event, outcome, now + _LOOK_AGAIN_S
            else:
                self._cache.remember(event, outcome)
                self._refused.pop(_partition(event), None)
        self._taken_ids += [event.event_id for event, _ in findings]
        due = [event for event, _, at in self._refused.values() if now >= at]
        for event in due:
            self._refused[_partition(event)] = (*self._refused[_partition(event)][:2], now + _LOOK_AGAIN_S)
        self._wait_for(due)
        return [self._resolved(event, outcome) for event, outcome in findings]

    def flush(self) -> None:
        """Write down what has to outlive this process, before the catalog says that it has read so far.

        Raises:
            SnapshotError: It cannot be written.
        """
        self._cache.flush()

    def published(self) -> None:
        """Record that all records that were taken are in a stored snapshot."""
        self._cache.published(self._taken_ids)
        self._taken_ids = []

    def wait(self, timeout_s: float) -> None:
        """Wait until nothing is being looked at, or only what has to be tried again later."""
        with self._changed:
            self._changed.wait_for(lambda: not self._active, timeout_s)

    def close(self) -> None:
        """Stop looking; what is in progress ends by itself."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.wait_for(lambda: not self._active, _CLOSE_TIMEOUT_S)
        with suppress(SnapshotError):  # then it is read again
            self._cache.flush()
        self._cache.close()

    def _cached_outcomes(self, events: Iterable[Materialization]) -> list[tuple[Materialization, Outcome]]:
        events = list(events)
        found = self._cache.find(events)
        for event in events:
            refused = self._refused.get(_partition(event))
            if refused is not None and refused[0] == event:
                found[event.event_id] = refused[1]
        return [(event, found[event.event_id]) for event in events if event.event_id in found]

    def _resolved(self, event: Materialization, outcome: Outcome) -> Materialization:
        if isinstance(outcome, Refusal):
            return event._replace(file=outcome.error())
        try:
            files = [self._records.read(record) for record in outcome]
        except EventRecordError as error:
            return event._replace(file=UndiscoverableError(str(error)))
        return event._replace(file=files[0] if len(files) == 1 else DataFiles(files))

    def _wait_for(self, events: Iterable[Materialization]) -> None:
        """Queue events for discovery, the latest of each partition."""
        new = []
        with self._changed:
            for event in events:
                key = _partition(event)
                before = self._waiting.get(key)
                if before is None or event.event_id > before.event_id:
                    self._waiting[key] = event
                    self._queue.append(key)
                    new.append(event)
            self._start_threads()
        self._cache.wait_for(new)

    def _start_threads(self) -> None:
        if self._closed or time.monotonic() < self._resume_at:
            return
        while self._active < min(self._concurrency, len(self._queue)):
            self._active += 1
            threading.Thread(target=self._work, name="dagfusion-discovery", daemon=True).start()

    def _work(self) -> None:
        """Work through the queue until it is empty, or the store does not answer."""
        while (event := self._next()) is not None:
            try:
                outcome: Outcome | None = self._look_at(event)
            except StoreUnavailableError as error:
                outcome = None
                self._back_off(event, error)
            with self._changed:
                if outcome is not None:
                    self._retry_s = _FIRST_RETRY_S
                    if self._waiting.get(_partition(event)) is event:
                        del self._waiting[_partition(event)]
                        self._findings.append(_Finding(event, outcome))

    def _look_at(self, event: Materialization) -> Outcome:
        try:
            return self._reader.read(event.file, event.partition_key) if isinstance(event.file, Foreign) else []
        except (UndiscoverableError, TemporaryReadError) as error:
            return Refusal(str(error), isinstance(error, TemporaryReadError))
        except StoreUnavailableError:
            raise
        except Exception:  # noqa: BLE001  # a bug that one object brings to light must not hide the others
            _log.exception("discovery of event %s of %s failed", event.event_id, "/".join(event.asset_key))
            reason = "it could not be read because of an internal error: see the service's log"
            return Refusal(reason, is_temporary=True)

    def _next(self) -> Materialization | None:
        with self._changed:
            while self._queue and time.monotonic() >= self._resume_at:
                event = self._waiting.get(self._queue.popleft())
                if event is not None:
                    return event
            self._active -= 1
            self._changed.notify_all()
            return None

    def _back_off(self, event: Materialization, error: StoreUnavailableError) -> None:
        """Send no requests to the store for a while. `take` retries later."""
        now = time.monotonic()
        with self._changed:
            self._queue.append(_partition(event))
            if now >= self._resume_at:
                _log.warning("%s; retrying in %.0f s", error, self._retry_s)
                self._resume_at = now + self._retry_s
                self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)


def _partition(event: Materialization) -> Partition:
    return event.asset_key, event.partition_key

"""The live catalog: follows an event log, and publishes immutable snapshots."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from dagfusion_client.errors import EventLogUnavailableError, QueryError, SnapshotError, StoreUnavailableError
from dagfusion_query.catalog.checkpoint import CheckpointStore
from dagfusion_query.catalog.log_follower import FullReadSchedule, LogFollower, Retention
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot import SnapshotStore, SnapshotWriter, Stored
from dagfusion_query.discovery.discovery import Discovery
from dagfusion_query.event_log.event_log_interface import EventLog

_log = logging.getLogger(__name__)

_POLL_GRACE_S = 0.5  # closing ends a full read; a poll may come to its own end
_CLOSE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Lag:
    """The lag of the catalog behind its event log.

    Attributes:
        age_s: Seconds since the catalog was known to hold all that the event log did.
        last_error: Why the event log cannot be read now, or what was read cannot be written to disk; or None.
        full_reads: Full reads since the start.
        undiscovered: Materializations of other IO managers whose objects have still to be looked at.
    """

    age_s: float
    last_error: Exception | None
    full_reads: int
    undiscovered: int = 0


class LiveCatalog:
    """A catalog that follows its event log in a thread of its own. Thread-safe.

    The first snapshot is there when the constructor returns: from `state_dir` if one was left, else from a full read.

    Args:
        event_log: Read and closed by this catalog from now on, also if the constructor fails.
        environment: The first word of each schema's name.
        state_dir: Where snapshots are kept between processes; None keeps none.
        poll_interval_s: Seconds between two looks at the event log.
        verify_interval_s: Seconds between two checks that what was read is still there; a full read follows when not.
        full_read_interval_s: Seconds between two full reads, whatever the checks say.
        shared: Serve only generations that are in `state_dir`, for other processes map them; else a full disk only
            costs the snapshots.
        discovery: Looks at what other IO managers wrote; closed by this catalog. None leaves it out.
        discovery_wait_s: Seconds that the constructor and `refresh` wait for what is being discovered.
        checkpoint: What a catalog starts from if `state_dir` has no snapshot, or one that is not true any more. If it
            is given, what is purged from the event log still counts.
        bucket: The one bucket whose objects may be read; None allows any.
        clock: A monotonic clock, seconds; decides when a verification, a full read or another attempt to save is due.

    Raises:
        EventLogError: The event log cannot be read, and no snapshot was left.
        SnapshotError: `state_dir` cannot be made.
        StoreUnavailableError: The checkpoint cannot be read, and no snapshot was left.
    """

    def __init__(
        self,
        event_log: EventLog,
        environment: str,
        state_dir: Path | None = None,
        *,
        poll_interval_s: float,
        verify_interval_s: float = 60.0,
        full_read_interval_s: float = 3600.0,
        shared: bool = False,
        discovery: Discovery | None = None,
        discovery_wait_s: float = 0.0,
        checkpoint: CheckpointStore | None = None,
        bucket: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._event_log, self.environment, self._clock = event_log, environment, clock
        self._checkpoint = checkpoint if event_log.keeps_ids else None
        if checkpoint is not None and self._checkpoint is None:
            _log.warning(
                "the checkpoint %s is not used: an event log in SQLite gives the ids of deleted events again",
                checkpoint.name,
            )
        self._poll_interval_s, self._shared = poll_interval_s, shared
        self._discovery, self._discovery_wait_s = discovery, discovery_wait_s
        self._reading = threading.Lock()  # held while the follower and the writer are used
        self._stop = threading.Event()
        self._lag = Lag(0.0, None, 0)
        self._read_at = now_s = clock()
        schedule = FullReadSchedule(verify_interval_s, full_read_interval_s, verified_at=now_s, full_read_at=now_s)
        try:
            store = None if state_dir is None else SnapshotStore(state_dir)
            self._writer = SnapshotWriter(store, discovery, clock)
            self._follower = LogFollower(
                event_log,
                environment,
                schedule,
                self._writer.seal,
                discovery=discovery,
                retention=None if self._checkpoint is None else Retention(bucket),
                clock=clock,
            )
            self._start(store)
            self._thread = threading.Thread(target=self._follow, name="dagfusion-catalog", daemon=True)
            self._thread.start()
        except BaseException:
            self._let_go()
            raise

    def current(self) -> Snapshot:
        """Return the latest generation, without a look at the event log."""
        return self._writer.saved or Snapshot(0, self.environment) if self._shared else self._follower.snapshot

    @property
    def is_saved(self) -> bool:
        """True if a generation is on disk."""
        return self._writer.saved is not None

    @property
    def checkpoint(self) -> CheckpointStore | None:
        """The checkpoint, if the catalog retains what is purged."""
        return self._checkpoint

    @property
    def full_reads(self) -> int:
        """The number of full reads since the start."""
        return self._follower.full_reads

    @property
    def refusal(self) -> str | None:
        """The reason why a stored snapshot was not combined with the event log, or None."""
        return self._follower.refusal

    @property
    def is_set_back(self) -> bool:
        """True if what was combined last had later events, which the event log lost to a restore from a backup."""
        return self._follower.is_set_back

    @property
    def undiscovered(self) -> int:
        """The number of materializations whose objects have still to be looked at."""
        return 0 if self._discovery is None else self._discovery.waiting

    @property
    def settled(self) -> int:
        """The id of the event log up to which no event will appear any more."""
        return self._follower.settled

    def refresh(self) -> Snapshot:
        """Poll the event log now, and return the resulting generation.

        Raises:
            EventLogError: It cannot be read.
        """
        with self._reading:
            self._poll()
            self._discover()
            return self.current()

    def combine(self, checkpoint: Stored) -> None:
        """Add what a checkpoint has, unless it is of another event log; `refusal` says so then.

        Raises:
            EventLogError: The event log cannot be read.
        """
        with self._reading:
            self._follower.combine(checkpoint)
            self._poll()

    def latest(self) -> Stored | None:
        """Return the snapshot with its cursor; None while it may not be the event log's."""
        with self._reading:
            return self._follower.latest

    def lag(self) -> Lag:
        """Return how far the catalog may be behind the event log."""
        return replace(
            self._lag,
            age_s=self._clock() - self._read_at,
            full_reads=self.full_reads,
            undiscovered=self.undiscovered,
        )

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
                _log.exception("the event log could not be followed; retrying")

    def _start(self, store: SnapshotStore | None) -> None:
        if store is not None:
            self._load(store)
        if not (is_resumed := self._follower.is_proof):
            self._load_checkpoint()
        try:
            self._poll()
            if is_resumed and self.full_reads:  # the stored snapshot was not true any more
                self._load_checkpoint()
                self._poll()
            self._discover()
        except EventLogUnavailableError:
            if not self._follower.has_snapshot:
                raise
            _log.warning("the last snapshot is served, since %s", self._lag.last_error)

    def _load(self, store: SnapshotStore) -> None:
        """Begin with the stored snapshot, if there is one that can be used."""
        try:
            stored = store.load(self.environment)
        except SnapshotError as error:
            _log.warning("the catalog is read anew from the event log: %s", error)
            # A generation's number stands for one content, also for processes that followed the damaged one.
            self._follower.snapshot = Snapshot(store.last_generation(), self.environment)
        else:
            if stored is not None:
                self._follower.resume(stored)
                self._writer.saved = stored.snapshot

    def _load_checkpoint(self) -> None:
        """Add the checkpoint to the stored snapshot, or begin with it.

        Raises:
            StoreUnavailableError: It cannot be read, and there is no stored snapshot.
        """
        if (checkpoint := self._checkpoint) is None:
            return
        try:
            head = checkpoint.head()
            if head is not None:
                self._follower.combine(checkpoint.load(head, self.environment))
        except SnapshotError as error:
            _log.warning("%s", error)
        except StoreUnavailableError as error:
            if not self._follower.has_snapshot:
                raise
            _log.warning("the catalog begins with the stored snapshot: %s", error)

    def _discover(self) -> None:
        """Wait for the running discovery and add its records. Failed reads are retried later."""
        deadline = self._clock() + self._discovery_wait_s
        before = None
        while self._discovery is not None and (left := self._discovery.waiting) and left != before:
            if (wait_s := deadline - self._clock()) <= 0:
                return
            self._discovery.wait(wait_s)
            self._poll()
            before = left

    def _poll(self) -> None:
        try:
            latest, changed = self._follower.read()
            self._follower.snapshot = self._writer.save(latest, changed=changed)
        except Exception as error:
            self._lag = replace(self._lag, last_error=error)
            raise
        now_s = self._clock()
        if self._writer.error is None or not self._shared:
            self._read_at = now_s
        self._lag = replace(self._lag, last_error=self._writer.error)

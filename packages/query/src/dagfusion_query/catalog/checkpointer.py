"""Writes the checkpoint of a catalog from time to time, in a thread of its own. Several processes may share one.

The process that wrote it last goes on writing. Another takes over if it stops: it first adds what the checkpoint has to
its own catalog, so that a checkpoint always has all that the one before had.

The others read the checkpoint when they start and after each full read of the event log. Between two full reads they
have what they poll, so an event must not be purged within one poll interval: where it is, it is read with the next one.
"""

import logging
import threading
import time
from collections.abc import Callable

from dagfusion_client.errors import QueryError
from dagfusion_query.catalog.checkpoint import CheckpointStore, Head, last_event_read
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.snapshot import Stored

_log = logging.getLogger(__name__)

INTERVAL_S = 300.0
_TAKEOVER = 2  # intervals without a new checkpoint after which another process writes it
_PAUSE_S = 1.0
_CLOSE_TIMEOUT_S = 10.0


class Checkpointer:
    """Writes the checkpoint of a catalog, at most once an interval, and when it is closed.

    Args:
        catalog: The catalog.
        store: Where its checkpoint is.
        interval_s: Seconds between two looks.
        now: The clock, seconds since 1970.

    Attributes:
        error: Why the checkpoint cannot be written, or None.
    """

    def __init__(
        self,
        catalog: LiveCatalog,
        store: CheckpointStore,
        interval_s: float = INTERVAL_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._catalog, self._store, self._interval_s, self._now = catalog, store, interval_s, now
        self._written: Stored | None = None
        self._is_read_anew = True
        self._full_reads = -1  # full reads when the checkpoint was looked at last
        self._stop = threading.Event()
        self._complete_at_s = now()
        self._is_found = False  # a checkpoint, by this process
        self.error: str | None = None
        self._thread = threading.Thread(target=self._follow, name="dagfusion-checkpoint", daemon=True)

    @property
    def age_s(self) -> float:
        """Seconds since the checkpoint was known to have all that the catalog had.

        If this process never knew it to, since the checkpoint that it found was written; without one, since the start.
        """
        return max(0.0, self._now() - self._complete_at_s)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Write what is new, and stop."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_TIMEOUT_S)

    def look(self) -> bool:
        """Write a checkpoint if it is time, and there is something new; return True if one was written.

        Raises:
            StoreUnavailableError: The object store does not answer, or refuses.
            SnapshotError: The checkpoint that is there cannot be used.
            EventLogError: The event log cannot be read.
        """
        full_reads, self._full_reads = self._full_reads, self._catalog.full_reads
        self._is_read_anew = self._is_read_anew or full_reads != self._full_reads
        head = self._store.head()
        if head is None:
            return self._write(None)
        if not self._is_found:
            self._is_found, self._complete_at_s = True, min(head.written_at_s, self._complete_at_s)
        if self._has_to_combine(head):
            self._catalog.combine(self._store.load(head, self._catalog.environment))
        self._is_read_anew = False
        if (refusal := self._catalog.refusal) is not None:
            self._refuse(refusal)
            return False
        if self._is_written_by_another(head):
            self._complete_at_s = max(self._complete_at_s, min(head.written_at_s, self._now()))
            return False
        return self._write(head)

    def _has_to_combine(self, head: Head) -> bool:
        """Return True if the checkpoint may have what the catalog has not."""
        if self._catalog.refusal is not None:
            return True
        is_new = head.etag != self._store.known_etag
        return is_new and (self._is_read_anew or not self._is_written_by_another(head))

    def _is_written_by_another(self, head: Head) -> bool:
        return head.writer != self._store.writer and self._now() - head.written_at_s < _TAKEOVER * self._interval_s

    def _write(self, head: Head | None) -> bool:
        looked_at_s, latest = self._now(), self._catalog.latest()
        if latest is None:
            return False
        if head is not None and not self._is_newer(head, latest):
            self._complete_at_s = looked_at_s
            return False
        if self._store.write(latest, head, self._catalog.undiscovered) is None:
            return False
        self._written, self.error, self._complete_at_s = latest, None, looked_at_s
        return True

    def _is_newer(self, head: Head, latest: Stored) -> bool:
        """Return True if a snapshot is later than the checkpoint, or the event log was set back since.

        The snapshot has all of the checkpoint that still counts: it was combined, or written by this process.
        """
        written, cursor = head.cursor, latest.cursor
        if last_event_read(cursor) < last_event_read(written) and not self._catalog.is_set_back:
            return False
        if self._written is not None and head.writer == self._store.writer:
            return latest.snapshot is not self._written.snapshot
        is_same = (last_event_read(written), written.assets, written.rows) == (
            last_event_read(cursor),
            cursor.assets,
            cursor.rows,
        )
        return not (is_same and not head.manifest["undiscovered"])

    def _refuse(self, why: str) -> None:
        if why != self.error:
            self.error = why
            _log.warning(
                "the checkpoint %s is not written: %s. Delete the objects below it if they are of no use any more",
                self._store.name,
                why,
            )

    def _follow(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.is_set()  # once more, for what is new
            try:
                self.look()
            except QueryError as error:
                self._warn(str(error))
            except Exception:  # noqa: BLE001  # a bug must not end the checkpoints for good
                _log.exception("the checkpoint could not be written; retrying")
            self._wait()

    def _wait(self) -> None:
        """Wait for the next look. A full read may have found less than the checkpoint has."""
        left_s = self._interval_s
        while left_s > 0 and self._catalog.full_reads == self._full_reads and not self._stop.wait(_PAUSE_S):
            left_s -= _PAUSE_S

    def _warn(self, problem: str) -> None:
        if problem != self.error:
            self.error = problem
            _log.warning("%s; retrying in %.0f s", problem, self._interval_s)

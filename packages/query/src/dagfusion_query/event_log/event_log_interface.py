"""The interface of an event log to the catalog: events, read in full or since a cursor with a gap-safe watermark."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import orjson

from dagfusion_client.as_of import AsOf, moment_text
from dagfusion_client.errors import EventRecordError
from dagfusion_contract.consolidation import LargeObject
from dagfusion_contract.record import DataFile
from dagfusion_contract.tombstone import Tombstone
from dagfusion_contract.view import View
from dagfusion_query.event_log.stored_event import DataFiles, Foreign

AssetKey = tuple[str, ...]

BATCH = 32_768  # events that a full read hands over at once
CONSOLIDATIONS_AT_ONCE = 32  # consolidations that it hands over at once: each may name many partitions
SLACK_S = 1.0  # between an id being handed out and its transaction getting a number of its own


class Materialization(NamedTuple):
    """One ASSET_MATERIALIZATION event.

    Attributes:
        event_id: The row's id in Dagster's event log; of one partition's events the highest counts.
        partition_key: Dagster's partition key, None for an unpartitioned materialization.
        at_us: When it happened, microseconds since 1970 in UTC.
        file: What was written, the view that was published, or the tombstone of a wiped partition; None when the event
            does not say, an error when what it says cannot be used, `Foreign` when it has still to be looked at.
    """

    asset_key: AssetKey
    event_id: int
    partition_key: str | None
    at_us: int
    run_id: str
    file: DataFile | DataFiles | View | Tombstone | Foreign | EventRecordError | None


class Wipe(NamedTuple):
    """An asset was wiped: its materializations up to this moment no longer count."""

    asset_key: AssetKey
    at_us: int


class Consolidation(NamedTuple):
    """An observation that says which large objects hold the rows of which materializations.

    Attributes:
        event_id: The row's id in Dagster's event log.
        at_us: When it was logged, microseconds since 1970 in UTC.
        run_id: The id of the run that wrote the objects; empty outside of a run.
    """

    asset_key: AssetKey
    event_id: int
    at_us: int
    run_id: str
    objects: tuple[LargeObject, ...]


Event = Materialization | Wipe | Consolidation


class PendingPoll(NamedTuple):
    """The state of one poll: `highest` is the highest id, `xmax` the first transaction number not yet given out."""

    at_s: float
    xmax: int
    highest: int


@dataclass(frozen=True)
class Watermark:
    """The ids that have been delivered: follow ids that become visible out of order, and miss none.

    An id is assigned when a row is inserted, and becomes visible when its transaction commits. So a reader that keeps
    the highest id only would skip the rows of transactions that were open at that time. Here the watermark moves to a
    poll's highest id only once every transaction that was open at that poll has ended (its `xmax` is not above a later
    poll's `xmin`); until then ids above it are read again and told apart by `seen`.

    Attributes:
        settled: Ids up to this one have been delivered, or will never become visible.
        count: How many there are up to `settled`.
        total: Their sum; with `count` it tells whether rows went away or came late.
        seen: The delivered ids above `settled`.
        pending: Earlier polls whose transactions may still be open, oldest first.
    """

    settled: int = 0
    count: int = 0
    total: int = 0
    seen: frozenset[int] = field(default=frozenset(), repr=False)
    pending: tuple[PendingPoll, ...] = field(default=(), repr=False, compare=False)

    def advance(self, visible: Collection[int], xmin: int, xmax: int, now_s: float) -> "Advance":
        """Add one poll.

        Args:
            visible: Every visible id above `settled`.
            xmin: The lowest transaction number still open in the poll's snapshot.
            xmax: The first number not given out yet in that snapshot.
            now_s: A monotonic clock, seconds.

        Returns:
            What to deliver, and the watermark to poll with next.
        """
        now_visible = frozenset(visible)
        highest = max(visible, default=self.settled)
        pending = [*self.pending]
        if highest > (pending[-1].highest if pending else self.settled):
            pending.append(PendingPoll(now_s, xmax, highest))
        settled = self.settled
        while pending and pending[0].xmax <= xmin and now_s - pending[0].at_s >= SLACK_S:
            settled = max(settled, pending.pop(0).highest)
        passed = [event_id for event_id in now_visible if event_id <= settled]
        moved = Watermark(
            settled,
            self.count + len(passed),
            self.total + sum(passed),
            now_visible.difference(passed),
            tuple(pending),
        )
        return Advance(sorted(now_visible - self.seen), sorted(self.seen - now_visible), moved)


@dataclass(frozen=True)
class Advance:
    """The outcome of one poll.

    Attributes:
        fresh: Ids that were not delivered before, ascending.
        gone: Delivered ids whose rows were deleted since, ascending.
        watermark: To poll with next.
    """

    fresh: Sequence[int]
    gone: Sequence[int]
    watermark: Watermark


class Moment(NamedTuple):
    """A past state of an event log.

    Attributes:
        event_id: The last materialization or wipe of it; 0 if there was none.
        at_us: When that was, or the time that was asked for; microseconds since 1970 in UTC.
    """

    event_id: int
    at_us: int

    @property
    def words(self) -> str:
        """Name it in a sentence."""
        return f"event {self.event_id}" if self.event_id else moment_text(self.at_us)


class Revision(NamedTuple):
    """A revision: what one run wrote to an asset, or a wipe of the asset or of partitions.

    Attributes:
        event_id: The id of its last event: the state after it is `as_of` this id.
        at_us: When that was, microseconds since 1970 in UTC.
        first_us: When its first event was, likewise.
        run_id: The id of the run; empty for an event outside of a run.
        partitions: The number of partitions that it wrote or wiped.
        rows: The number of rows in them; None if an event does not say, and for old runs over many partitions.
        is_wipe: True if it is a wipe of the asset, or of these partitions.
    """

    event_id: int
    at_us: int
    first_us: int
    run_id: str
    partitions: int
    rows: int | None
    is_wipe: bool = False


@dataclass(frozen=True)
class Cursor:
    """The position of a reader in an event log; immutable, and kept beside the snapshot it belongs to.

    Attributes:
        watermark: Which event ids have been delivered, or will never be.
        assets: The asset keys that Dagster lists, as it stores them, and when each was wiped (microseconds, or None).
        verified: Whether events that were being written during the full read have been accounted for.
        top: What the event at the watermark looks like, where its id might be given out twice; else None.
        rows: The number of each asset's row, which is another one if Dagster removed the asset and has it again.
    """

    watermark: Watermark
    assets: Mapping[str, int | None]
    verified: bool = False
    top: str | None = None
    rows: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Poll:
    """The result of one poll.

    Attributes:
        events: New since the cursor, in any order; some may be repeated.
        cursor: Where to poll from next.
        full_read_reason: The reason why a full read is needed, or None.
    """

    events: Sequence[Event]
    cursor: Cursor
    full_read_reason: str | None = None


class PlannedRun(NamedTuple):
    """A run that was to materialize a table or a partition.

    Attributes:
        at_us: When it was created, microseconds since 1970 in UTC.
        status: As Dagster stores it, such as FAILURE; None when the run was deleted.
    """

    run_id: str
    at_us: int
    status: str | None


class History(NamedTuple):
    """The history of a table or of one of its partitions.

    Attributes:
        runs: The latest, newest first.
        materialized_at_us: The time of the last materialization that is still in the event log, wiped with the asset or
            not; None if that is the tombstone of the partition.
        wiped_at_us: When the whole asset was wiped last, or the partition if that was later.
    """

    runs: Sequence[PlannedRun]
    materialized_at_us: int | None
    wiped_at_us: int | None


class Mark(NamedTuple):
    """The identity of an event, because SQLite reuses ids.

    Attributes:
        run_id: Empty outside of a run.
        at_us: When it happened, microseconds since 1970 in UTC.
    """

    run_id: str
    at_us: int


class Evidence(NamedTuple):
    """The evidence that an event log has of its history.

    Attributes:
        marks: By id, the events among those that were named that are still in the event log.
        highest: The highest id that the event log has or is known to have had.
    """

    marks: Mapping[int, Mark]
    highest: int


class EventLog(Protocol):
    """A reader of one Dagster event log; its methods are called from one thread at a time.

    Every method raises EventLogUnavailableError while the database does not answer, and works again once it does.

    Attributes:
        keeps_ids: False if the ids of deleted events are given to later ones.
    """

    keeps_ids: bool

    def identity(self) -> str:
        """Return a text that identifies this event log, without secrets."""

    def read_all(self, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        """Pass all current events to `receive`, in batches.

        That is each partition's latest event, every wipe, and each asset's latest consolidations.
        """

    def poll(self, cursor: Cursor) -> Poll:
        """Return what is new since `cursor`."""

    def verify(self, cursor: Cursor) -> str | None:
        """Return why the events below the cursor are not those delivered (a run was deleted, say), or None."""

    def evidence(self, event_ids: Sequence[int]) -> Evidence:
        """Return what the event log has under these ids, and the highest id that it is known to have had."""

    def purged_assets(self) -> Sequence[AssetKey]:
        """Return the assets whose last materialization named a file, and that have none in the event log any more."""

    def history(self, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Return which runs were to materialize a partition, or any of a table where the key is None."""

    def moment(self, as_of: AsOf) -> Moment:
        """Return the past state that an event id or a time stands for.

        Raises:
            AsOfError: The event or time is in the future.
        """

    def past(self, asset_key: AssetKey, moment: Moment, receive: Callable[[Sequence[Event]], None]) -> None:
        """Pass all events of one asset that counted at a moment to `receive`, in batches.

        That is each partition's latest event by then that names a file, and the latest wipe. Consolidations are left
        out.

        Raises:
            UnknownPastError: The event log does not have it any more.
        """

    def revisions(self, asset_key: AssetKey, limit: int) -> Sequence[Revision]:
        """Return what the latest runs wrote of an asset, and its wipes; newest first."""

    def close(self) -> None:
        """Close the connection for good. May be called from any thread, also while another one reads."""


def parse_asset_key(stored: str) -> AssetKey:
    """Read an asset key as Dagster stores it: a JSON list of its components."""
    return tuple(orjson.loads(stored))


@dataclass(frozen=True)
class FilelessAssets:
    """The assets that named no file when they were searched, so that a full read does not search the same events again.

    An asset that another IO manager stores may never name a file. Every full read would search its whole history,
    because any earlier event could be the last that names one. What was found holds as long as the events are the same.

    Attributes:
        up_to: The id of the event log's latest event at that time.
        evidence: The number of the events up to it, the sum of their ids, and the run and time of the latest.
        asset_keys: The assets, as Dagster stores their keys, none of whose events named a file.
    """

    up_to: int = 0
    evidence: Sequence[Any] = ()
    asset_keys: frozenset[str] = frozenset()

    def above(self, asset_key: str) -> int:
        """Return the id above which an asset's events have to be searched."""
        return self.up_to if asset_key in self.asset_keys else 0

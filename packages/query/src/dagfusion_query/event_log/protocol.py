"""The interface of an event log to the catalog: materializations and wipes, read in full or since a cursor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from dagfusion_contract.consolidation import CONSOLIDATED_ENTRY, CONSOLIDATIONS, LargeObject
from dagfusion_contract.record import DataFile
from dagfusion_query.errors import EventRecordError
from dagfusion_query.event_log.history import History
from dagfusion_query.event_log.stored_event import DataFiles, Foreign
from dagfusion_query.event_log.watermark import Watermark

AssetKey = tuple[str, ...]

BATCH = 32_768  # events that a full sync hands over at once
FEW = 32  # consolidations that it hands over at once: each may name many partitions


class Materialization(NamedTuple):
    """One ASSET_MATERIALIZATION event.

    Attributes:
        event_id: The row's id in Dagster's event log; of one partition's events the highest counts.
        partition_key: Dagster's partition key, None for an unpartitioned materialization.
        at_us: When it happened, microseconds since 1970 in UTC.
        file: What was written; None when the event does not say, an error when what it says cannot be used, `Foreign`
            when it has still to be looked at.
    """

    asset_key: AssetKey
    event_id: int
    partition_key: str | None
    at_us: int
    run_id: str
    file: DataFile | DataFiles | Foreign | EventRecordError | None


class Wipe(NamedTuple):
    """An asset was wiped: its materializations up to this moment no longer count."""

    asset_key: AssetKey
    at_us: int


class Consolidation(NamedTuple):
    """An observation that says which large objects hold the rows of which materializations.

    Attributes:
        event_id: The row's id in Dagster's event log.
        at_us: When it was logged, microseconds since 1970 in UTC.
        run_id: Of the run that wrote the objects; empty outside of a run.
    """

    asset_key: AssetKey
    event_id: int
    at_us: int
    run_id: str
    objects: tuple[LargeObject, ...]


Event = Materialization | Wipe | Consolidation


@dataclass(frozen=True)
class Cursor:
    """Where a reader stands in an event log; immutable, and kept beside the snapshot it belongs to.

    Attributes:
        watermark: Which event ids have been delivered, or will never be.
        assets: The asset keys that Dagster lists, as it stores them, and when each was wiped (microseconds, or None).
        verified: Whether events that were being written during the full sync have been accounted for.
        top: What the event at the watermark looks like, where its id might be given out twice; else None.
    """

    watermark: Watermark
    assets: Mapping[str, int | None]
    verified: bool = False
    top: str | None = None


@dataclass(frozen=True)
class Poll:
    """The answer of one poll.

    Attributes:
        events: New since the cursor, in any order; some may be repeated.
        cursor: Where to poll from next.
        resync: The reason why a full sync is needed, or None.
    """

    events: Sequence[Event]
    cursor: Cursor
    resync: str | None = None


def consolidations(microseconds: str, find: str, condition: str) -> str:
    """Return the query of each asset's latest consolidations: id, asset key, time, run id and text of each.

    Args:
        microseconds: The time, as `Dialect.microseconds` has it.
        find: The function that finds a text in another.
        condition: On the events that are looked at.
    """
    return f"""
    with found as (
        select id, row_number() over (partition by asset_key order by id desc) as number from event_logs
        where {condition} and dagster_event_type = '{_OBSERVATION}' and asset_key is not null and partition is null
            and {find}(event, '"{CONSOLIDATED_ENTRY}"') > 0
    )
    select e.id, e.asset_key, {microseconds.format("e.timestamp")}, e.run_id, e.event
    from found join event_logs e using (id) where number <= {CONSOLIDATIONS}
    """


def observations_since(parameter: str) -> str:
    """Return the query of the ids of observations that may be consolidations, above the id that is its parameter."""
    return (
        f"select id from event_logs where dagster_event_type = '{_OBSERVATION}' and id > {parameter} "
        "and asset_key is not null and partition is null"
    )


_OBSERVATION = "ASSET_OBSERVATION"


class EventLog(Protocol):
    """A reader of one Dagster event log; its methods are called from one thread at a time.

    Every method raises EventLogUnavailableError while the database does not answer, and works again once it does.
    """

    def identity(self) -> str:
        """Return a text that identifies this event log, without secrets."""

    def sync(self, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        """Hand all that counts now to `receive`, in batches.

        That is each partition's latest event, every wipe, and each asset's latest consolidations.
        """

    def poll(self, cursor: Cursor) -> Poll:
        """Return what is new since `cursor`."""

    def verify(self, cursor: Cursor) -> str | None:
        """Return why the events below the cursor are not those delivered (a run was deleted, say), or None."""

    def history(self, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Return which runs were to materialize a partition, or any of a table where the key is None."""

    def close(self) -> None:
        """Close the connection for good. May be called from any thread, also while another one reads."""


def parse_asset_key(stored: str) -> AssetKey:
    """Read an asset key as Dagster stores it: a JSON list of its components."""
    return tuple(orjson.loads(stored))


@dataclass(frozen=True)
class Searched:
    """The assets that named no file when they were searched, so that a full sync does not search the same events again.

    An asset that another IO manager stores may never name a file. Every full sync would search its whole history,
    because any earlier event could be the last that names one. What was found holds as long as the events are the same.

    Attributes:
        up_to: The id of the log's latest event at that time.
        evidence: The number of the events up to it, the sum of their ids, and the run and time of the latest.
        fileless: The assets, as Dagster stores their keys, none of whose events named a file.
    """

    up_to: int = 0
    evidence: Sequence[Any] = ()
    fileless: frozenset[str] = frozenset()

    def above(self, asset_key: str) -> int:
        """Return the id above which an asset's events have to be searched."""
        return self.up_to if asset_key in self.fileless else 0

"""Decides whether a stored snapshot is of the event log that is read, when some of its events may have been purged.

Pure. A run's id and the microsecond of an event tell it from any other one. So an event that both have proves that the
log is the same, also on another server, and another event under the same id proves that the ids were given again.
"""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import Evidence, Mark

_LATEST, _SPREAD = 64, 64  # events of a snapshot that are looked for in the log
_NUMBERS = 3  # of an identity: those of the cluster, the database and the table


class Verdict(NamedTuple):
    """What an event log and a snapshot have in common.

    Attributes:
        is_same: True if the snapshot is of this event log, so that it may be combined with it.
        last_event_id: The last event that is certainly of both, if the log was set back later; None if it was not.
        why: The reason for anything but a snapshot that is of this log as it is; else None.
    """

    is_same: bool
    last_event_id: int | None = None
    why: str | None = None


def sample_events(snapshot: Snapshot) -> dict[int, Mark]:
    """Return events of a snapshot that its event log must have unless they were purged: the latest, and some others."""
    columns = ["event_id", "run_id", "materialized_at"]
    live = [
        rows.select(columns)
        for state in snapshot.asset_states.values()
        for segment in state.segments
        for rows in segment.live()
    ]
    if not live:
        return {}
    rows = pa.concat_tables(live)
    order = pc.array_sort_indices(rows["event_id"])
    step = max(1, len(order) // _SPREAD)
    numbers = sorted({*range(0, len(order), step), *range(max(0, len(order) - _LATEST), len(order))})
    taken = rows.take(order.take(pa.array(numbers, pa.int64())))
    moments = taken["materialized_at"].cast(pa.int64()).to_pylist()
    marks = map(Mark, taken["run_id"].to_pylist(), moments)
    return dict(zip(taken["event_id"].to_pylist(), marks, strict=True))


def judge(sampled: Mapping[int, Mark], evidence: Evidence, *, is_same_database: bool) -> Verdict:
    """Compare events of a snapshot with what the event log has under their ids.

    Args:
        sampled: What `sample_events` returned.
        evidence: What the log has.
        is_same_database: Whether the database and its table are those that the snapshot was read from.
    """
    if not sampled:
        return Verdict(is_same_database, why=None if is_same_database else "it is of another database")
    last = max(sampled)
    others = [event_id for event_id, mark in evidence.marks.items() if sampled[event_id] != mark]
    shared = [event_id for event_id in evidence.marks if event_id not in others]
    if others or evidence.highest < last:
        common = max((event_id for event_id in shared if event_id < min(others, default=last)), default=None)
        what = f"event {min(others)} is another one now" if others else f"the event log ends at {evidence.highest}"
        if common is None:
            return Verdict(is_same=False, why=f"{what}, and none of the events up to {last} is still there")
        return Verdict(is_same=True, last_event_id=common, why=f"{what}: the event log was set back after {common}")
    if not shared and not is_same_database:
        return Verdict(is_same=False, why=f"it is of another database, which has none of its events up to {last}")
    return Verdict(is_same=True)


def has_same_rules(one: str, other: str) -> bool:
    """Compare identities of event logs only by the rules by which records are read: the bucket and metadata keys."""
    return one.split("/", _NUMBERS)[_NUMBERS:] == other.split("/", _NUMBERS)[_NUMBERS:]


def is_same_database(one: str, other: str) -> bool:
    """Compare identities of event logs, but for the rules by which records are read."""
    return one.split("/", _NUMBERS)[:_NUMBERS] == other.split("/", _NUMBERS)[:_NUMBERS]

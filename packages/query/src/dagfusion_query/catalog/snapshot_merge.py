"""Decides whether a catalog snapshot is of an event log, and merges two snapshots of one event log. Pure.

Some events of the event log may have been purged. The id of its run and its time in microseconds identify an event. So
an event that the snapshot and the event log share proves that the event log is the same, even on another server.
Another event under the same event id proves that the database has given its ids again.

In the merged snapshot, each partition has the latest event of the two. A merge drops only what a later event or a wipe
has replaced, so the order of merges does not matter.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.consolidation import CONSOLIDATIONS
from dagfusion_contract.uri import bucket_url
from dagfusion_query.catalog.fold import fold_wipe, holds_the_same, with_asset_states
from dagfusion_query.catalog.model import AssetState, Segment, Snapshot
from dagfusion_query.catalog.segments import compact, fold_fileless
from dagfusion_query.event_log.event_log_interface import AssetKey, Evidence, Mark, Materialization

Ranks = dict[str | None, tuple[int, int, bool]]
_EVERY_EVENT = (1 << 63) - 1
_RANKED = ("partition_key", "event_id", "materialized_at")
_LATEST, _SPREAD = 64, 64  # events of a snapshot that are looked for in the event log
_NUMBERS = 3  # of an identity: those of the cluster, the database and the table


class LogComparison(NamedTuple):
    """The common events of an event log and a snapshot.

    Attributes:
        is_same: True if the snapshot is of this event log, so that the two may be combined.
        last_event_id: The last event that both certainly have, if the event log was restored to an earlier state; else
            None.
        why: The reason if the snapshot cannot be used, or only in part; else None.
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
    sample = rows.take(order.take(pa.array(numbers, pa.int64())))
    moments = sample["materialized_at"].cast(pa.int64()).to_pylist()
    marks = map(Mark, sample["run_id"].to_pylist(), moments)
    return dict(zip(sample["event_id"].to_pylist(), marks, strict=True))


def compare_events(sampled: Mapping[int, Mark], evidence: Evidence, *, is_same_database: bool) -> LogComparison:
    """Compare events of a snapshot with what the event log has under their ids.

    Args:
        sampled: What `sample_events` returned.
        evidence: What the event log has.
        is_same_database: Whether the database and its table are those that the snapshot was read from.
    """
    if not sampled:
        return LogComparison(is_same_database, why=None if is_same_database else "it is of another database")
    last = max(sampled)
    others = [event_id for event_id, mark in evidence.marks.items() if sampled[event_id] != mark]
    shared = [event_id for event_id in evidence.marks if event_id not in others]
    if others or evidence.highest < last:
        common = max((event_id for event_id in shared if event_id < min(others, default=last)), default=None)
        what = f"event {min(others)} is another event now" if others else f"the event log ends at {evidence.highest}"
        if common is None:
            return LogComparison(is_same=False, why=f"{what}, and none of the events up to {last} is still there")
        return LogComparison(
            is_same=True, last_event_id=common, why=f"{what}: the event log was restored to event {common}"
        )
    if not shared and not is_same_database:
        return LogComparison(is_same=False, why=f"it is of another database, which has none of its events up to {last}")
    return LogComparison(is_same=True)


def has_same_rules(one: str, other: str) -> bool:
    """Compare identities of event logs only by the rules by which records are read: the bucket and metadata keys."""
    return one.split("/", _NUMBERS)[_NUMBERS:] == other.split("/", _NUMBERS)[_NUMBERS:]


def is_same_database(one: str, other: str) -> bool:
    """Compare identities of event logs, but for the rules by which records are read."""
    return one.split("/", _NUMBERS)[:_NUMBERS] == other.split("/", _NUMBERS)[:_NUMBERS]


def merge(one: Snapshot, other: Snapshot) -> Snapshot:
    """Merge `other` into `one`: each partition gets its latest event of the two.

    Returns:
        The generation after `one`, or `one` itself if `other` changes nothing.
    """
    changed: dict[AssetKey, AssetState] = {}
    for asset_key, state in other.asset_states.items():
        own = one.asset_states.get(asset_key)
        merged = state if own is None else merge_states(own, state)
        if merged is not own:
            changed[asset_key] = merged
    return with_asset_states(one, changed) if changed else one


def merge_states(one: AssetState, other: AssetState) -> AssetState:
    """Merge two states of an asset: each partition gets its latest event.

    Returns:
        The merged state, or `one` itself if `other` changes nothing.
    """
    if holds_the_same(one, other) and not (_has_refused(one) or _has_refused(other)):
        return one
    if other.wiped_at_us is not None:
        one = fold_wipe(one, other.wiped_at_us)
    if one.wiped_at_us is not None:
        other = fold_wipe(other, one.wiped_at_us)
    ranks, others = _ranks(one), _ranks(other)
    newer = {key: rank for key, rank in others.items() if key not in ranks or rank > ranks[key]}
    kept_out = pa.array([key for key in others if key not in newer], pa.string())
    replaced = pa.array(newer, pa.string())
    segments = [*_dropping(one.segments, replaced), *_dropping(other.segments, kept_out)]
    absent = pa.concat_tables([_without(one.absent, replaced), _without(other.absent, kept_out)]).combine_chunks()
    fileless = fold_fileless(one, _events(_ranks_of(other.fileless)), _events(newer))
    consolidated = _merge_consolidated(one.consolidated, other.consolidated)
    is_others = None in newer
    merged = AssetState(
        compact(segments), absent, fileless, one.wiped_at_us, consolidated, other.view if is_others else one.view
    )
    return merged if newer or not holds_the_same(one, merged) else one


def restrict(
    snapshot: Snapshot, assets: Collection[AssetKey], last_event_id: int | None, bucket: str | None
) -> Snapshot:
    """Return what still counts of a snapshot, without its tables.

    Args:
        snapshot: The snapshot.
        assets: The assets that are the same ones in the event log now.
        last_event_id: The last event that the event log and the snapshot have in common; None if they share all.
        bucket: The one bucket whose objects may be read; None allows any.
    """
    prefix = None if bucket is None else bucket_url(bucket)
    states = {
        key: _restricted(state, last_event_id, prefix) for key, state in snapshot.asset_states.items() if key in assets
    }
    return replace(snapshot, tables={}, problems={}, asset_states=states)


def event_ids(snapshot: Snapshot) -> list[int]:
    """Return the events that a snapshot has of partitions and views, in no order."""
    rows = [rows["event_id"] for state in snapshot.asset_states.values() for rows in _all_rows(state)]
    views = [state.view.event_id for state in snapshot.asset_states.values() if state.view is not None]
    chunks = pa.chunked_array([chunk for ids in rows for chunk in ids.chunks], pa.int64())
    return [*views, *pc.unique(chunks).to_pylist()]


def without_events(snapshot: Snapshot, event_ids: Collection[int]) -> Snapshot:
    """Return a snapshot without what it has of some events, and without its tables."""
    ids = pa.array(event_ids, pa.int64())

    def left(rows: pa.Table) -> pa.Table:
        return rows.filter(pc.invert(pc.is_in(rows["event_id"], value_set=ids)))

    states = {}
    for key, state in snapshot.asset_states.items():
        segments = compact(_dropping(state.segments, ids, "event_id"))
        view = None if state.view is None or state.view.event_id in event_ids else state.view
        absent, fileless = left(state.absent), left(state.fileless)
        states[key] = replace(state, segments=segments, absent=absent, fileless=fileless, view=view)
    return replace(snapshot, tables={}, problems={}, asset_states=states)


def has_lost(before: AssetState, after: AssetState) -> bool:
    """Return True if partitions that had files are unknown now, though the asset was not wiped in between."""
    if after.wiped_at_us != before.wiped_at_us:
        return False
    chunks = [chunk for rows in (*_live(after), after.absent) for chunk in rows["partition_key"].chunks]
    keys = pa.chunked_array(chunks, pa.string())
    return not all(pc.all(pc.is_in(rows["partition_key"], value_set=keys)).as_py() for rows in _live(before))


def _restricted(state: AssetState, last_event_id: int | None, prefix: str | None) -> AssetState:
    if last_event_id is None and prefix is None:
        return state
    segments = tuple(_only(segment, last_event_id, prefix) for segment in state.segments)
    large = state.consolidated
    if prefix is not None:
        large = large.filter(pc.starts_with(large["uri"], prefix))
    state = replace(state, segments=compact(segments), consolidated=large)
    if last_event_id is None:
        return state
    # A wipe may be among the events that are not shared. What it took away is in the event log, or lost.
    upper = pa.scalar(last_event_id, pa.int64())
    fileless, large = (
        rows.filter(pc.less_equal(rows["event_id"], upper)) for rows in (state.fileless, state.consolidated)
    )
    view = state.view if state.view is not None and state.view.event_id <= last_event_id else None
    return AssetState(state.segments, fileless=fileless, consolidated=large, view=view)


def _only(segment: Segment, last_event_id: int | None, prefix: str | None) -> Segment:
    rows = segment.rows
    last = _EVERY_EVENT if last_event_id is None else last_event_id
    is_kept = pc.less_equal(rows["event_id"], pa.scalar(last, pa.int64()))
    if prefix is not None:
        is_kept = pc.and_(is_kept, pc.starts_with(rows["uri"], prefix))
    if last_event_id is None and pc.all(is_kept).as_py():
        return segment
    gone = pc.indices_nonzero(pc.invert(is_kept)).to_pylist()
    return replace(segment, dropped=tuple(sorted({*segment.dropped, *gone}))) if gone else segment


def _ranks(state: AssetState) -> Ranks:
    """Return the latest event of each partition that names a file or a view, and whether it could be used."""
    refused = _ranks_of(state.absent, pc.is_null(state.absent["reason"]))
    ranks = {key: rank for rows in _live(state) for key, rank in _ranks_of(rows).items()} | refused
    if state.view is not None:
        ranks[None] = (*state.view.rank, True)
    return ranks


def _live(state: AssetState) -> list[pa.Table]:
    return [rows for segment in state.segments for rows in segment.live()]


def _all_rows(state: AssetState) -> list[pa.Table]:
    return [*_live(state), state.absent, state.fileless]


def _ranks_of(rows: pa.Table, usable: pa.ChunkedArray | None = None) -> Ranks:
    keys, ids, moments = (rows[name] for name in _RANKED)
    is_usable = [True] * rows.num_rows if usable is None else usable.to_pylist()
    ranks = zip(ids.to_pylist(), moments.cast(pa.int64()).to_pylist(), is_usable, strict=True)
    return dict(zip(keys.to_pylist(), ranks, strict=True))


def _has_refused(state: AssetState) -> bool:
    return bool(state.absent["reason"].null_count < state.absent.num_rows)


def _events(ranks: Ranks) -> dict[str | None, Materialization]:
    return {key: Materialization((), event_id, key, at_us, "", None) for key, (event_id, at_us, _) in ranks.items()}


def _dropping(segments: Sequence[Segment], keys: pa.Array, column: str = "partition_key") -> list[Segment]:
    """Return segments without the rows that have some values in a column."""
    if not len(keys):
        return [*segments]
    left = []
    for segment in segments:
        gone = pc.indices_nonzero(pc.is_in(segment.rows[column], value_set=keys)).to_pylist()
        dropped = tuple(sorted({*segment.dropped, *gone}))
        left.append(replace(segment, dropped=dropped) if len(dropped) > len(segment.dropped) else segment)
    return left


def _without(rows: pa.Table, keys: pa.Array) -> pa.Table:
    if not len(keys) or not rows.num_rows:
        return rows
    return rows.filter(pc.invert(pc.is_in(rows["partition_key"], value_set=keys)))


def _merge_consolidated(one: pa.Table, other: pa.Table) -> pa.Table:
    fresh = other.filter(pc.invert(pc.is_in(other["event_id"], value_set=pc.unique(one["event_id"]))))
    if not fresh.num_rows:
        return one
    rows = pa.concat_tables([one, fresh])
    latest = sorted(pc.unique(rows["event_id"]).to_pylist())[-CONSOLIDATIONS:]
    rows = rows.filter(pc.greater_equal(rows["event_id"], latest[0]))
    return rows.sort_by([("event_id", "ascending"), ("uri", "ascending"), ("offset", "ascending")]).combine_chunks()

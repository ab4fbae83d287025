"""`fold(snapshot, events) -> snapshot`: pure, and the same snapshot for any order and repetition of the events.

Of the events of a partition that name a file, the one with the highest id counts, unless its asset was wiped after it.
A tombstone counts as a file that gives nothing. Events that name no file change nothing. The loop is over new events
only. Existing rows are searched and replaced in Arrow columns, without a copy of the others. `segments.build_segment`
makes the rows of new files, and `tables.build_table` the table of an asset.

Consolidations become rows too: one for each row group of a large object, of the latest consolidations of an asset. A
view is kept as it was published last.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.errors import EventRecordError, UndiscoverableError
from dagfusion_contract.consolidation import CONSOLIDATIONS
from dagfusion_contract.record import DataFile, Layout
from dagfusion_contract.tombstone import Tombstone
from dagfusion_contract.view import View
from dagfusion_query.catalog.model import AssetState, PublishedView, Segment, Snapshot, Table, consolidated_rows, moment
from dagfusion_query.catalog.segments import (
    Absence,
    Written,
    absent_rows,
    build_segment,
    compact,
    find_partitions,
    fold_fileless,
    not_wiped,
    rank,
    without,
)
from dagfusion_query.catalog.tables import build_table, name_tables
from dagfusion_query.event_log.event_log_interface import AssetKey, Consolidation, Event, Materialization, Wipe
from dagfusion_query.event_log.stored_event import DataFiles, Foreign


@dataclass
class _NewEvents:
    """The events of one asset in one fold.

    Attributes:
        latest: Each partition's latest with a file.
        fileless: Each partition's latest without one.
        consolidations: All of them.
        wiped_at_us: When it was wiped last.
    """

    latest: dict[str | None, Materialization] = field(default_factory=dict)
    fileless: dict[str | None, Materialization] = field(default_factory=dict)
    consolidations: list[Consolidation] = field(default_factory=list)
    wiped_at_us: int | None = None


def fold(snapshot: Snapshot, events: Iterable[Event]) -> Snapshot:
    """Merge events into a snapshot.

    Args:
        snapshot: Any generation, `Snapshot(0, environment)` to start.
        events: In any order, repeated or not.

    Returns:
        The next generation, in which tables that did not change are the same objects; `snapshot` itself when the events
        say nothing new.
    """
    asset_states: dict[AssetKey, AssetState] = {}
    for asset_key, new in _by_asset(events).items():
        state = snapshot.asset_states.get(asset_key, AssetState())
        folded = _fold_asset(state, new)
        if folded is not state:
            asset_states[asset_key] = folded
    return with_asset_states(snapshot, asset_states) if asset_states else snapshot


def with_asset_states(snapshot: Snapshot, changed: Mapping[AssetKey, AssetState]) -> Snapshot:
    """Return the next generation, in which the assets of `changed` have new states."""
    tables: dict[AssetKey, Table] = {table.asset_key: table for table in snapshot.tables.values()}
    rebuilt = [key for key in snapshot.asset_states if key not in tables and key not in changed]
    everything = {**snapshot.asset_states, **changed}
    for asset_key in (*rebuilt, *changed):
        table = build_table(snapshot.environment, asset_key, everything[asset_key])
        if table is not None:
            tables[asset_key] = table
        else:
            tables.pop(asset_key, None)
    tables_by_name, problems = name_tables(tables)
    return Snapshot(
        snapshot.generation + 1, snapshot.environment, tables_by_name, problems, MappingProxyType(everything)
    )


def adopt(old: Snapshot, new: Snapshot) -> Snapshot:
    """Return the generation after `old` that holds what `new` holds; assets that hold the same keep their objects.

    Args:
        old: The generation that is served.
        new: The outcome of a full read.
    """
    changed = {
        key: state
        for key, state in new.asset_states.items()
        if key not in old.asset_states or not holds_the_same(old.asset_states[key], state)
    }
    gone = [
        key
        for key, state in old.asset_states.items()
        if key not in new.asset_states and not holds_the_same(state, AssetState())
    ]
    if not changed and not gone:
        return old
    states = {key: state for key, state in old.asset_states.items() if key not in gone}
    tables = {name: table for name, table in old.tables.items() if table.asset_key not in gone}
    return with_asset_states(replace(old, tables=tables, asset_states=states), changed)


def fold_wipe(state: AssetState, wiped_at_us: int) -> AssetState:
    """Return the state of an asset after a wipe at a moment, or the same one if it knows of that wipe."""
    return _fold_asset(state, _NewEvents(wiped_at_us=wiped_at_us))


def holds_the_same(one: AssetState, other: AssetState) -> bool:
    """Compare states by their events: one of the same id and moment is the same event.

    Wiped events count, too. SQLite forgets them and gives their ids again, so that they would hide later events.
    """
    return (
        one.wiped_at_us == other.wiped_at_us
        and one.view == other.view
        and _events(one).equals(_events(other))
        and pc.unique(one.consolidated["event_id"]).equals(pc.unique(other.consolidated["event_id"]))
    )


def _events(state: AssetState) -> pa.Table:
    rows = [*(rows for segment in state.segments for rows in segment.live()), state.absent, not_wiped(state)]
    events = pa.concat_tables([part.select(["event_id", "materialized_at"]) for part in rows])
    return events.sort_by("event_id").combine_chunks()


def _by_asset(events: Iterable[Event]) -> dict[AssetKey, _NewEvents]:
    assets: dict[AssetKey, _NewEvents] = {}
    for event in events:
        new = assets.get(event.asset_key)
        if new is None:
            new = assets[event.asset_key] = _NewEvents()
        if isinstance(event, Wipe):
            new.wiped_at_us = _later(new.wiped_at_us, event.at_us)
        elif isinstance(event, Consolidation):
            new.consolidations.append(event)
        elif not isinstance(event.file, Foreign):  # what it names has still to be looked at
            _keep_latest(new.latest if _is_shown(event) else new.fileless, event)
    return assets


def _is_shown(event: Materialization) -> bool:
    """Return True if an event names what its partition is. A view has no partitions."""
    return event.file is not None and not (isinstance(event.file, View) and event.partition_key is not None)


def _keep_latest(latest: dict[str | None, Materialization], event: Materialization) -> None:
    earlier = latest.get(event.partition_key)
    if earlier is None or _age(event) > _age(earlier):
        latest[event.partition_key] = event


def _age(event: Materialization) -> tuple[int, int, int]:
    """Order the events of a partition. What discovery found later has the same event's id, and counts more."""
    return *rank(event), _detail(event.file)


def _detail(file: object) -> int:
    return _WHY if isinstance(file, EventRecordError) else _FILE


_WHY, _FILE = range(2)


def _later(one: int | None, other: int | None) -> int | None:
    return max((at for at in (one, other) if at is not None), default=None)


def _fold_asset(state: AssetState, new: _NewEvents) -> AssetState:
    wiped_at_us = _later(state.wiped_at_us, new.wiped_at_us)
    wiped_anew = wiped_at_us != state.wiped_at_us
    fresh = dict(new.latest)
    if state.view is not None and None in fresh and rank(fresh[None]) <= state.view.rank:
        del fresh[None]
    keys = pa.array(fresh, pa.string())
    segments = [_supersede(segment, fresh, keys) for segment in state.segments]
    explained = _explained(state.absent, fresh, wiped_at_us)
    gone = explained + _superseded(state.absent, fresh, keys, explained)
    absent = without(state.absent, gone) if gone else state.absent
    fileless = fold_fileless(state, new.fileless, new.latest)
    consolidated = _fold_consolidated(state, new.consolidations, wiped_at_us)
    if not fresh and not wiped_anew:
        if fileless is state.fileless and consolidated is state.consolidated:
            return state
        return replace(state, fileless=fileless, consolidated=consolidated)
    absences: list[Absence] = []
    view = _fold_view(state.view, fresh.get(None), wiped_at_us, absences)
    if wiped_anew and wiped_at_us is not None:
        segments, wiped = _wipe(segments, wiped_at_us)
        absent = _without_reasons(pa.concat_tables([absent, *wiped]), wiped_at_us).combine_chunks()
    for layout, written in _readable(fresh.values(), wiped_at_us, absences).items():
        segment, refused = build_segment(layout, written)
        absences += refused
        segments += [segment] if segment is not None else []
    if absences:
        absent = pa.concat_tables([absent, absent_rows(absences)]).combine_chunks()
    return AssetState(compact(segments), absent, fileless, wiped_at_us, consolidated, view)


def _fold_view(
    before: PublishedView | None, latest: Materialization | None, wiped_at_us: int | None, absences: list[Absence]
) -> PublishedView | None:
    """Return the view of an asset; one that was wiped joins `absences`.

    Args:
        before: The one before.
        latest: A later event without a partition, if there is one. If it was wiped, it is an absence already.
        wiped_at_us: When the asset was wiped, microseconds since 1970.
        absences: Events that give nothing any more.
    """
    if latest is not None:
        is_wiped = wiped_at_us is not None and latest.at_us <= wiped_at_us
        file = None if is_wiped else latest.file
        return PublishedView(*rank(latest), latest.run_id, file) if isinstance(file, View) else None
    if before is None or wiped_at_us is None or before.at_us > wiped_at_us:
        return before
    absences.append(Absence(Materialization((), before.event_id, None, before.at_us, before.run_id, before.view), None))
    return None


def _readable(
    events: Iterable[Materialization], wiped_at_us: int | None, absences: list[Absence]
) -> dict[Layout, list[Written]]:
    """Group the events that give a file by its layout; the others join `absences`."""
    groups: dict[Layout, list[Written]] = {}
    for event in events:
        file = event.file
        if isinstance(file, Tombstone) or (wiped_at_us is not None and event.at_us <= wiped_at_us):
            absences.append(Absence(event, None))
        elif isinstance(file, EventRecordError):
            absences.append(Absence(event, file))
        elif isinstance(file, DataFiles):
            for one in file.files:
                groups.setdefault(one.layout, []).append(Written(event, one))
        elif isinstance(file, DataFile):
            groups.setdefault(file.layout, []).append(Written(event, file))
    return groups


def _supersede(segment: Segment, fresh: dict[str | None, Materialization], keys: pa.Array) -> Segment:
    gone = _superseded(segment.rows, fresh, keys, segment.dropped)
    return replace(segment, dropped=tuple(sorted({*segment.dropped, *gone}))) if gone else segment


def _superseded(
    rows: pa.Table, fresh: dict[str | None, Materialization], fresh_keys: pa.Array, dropped: Sequence[int] = ()
) -> list[int]:
    """Find the rows that fresh events replace; events that are not newer than their row are taken out of `fresh`.

    Args:
        rows: With `partition_key`, `event_id` and `materialized_at`.
        fresh: By partition key.
        fresh_keys: These keys, or more.
        dropped: Row numbers that do not count.
    """
    if not fresh:
        return []
    ignored = set(dropped)
    gone: list[int] = []
    for row, key, row_rank in find_partitions(rows, fresh_keys):
        if row in ignored or key not in fresh:
            continue
        if rank(fresh[key]) > row_rank:
            gone.append(row)
        else:
            del fresh[key]
    return gone


def _explained(absent: pa.Table, fresh: dict[str | None, Materialization], wiped_at_us: int | None) -> list[int]:
    """Find the refused partitions whose object was read again since, so that their event has a file now."""
    if not absent.num_rows:
        return []
    detail_of = {e.event_id: _detail(e.file) for e in fresh.values() if wiped_at_us is None or e.at_us > wiped_at_us}
    met = pc.indices_nonzero(pc.is_in(absent["event_id"], value_set=pa.array(detail_of, pa.int64()))).to_pylist()
    rows = absent.select(["event_id", "code"]).take(pa.array(met, pa.int64())).to_pylist()
    details = [_DETAILS.get(row["code"], _FILE) for row in rows]
    return [
        number for number, row, detail in zip(met, rows, details, strict=True) if detail_of[row["event_id"]] > detail
    ]


_DETAILS = {UndiscoverableError.code: _WHY}


def _wipe(segments: Sequence[Segment], wiped_at_us: int) -> tuple[list[Segment], list[pa.Table]]:
    """Drop the rows that a wipe removes, and return them as rows of `AssetState.absent`."""
    left, wiped = [], []
    at = moment(wiped_at_us)
    for segment in segments:
        hit = pc.indices_nonzero(pc.less_equal(segment.rows["materialized_at"], at)).to_pylist()
        gone = sorted(set(hit).difference(segment.dropped))
        rows = segment.rows.select(["event_id", "partition_key", "materialized_at"]).take(pa.array(gone, pa.int64()))
        no_reason = pa.nulls(len(gone), pa.string())
        wiped.append(rows.append_column("reason", no_reason).append_column("code", no_reason))
        left.append(replace(segment, dropped=tuple(sorted({*segment.dropped, *gone}))) if gone else segment)
    return left, wiped


def _without_reasons(absent: pa.Table, wiped_at_us: int) -> pa.Table:
    """Drop the reasons of refused events that were wiped after them."""
    is_wiped = pc.less_equal(absent["materialized_at"], moment(wiped_at_us))
    reasons = pc.if_else(is_wiped, pa.scalar(None, pa.string()), absent["reason"])
    return absent.set_column(absent.schema.get_field_index("reason"), "reason", reasons)


def _fold_consolidated(state: AssetState, events: Collection[Consolidation], wiped_at_us: int | None) -> pa.Table:
    """Return the next `AssetState.consolidated`; the state's own when nothing about it changes.

    What a wipe takes away was written before it, and so was what consolidations before it hold. Which of the row groups
    are of use depends on the files, and is decided when a table is scanned.

    Args:
        state: What was known before.
        events: New or repeated, in any order.
        wiped_at_us: When the asset was wiped, microseconds since 1970.
    """
    before = state.consolidated
    ids = set(pc.unique(before["event_id"]).to_pylist())
    fresh = {event.event_id: event for event in events if event.event_id not in ids}
    rows = before
    if fresh:
        rows = pa.concat_tables([before, consolidated_rows(fresh.values())])
    if wiped_at_us is not None and rows.num_rows:
        rows = rows.filter(pc.greater(rows["logged_at"], moment(wiped_at_us)))
    latest = sorted(pc.unique(rows["event_id"]).to_pylist())[-CONSOLIDATIONS:]
    if latest:
        rows = rows.filter(pc.greater_equal(rows["event_id"], latest[0]))
    if rows.num_rows == before.num_rows and not fresh:
        return before
    return rows.sort_by([("event_id", "ascending"), ("uri", "ascending"), ("offset", "ascending")]).combine_chunks()

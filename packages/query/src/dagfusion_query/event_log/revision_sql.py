"""The revisions of an asset: the SQL that both readers run, and what the events of each run come to."""

import json
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from dagfusion_contract.record import DataFile
from dagfusion_contract.tombstone import Tombstone
from dagfusion_query.event_log.event_log_interface import AssetKey, Materialization, Revision
from dagfusion_query.event_log.event_log_sql import MATERIALIZATION, Dialect, Run, read_wipes
from dagfusion_query.event_log.stored_event import DataFiles

_COUNTED_EVENTS = 100_000  # whose records are read for the rows of a list of revisions
_KNOWN_RUNS = 10_000


class _RunEvents(NamedTuple):
    """The materializations of one run of an asset, as the database counts them."""

    first: int
    last: int
    at_us: int
    first_us: int
    run_id: str
    partitions: int
    events: int


class _Contents(NamedTuple):
    """The rows that a run wrote, None where an event names none, and whether it only wiped partitions."""

    rows: int | None
    is_wipe: bool


_UNKNOWN = _Contents(None, is_wipe=False)


class KnownRuns:
    """A cache of what runs wrote, so that their events are read once. A run that writes again has other events."""

    def __init__(self) -> None:
        self._contents: OrderedDict[tuple[AssetKey, _RunEvents], _Contents] = OrderedDict()

    def get(self, asset_key: AssetKey, run: _RunEvents) -> _Contents | None:
        """Return what a run wrote; None if it is not known."""
        return self._contents.get((asset_key, run))

    def add(self, asset_key: AssetKey, run: _RunEvents, contents: _Contents) -> None:
        """Keep what a run wrote."""
        self._contents[asset_key, run] = contents
        while len(self._contents) > _KNOWN_RUNS:
            self._contents.popitem(last=False)


def find_revisions(
    run: Run,
    dialect: Dialect,
    asset_key: AssetKey,
    limit: int,
    read: Callable[[int, int], Iterable[Materialization]],
    *,
    known: KnownRuns,
) -> list[Revision]:
    """Return the latest revisions of an asset, newest first.

    Args:
        run: Runs a statement with named parameters, all in one transaction.
        dialect: The dialect of the database.
        asset_key: The asset's.
        limit: The most that are returned.
        read: Yields the asset's materializations from one id to another.
        known: What earlier calls read. What this one reads is added.
    """
    asset, most = dialect.parameter.format("asset"), dialect.parameter.format("most")
    statement = _RUNS.format(
        asset=asset,
        most=most,
        at=dialect.microseconds.format("e.timestamp"),
        first_at=dialect.microseconds.format("f.timestamp"),
    )
    runs = [_RunEvents(*row) for row in run(statement, {"asset": json.dumps(asset_key), "most": limit})]
    contents = dict.fromkeys(runs, _UNKNOWN)
    contents |= _contents_of_runs(asset_key, _counted(runs), read, known)
    made = [Revision(one.last, one.at_us, one.first_us, one.run_id, one.partitions, *contents[one]) for one in runs]
    wiped = (
        Revision(number, at_us, at_us, "", 0, 0, is_wipe=True) for number, at_us in read_wipes(run, dialect, asset_key)
    )
    return sorted([*made, *wiped], key=lambda revision: -revision.event_id)[:limit]


def _counted(runs: Sequence[_RunEvents]) -> list[_RunEvents]:
    """Return the latest runs, whose rows are counted."""
    events, counted = 0, []
    for one in runs:
        events += one.events
        if events > _COUNTED_EVENTS:
            break
        counted.append(one)
    return counted


def _contents_of_runs(
    asset_key: AssetKey,
    runs: Sequence[_RunEvents],
    read: Callable[[int, int], Iterable[Materialization]],
    known: KnownRuns,
) -> dict[_RunEvents, _Contents]:
    """Return what each run wrote, as far as its events could be read."""
    contents = {one: kept for one in runs if (kept := known.get(asset_key, one)) is not None}
    missing = {one.last: one for one in runs if one not in contents}
    events = read(min(one.first for one in missing.values()), max(missing)) if missing else ()
    of_missing = {_key(one.run_id, one.last) for one in missing.values()}
    for of_run in _by_run(event for event in events if _key(event.run_id, event.event_id) in of_missing):
        found = missing.get(max(event.event_id for event in of_run))
        # Runs overlap, and events may be deleted meanwhile: only all events of a run say what it wrote.
        if found is not None and found.events == len(of_run):
            contents[found] = _contents(of_run)
            known.add(asset_key, found, contents[found])
    return contents


def _by_run(events: Iterable[Materialization]) -> Iterable[list[Materialization]]:
    runs: dict[str | int, list[Materialization]] = {}
    for event in events:
        runs.setdefault(_key(event.run_id, event.event_id), []).append(event)
    return runs.values()


def _key(run_id: str, event_id: int) -> str | int:
    """Return what the events of one revision have in common."""
    return run_id or event_id


def _contents(events: Collection[Materialization]) -> _Contents:
    latest = {event.partition_key: event for event in sorted(events, key=lambda event: event.event_id)}
    rows = list(map(_rows, latest.values()))
    total = None if None in rows else sum(number for number in rows if number is not None)
    return _Contents(total, all(isinstance(event.file, Tombstone) for event in latest.values()))


def _rows(event: Materialization) -> int | None:
    if isinstance(event.file, Tombstone):
        return 0
    if isinstance(event.file, DataFiles):
        return sum(file.rows for file in event.file.files)
    return event.file.rows if isinstance(event.file, DataFile) else None


# An event outside of a run is a revision by itself. A run may have several events of one partition.
_RUNS = f"""
with runs as (
    select min(id) as first, max(id) as last, count(distinct coalesce(partition, '')) as partitions, count(*) as events
    from event_logs where asset_key = {{asset}} and dagster_event_type = '{MATERIALIZATION}'
    group by case when run_id = '' then cast(id as varchar(20)) else run_id end order by max(id) desc limit {{most}}
)
select first, last, {{at}}, {{first_at}}, e.run_id, partitions, events
from runs join event_logs e on e.id = last join event_logs f on f.id = first order by last desc
"""

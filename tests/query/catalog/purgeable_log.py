"""An event log in memory that is purged, set back and replaced, as PostgreSQL's may be."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import count

from dagfusion_client.errors import EventLogUnavailableError
from dagfusion_query.event_log.event_log_interface import (
    AssetKey,
    Cursor,
    Event,
    Evidence,
    Mark,
    Materialization,
    Poll,
    Watermark,
    Wipe,
)
from tests.query.catalog.following import PartialLog

_runs = count()


@dataclass
class Tables:
    """What the database holds.

    Attributes:
        last_id: Of its sequence.
        events: Those that were not purged.
        assets: Each with the number of its row, and when it was wiped.
    """

    last_id: int = 0
    events: list[Materialization] = field(default_factory=list)
    assets: dict[str, tuple[int, int | None]] = field(default_factory=dict)


class PurgeableLog(PartialLog):
    """An event log; `follow_rules` changes how its events are read. While it is `down`, only its identity is known."""

    def __init__(self) -> None:
        self.tables, self.database, self.now_us, self._rows = Tables(), 1, 0, count(1)
        self.rules, self.down = "", False
        self._read: Callable[[Materialization], Materialization] = _as_it_is

    def follow_rules(self, rules: str, read: Callable[[Materialization], Materialization]) -> None:
        self.rules, self._read = rules, read

    def add(self, event: Materialization) -> Materialization:
        """Log a materialization with the next id and moment, by a run of its own."""
        self.now_us += 10
        self.tables.last_id += 1
        added = event._replace(event_id=self.tables.last_id, at_us=self.now_us, run_id=f"run {next(_runs)}")
        self.tables.events.append(added)
        self.tables.assets.setdefault(_stored(event.asset_key), (next(self._rows), None))
        return added

    def wipe(self, asset_key: AssetKey) -> None:
        self.now_us += 10
        if (known := self.tables.assets.get(_stored(asset_key))) is not None:
            self.tables.assets[_stored(asset_key)] = (known[0], self.now_us)

    def remove(self, asset_key: AssetKey) -> None:
        self.tables.assets.pop(_stored(asset_key), None)
        self.tables.events = [event for event in self.tables.events if event.asset_key != asset_key]

    def purge(self, event_ids: set[int]) -> None:
        self.tables.events = [event for event in self.tables.events if event.event_id not in event_ids]

    def backup(self) -> Tables:
        return deepcopy(self.tables)

    def restore(self, tables: Tables) -> None:
        self.tables = deepcopy(tables)

    def replace(self) -> None:
        self.tables, self.database = Tables(), self.database + 1

    def identity(self) -> str:
        return f"{self.database}/1/1/{self.rules}"

    def read_all(self, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        self._fail()
        receive(self._wipes())
        latest = {(event.asset_key, event.partition_key): event for event in self._known()}
        receive([*latest.values()])
        return self._cursor()

    def poll(self, cursor: Cursor) -> Poll:
        self._fail()
        rows = {key: row for key, (row, _) in self.tables.assets.items()}
        full_read_reason = (
            None if all(rows.get(key) == row for key, row in cursor.rows.items()) else "assets were removed"
        )
        fresh = [event for event in self._known() if event.event_id > cursor.watermark.settled]
        ids, known = [event.event_id for event in fresh], cursor.watermark
        watermark = Watermark(max([known.settled, *ids]), known.count + len(ids), known.total + sum(ids))
        return Poll([*fresh, *self._wipes()], replace(self._cursor(), watermark=watermark), full_read_reason)

    def verify(self, cursor: Cursor) -> str | None:
        found = self._cursor(cursor.watermark.settled).watermark
        same = (found.count, found.total) == (cursor.watermark.count, cursor.watermark.total)
        return None if same else "events are gone"

    def evidence(self, event_ids: Sequence[int]) -> Evidence:
        wanted = {*event_ids}
        marks = {e.event_id: Mark(e.run_id, e.at_us) for e in self.tables.events if e.event_id in wanted}
        return Evidence(marks, self.tables.last_id)

    def close(self) -> None:
        """Do nothing: another catalog may read it."""

    def _known(self) -> list[Materialization]:
        return [self._read(event) for event in self.tables.events if _stored(event.asset_key) in self.tables.assets]

    def _fail(self) -> None:
        if self.down:
            raise EventLogUnavailableError("the event log is down")

    def _wipes(self) -> list[Wipe]:
        return [Wipe(_key(key), at) for key, (_, at) in self.tables.assets.items() if at is not None]

    def _cursor(self, up_to: int | None = None) -> Cursor:
        highest = max((event.event_id for event in self.tables.events), default=0)
        settled = highest if up_to is None else up_to
        ids = [event.event_id for event in self.tables.events if event.event_id <= settled]
        assets = {key: at for key, (_, at) in self.tables.assets.items()}
        rows = {key: row for key, (row, _) in self.tables.assets.items()}
        return Cursor(Watermark(settled, len(ids), sum(ids)), assets, rows=rows)


def _as_it_is(event: Materialization) -> Materialization:
    return event


def _stored(asset_key: AssetKey) -> str:
    return '["' + '", "'.join(asset_key) + '"]'


def _key(stored: str) -> AssetKey:
    return tuple(stored[2:-2].split('", "'))

"""Dagster's event log in a plain DAGSTER_HOME: the SQLite file that gathers the asset events of all runs.

SQLite has one writer at a time, so ids become visible in order. But a wipe or a deleted run removes rows, and later
rows may get their ids again. So each poll compares the latest event that was read, and `verify` compares the number and
the sum of all ids.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from dagfusion_client.as_of import AsOf
from dagfusion_client.errors import EventLogSchemaError, EventLogUnavailableError
from dagfusion_query.event_log.event_log_interface import (
    BATCH,
    CONSOLIDATIONS_AT_ONCE,
    AssetKey,
    Consolidation,
    Cursor,
    Event,
    Evidence,
    FilelessAssets,
    History,
    Mark,
    Materialization,
    Moment,
    Poll,
    Revision,
    Watermark,
    Wipe,
    parse_asset_key,
)
from dagfusion_query.event_log.event_log_sql import (
    Dialect,
    Run,
    consolidations,
    find_moment,
    find_wipe,
    observations_since,
    read_history,
)
from dagfusion_query.event_log.revision_sql import KnownRuns, find_revisions
from dagfusion_query.event_log.stored_event import EventReader

T = TypeVar("T")

_BUSY_TIMEOUT_S = 10
_IS_MATERIALIZATION = "dagster_event_type = 'ASSET_MATERIALIZATION'"
# SQLAlchemy stores a timestamp as text with six digits of fraction.
_MICROSECONDS = "(strftime('%s', substr({0}, 1, 19)) * 1000000 + substr({0} || '000000', 21, 6))"

_ASSETS = f"select asset_key, {_MICROSECONDS.format('wipe_timestamp')} from asset_keys"
_MARK = f"select run_id, {_MICROSECONDS.format('timestamp')} from event_logs where id = ?"
_PURGED = f"""
select asset_key from asset_keys a where last_materialization is not null and names_file(last_materialization)
    and not exists (select 1 from event_logs e where e.asset_key = a.asset_key and e.{_IS_MATERIALIZATION})
order by 1
"""
_FINGERPRINT = f"select count(*), coalesce(sum(id), 0) from event_logs where id <= ? and {_IS_MATERIALIZATION}"
_HIGHEST = f"select coalesce(max(id), 0) from event_logs where {_IS_MATERIALIZATION}"
_TOP = "select run_id || ' ' || timestamp from event_logs where id = ?"
_COLUMNS = f"e.id, e.asset_key, e.partition, {_MICROSECONDS.format('e.timestamp')}, e.run_id, e.event"
_SINCE = f"""
select {_COLUMNS} from event_logs e
where e.id > ? and e.{_IS_MATERIALIZATION} and e.asset_key is not null order by e.id
"""
_LATEST = f"""
with latest as (
    select max(id) id from event_logs where asset_key is not null and {_IS_MATERIALIZATION}
    group by asset_key, partition
)
select {_COLUMNS} from latest join event_logs e using (id)
"""
_LATEST_UP_TO = f"""
with latest as (
    select max(id) id from event_logs where asset_key = ? and {_IS_MATERIALIZATION} and id <= ? group by partition
)
select {_COLUMNS} from latest join event_logs e using (id)
"""
_BETWEEN = f"""
select {_COLUMNS} from event_logs e where e.asset_key = ? and e.{_IS_MATERIALIZATION} and e.id between ? and ?
"""
_CONSOLIDATIONS = consolidations(_MICROSECONDS, "instr", "id > 0")
_OBSERVED = observations_since("?")
_CONSOLIDATION = consolidations(_MICROSECONDS, "instr", "id = ?")
# Ordered by the index, so that only the events that are taken are read.
_EARLIER = f"""
select {_COLUMNS} from event_logs e
where e.asset_key = ? and e.{_IS_MATERIALIZATION} and e.partition is ? and e.id < ? and e.id > ?
    and names_file(e.event)
order by e.id desc
"""
_DIALECT = Dialect(_MICROSECONDS, "instr", ":{}", "", "runs.")


class SqliteEventLog:
    """An `EventLog` over the SQLite file of a DAGSTER_HOME, opened read-only.

    Args:
        path: The file, `history/runs/index.db` in a DAGSTER_HOME.
        records: Reads what events say was written.
    """

    keeps_ids = False

    def __init__(self, path: Path, records: EventReader | None = None) -> None:
        self._path = path.absolute()
        self._records = records or EventReader()
        self._fileless = FilelessAssets()
        self._known = KnownRuns()
        self._observed: frozenset[int] = frozenset()  # above the cursor, and looked at
        naming = re.compile(self._records.naming)
        self._names_file = lambda event: naming.search(event) is not None

    def identity(self) -> str:
        """Return the file's path and number, and how records are read."""
        return self._read(lambda _: f"{self._path}:{self._path.stat().st_ino}:{self._records.rules}")

    def read_all(self, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        """Pass on all current events; see `EventLog.read_all`."""
        return self._read(lambda connection: self._read_all(connection, receive))

    def poll(self, cursor: Cursor) -> Poll:
        """Return what is new; see `EventLog.poll`."""
        return self._read(lambda connection: self._poll(connection, cursor))

    def verify(self, cursor: Cursor) -> str | None:
        """Compare number, sum and latest of the ids; see `EventLog.verify`."""
        return self._read(lambda connection: _verify(connection, cursor))

    def evidence(self, event_ids: Sequence[int]) -> Evidence:
        """Return what the event log has under these ids, and the highest id; see `EventLog.evidence`."""

        def read(connection: sqlite3.Connection) -> Evidence:
            found = {event_id: connection.execute(_MARK, (event_id,)).fetchone() for event_id in event_ids}
            marks = {event_id: Mark(*mark) for event_id, mark in found.items() if mark is not None}
            return Evidence(marks, connection.execute(_HIGHEST).fetchone()[0])

        return self._read(read)

    def purged_assets(self) -> list[AssetKey]:
        """Return the assets whose materializations are gone; see `EventLog.purged_assets`."""
        return self._read(lambda connection: [parse_asset_key(key) for (key,) in connection.execute(_PURGED)])

    def history(self, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Return what was done about a table or a partition; see `EventLog.history`."""
        return self._read(lambda connection: self._history(connection, asset_key, partition_key))

    def moment(self, as_of: AsOf) -> Moment:
        """Return the state that an event id or a time stands for; see `EventLog.moment`."""
        return self._read(lambda connection: find_moment(_run(connection), _DIALECT, as_of))

    def past(self, asset_key: AssetKey, moment: Moment, receive: Callable[[Sequence[Event]], None]) -> None:
        """Pass on the events of an asset at a moment; see `EventLog.past`."""
        self._read(lambda connection: self._past(connection, asset_key, moment, receive))

    def revisions(self, asset_key: AssetKey, limit: int) -> list[Revision]:
        """Return what the latest runs wrote of an asset; see `EventLog.revisions`."""
        key = json.dumps(asset_key)

        def read(connection: sqlite3.Connection) -> list[Revision]:
            def between(first: int, last: int) -> Iterator[Materialization]:
                return map(self._materialization, connection.execute(_BETWEEN, (key, first, last)))

            return find_revisions(_run(connection), _DIALECT, asset_key, limit, between, known=self._known)

        return self._read(read)

    def close(self) -> None:
        """Do nothing: the file is opened for each call, since it may be replaced in between."""

    def _read_all(self, connection: sqlite3.Connection, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        assets = dict(connection.execute(_ASSETS).fetchall())
        receive([Wipe(parse_asset_key(key), at_us) for key, at_us in assets.items() if at_us is not None])
        fileless = self._fileless
        if _evidence(connection, fileless.up_to) != fileless.evidence:
            fileless = FilelessAssets()
        named: set[str] = set()
        rows = connection.execute(_LATEST)
        while batch := rows.fetchmany(BATCH):
            events = [(row[1], self._materialization(row)) for row in batch if row[1] in assets]
            receive([event for _, event in events])
            bare = [(key, event) for key, event in events if event.file is None]
            before = [(key, self._before(connection, key, event, fileless.above(key))) for key, event in bare]
            receive([event for _, event in before if event is not None])
            named.update(key for key, event in events if event.file is not None)
            named.update(key for key, event in before if event is not None)
        found = map(self._consolidation, connection.execute(_CONSOLIDATIONS))
        while some := list(islice(found, CONSOLIDATIONS_AT_ONCE)):
            receive([event for event in some if event.objects])
        cursor = _cursor(connection, assets)
        up_to = cursor.watermark.settled
        self._fileless = FilelessAssets(up_to, _evidence(connection, up_to), frozenset(assets.keys() - named))
        return cursor

    def _before(
        self, connection: sqlite3.Connection, key: str, bare: Materialization, above: int
    ) -> Materialization | None:
        """Return the latest event of a partition that names a file, before one that names none, above an id."""
        rows = connection.execute(_EARLIER, (key, bare.partition_key, bare.event_id, above))
        return next((event for event in map(self._materialization, rows) if event.file is not None), None)

    def _past(
        self,
        connection: sqlite3.Connection,
        asset_key: AssetKey,
        moment: Moment,
        receive: Callable[[Sequence[Event]], None],
    ) -> None:
        wiped_at_us = find_wipe(_run(connection), _DIALECT, asset_key, moment, keeps_wiped=False)
        if wiped_at_us is not None:
            receive([Wipe(asset_key, wiped_at_us)])
        key = json.dumps(asset_key)
        rows = connection.execute(_LATEST_UP_TO, (key, moment.event_id))
        while batch := rows.fetchmany(BATCH):
            events = list(map(self._materialization, batch))
            receive(events)
            before = (self._before(connection, key, event, 0) for event in events if event.file is None)
            receive([event for event in before if event is not None])

    def _poll(self, connection: sqlite3.Connection, cursor: Cursor) -> Poll:
        assets = dict(connection.execute(_ASSETS).fetchall())
        if {key: assets.get(key) for key in cursor.assets} != cursor.assets:
            return Poll([], cursor, "an asset was wiped or removed, and its rows with it")
        if _top(connection, cursor.watermark.settled) != cursor.top:
            return Poll([], cursor, f"event {cursor.watermark.settled} is not the one that was read under this id")
        events = [self._materialization(row) for row in connection.execute(_SINCE, (cursor.watermark.settled,))]
        large = self._consolidations(connection, cursor.watermark.settled)
        if not events and assets == cursor.assets:
            return Poll(large, cursor)
        return Poll([*events, *large], _cursor(connection, assets))

    def _consolidations(self, connection: sqlite3.Connection, since: int) -> list[Consolidation]:
        """Return the consolidations above an id that were not looked at yet."""
        ids = frozenset(event_id for (event_id,) in connection.execute(_OBSERVED, (since,)))
        fresh, self._observed = ids - self._observed, ids
        rows = (row for event_id in sorted(fresh) for row in connection.execute(_CONSOLIDATION, (event_id,)))
        return [event for event in map(self._consolidation, rows) if event.objects]

    def _history(self, connection: sqlite3.Connection, asset_key: Sequence[str], key: str | None) -> History:
        connection.execute("commit")  # nothing can be attached inside a transaction
        connection.execute("attach ? as runs", (_read_only(self._path.parents[1] / "runs.db"),))
        return read_history(_run(connection), _DIALECT, asset_key, key)

    def _materialization(self, row: tuple[Any, ...]) -> Materialization:
        event_id, key, partition_key, at_us, run_id, event = row
        file = self._records.from_event(event)
        return Materialization(parse_asset_key(key), event_id, partition_key, at_us, run_id, file)

    def _consolidation(self, row: tuple[Any, ...]) -> Consolidation:
        event_id, key, at_us, run_id, event = row
        return Consolidation(parse_asset_key(key), event_id, at_us, run_id, self._records.from_observation(event))

    def _read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with closing(self._open()) as connection:
                connection.create_function("names_file", 1, self._names_file, deterministic=True)
                connection.execute("begin")  # one moment for all statements
                return operation(connection)
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "no such column" in str(error):
                raise EventLogSchemaError(f"{self._path} is not an event log of Dagster's: {error}") from error
            raise EventLogUnavailableError(f"the event log {self._path} cannot be read: {error}") from error
        except sqlite3.DatabaseError as error:
            raise EventLogSchemaError(f"{self._path} is not an SQLite file that can be read: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if not self._path.is_file():
            raise EventLogUnavailableError(
                f"there is no event log at {self._path} yet: materialize an asset, or check DAGSTER_HOME"
            )
        return sqlite3.connect(
            _read_only(self._path), uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )


def _run(connection: sqlite3.Connection) -> Run:
    return lambda query, params: connection.execute(query, params).fetchall()


def _read_only(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=ro"


def _cursor(connection: sqlite3.Connection, assets: Mapping[str, int | None]) -> Cursor:
    highest = connection.execute(_HIGHEST).fetchone()[0]
    count, total = connection.execute(_FINGERPRINT, (highest,)).fetchone()
    return Cursor(Watermark(highest, count, total), assets, verified=True, top=_top(connection, highest))


def _top(connection: sqlite3.Connection, event_id: int) -> str | None:
    row = connection.execute(_TOP, (event_id,)).fetchone()
    return None if row is None else str(row[0])


def _evidence(connection: sqlite3.Connection, up_to: int) -> Sequence[Any]:
    return *connection.execute(_FINGERPRINT, (up_to,)).fetchone(), _top(connection, up_to)


def _verify(connection: sqlite3.Connection, cursor: Cursor) -> str | None:
    count, total = connection.execute(_FINGERPRINT, (cursor.watermark.settled,)).fetchone()
    same = (count, total) == (cursor.watermark.count, cursor.watermark.total)
    if same and _top(connection, cursor.watermark.settled) == cursor.top:
        return None
    return f"{cursor.watermark.count} events were read up to id {cursor.watermark.settled}, now there are {count}"

"""Reads Dagster's event log in PostgreSQL. A call is one transaction, so all its statements read the same state."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from dagfusion_client.as_of import AsOf
from dagfusion_query.event_log import postgres_sql as sql
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
    Materialization,
    Moment,
    Poll,
    Revision,
    Watermark,
    Wipe,
    parse_asset_key,
)
from dagfusion_query.event_log.event_log_sql import LAST_EVENT, Dialect, find_moment, find_wipe, read_history
from dagfusion_query.event_log.postgres_connection import Database, DatabaseFacts, Transaction, read_database_facts
from dagfusion_query.event_log.revision_sql import KnownRuns, find_revisions
from dagfusion_query.event_log.secret_url import SecretUrl
from dagfusion_query.event_log.stored_event import EventReader

_OVERLAP = 100_000  # ids below a full read's highest that the first polls look at again
_WINDOW_GROWTH = 32
_POLL_TIMEOUT_S = 30
_HISTORY_TIMEOUT_S = 5
_FULL_READ_TIMEOUT_S = 600

_BEFORE_EVERYTHING = -(1 << 62)
_DIALECT = Dialect(sql.MICROSECONDS, "strpos", "%({})s", 'collate "C"', "")


class PostgresEventLog:
    """An `EventLog` over PostgreSQL.

    Args:
        conninfo: A libpq connection string or URL, without a dialect; or the secret that has it.
        clock: A monotonic clock, seconds.
        records: Reads what events say was written.

    Raises:
        EventLogLocationError: `conninfo` is not one.
    """

    keeps_ids = True

    def __init__(
        self,
        conninfo: str | SecretUrl,
        clock: Callable[[], float] = time.monotonic,
        records: EventReader | None = None,
    ) -> None:
        self._database = Database(conninfo)
        self._clock = clock
        self._records = records or EventReader()
        self._keys: dict[str, AssetKey] = {}
        self._fileless = FilelessAssets()
        self._known = KnownRuns()
        self._observed: frozenset[int] = frozenset()  # above the cursor, and looked at

    def identity(self) -> str:
        """Return the database cluster's, the database's and the table's own numbers, and how records are read."""
        return self._database.run(
            lambda run: "/".join(map(str, (*run(sql.IDENTITY)[0], self._records.rules))), _POLL_TIMEOUT_S
        )

    def read_all(self, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        """Pass on all current events; see `EventLog.read_all`."""
        self.identity()  # a stale connection is found and replaced here, before anything was handed over
        return self._database.run(lambda run: self._read_all(run, receive), _FULL_READ_TIMEOUT_S, retry=False)

    def poll(self, cursor: Cursor) -> Poll:
        """Return what is new; see `EventLog.poll`."""
        return self._database.run(lambda run: self._poll(run, cursor), _POLL_TIMEOUT_S)

    def verify(self, cursor: Cursor) -> str | None:
        """Compare number and sum of the settled ids; see `EventLog.verify`."""
        return self._database.run(lambda run: self._verify(run, cursor), _FULL_READ_TIMEOUT_S)

    def evidence(self, event_ids: Sequence[int]) -> Evidence:
        """Return what the event log has under these ids, and the highest id; see `EventLog.evidence`."""
        return self._database.run(lambda run: sql.read_evidence(run, event_ids), _POLL_TIMEOUT_S)

    def purged_assets(self) -> list[AssetKey]:
        """Return the assets whose materializations are gone; see `EventLog.purged_assets`."""
        return self._database.run(lambda run: sql.read_purged_assets(run, self._records.naming), _POLL_TIMEOUT_S)

    def history(self, asset_key: Sequence[str], partition_key: str | None) -> History:
        """Return what was done about a table or a partition; see `EventLog.history`."""
        return self._database.run(lambda run: read_history(run, _DIALECT, asset_key, partition_key), _HISTORY_TIMEOUT_S)

    def moment(self, as_of: AsOf) -> Moment:
        """Return the state that an event id or a time stands for; see `EventLog.moment`."""
        return self._database.run(lambda run: find_moment(run, _DIALECT, as_of), _POLL_TIMEOUT_S)

    def past(self, asset_key: AssetKey, moment: Moment, receive: Callable[[Sequence[Event]], None]) -> None:
        """Pass on the events of an asset at a moment; see `EventLog.past`."""

        def read(run: Transaction) -> None:
            wiped_at_us = find_wipe(run, _DIALECT, asset_key, moment, keeps_wiped=True)
            self._read_asset(run, json.dumps(asset_key), wiped_at_us, receive, up_to=moment.event_id)

        self._database.run(read, _FULL_READ_TIMEOUT_S, retry=False)

    def revisions(self, asset_key: AssetKey, limit: int) -> list[Revision]:
        """Return what the latest runs wrote of an asset; see `EventLog.revisions`."""

        def read(run: Transaction) -> list[Revision]:
            def between(first: int, last: int) -> Iterator[Materialization]:
                params = {"key": json.dumps(asset_key), "first": first, "last": last}
                return self._materializations(run, sql.BETWEEN, params)

            return find_revisions(run, _DIALECT, asset_key, limit, between, known=self._known)

        return self._database.run(read, _POLL_TIMEOUT_S)

    def facts(self) -> DatabaseFacts:
        """Return what `dagfusion doctor` checks of the database.

        Raises:
            EventLogError: The database cannot be read.
        """
        return self._database.run(read_database_facts, _POLL_TIMEOUT_S)

    def close(self) -> None:
        """Close the connection, and end a read that is in progress in another thread."""
        self._database.close()

    def _read_all(self, run: Transaction, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        now = self._clock()
        highest = run(sql.HIGHEST)[0][0]
        settled = max(0, highest - _OVERLAP)
        _, xmax, visible = run(sql.VISIBLE, (settled,))[0]
        count, total = run(sql.FINGERPRINT, (settled,))[0]
        start = Watermark(settled, count, total)
        watermark = start.advance(visible, 0, xmax, now).watermark
        assets, numbers = _assets(run)
        fileless = self._fileless
        if _evidence(run, fileless.up_to) != fileless.evidence:
            fileless = FilelessAssets()
        named = {
            key
            for key, wiped in assets.items()
            if self._read_asset(run, key, wiped, receive, above=fileless.above(key))
        }
        found = self._consolidations(run.stream(sql.CONSOLIDATIONS, ()))
        while some := list(islice(found, CONSOLIDATIONS_AT_ONCE)):
            receive(some)
        self._fileless = FilelessAssets(highest, _evidence(run, highest), frozenset(assets.keys() - named))
        return Cursor(watermark, assets, rows=numbers)

    def _read_asset(
        self,
        run: Transaction,
        key: str,
        wiped_at_us: int | None,
        receive: Callable[[Sequence[Event]], None],
        *,
        above: int = 0,
        up_to: int = LAST_EVENT,
    ) -> bool:
        """Pass on the current events of an asset, and return True if one names a file.

        Args:
            run: Runs statements.
            key: The asset.
            wiped_at_us: When it was wiped.
            receive: Takes the events.
            above: The id above which an event may name a file.
            up_to: The id of the last event that counts.
        """
        if wiped_at_us is not None:
            receive([Wipe(self._asset_key(key), wiped_at_us)])
        params = {"key": key, "wiped": _BEFORE_EVERYTHING if wiped_at_us is None else wiped_at_us, "up_to": up_to}
        run(sql.NO_SPILL)
        queries = [(sql.LATEST_PARTITIONED, sql.EARLIER_PARTITIONED)]
        if run(sql.HAS_UNPARTITIONED, params)[0][0]:
            queries.append((sql.LATEST_UNPARTITIONED, sql.EARLIER_UNPARTITIONED))
        names_file = False
        for latest, earlier in queries:
            bare: dict[str | None, int] = {}
            for batch in _batches(self._materializations(run, latest, params)):
                receive(batch)
                without = {event.partition_key: event.event_id for event in batch if event.file is None}
                names_file |= len(without) < len(batch)
                bare |= {partition: event_id for partition, event_id in without.items() if event_id > above}
            for batch in _batches(self._before(run, earlier, key, bare, above)):
                receive(batch)
                names_file = True
        return names_file

    def _before(
        self, run: Transaction, query: str, key: str, bare: Mapping[str | None, int], above: int
    ) -> Iterator[Materialization]:
        """Yield the latest event that names a file of each partition whose latest event names none.

        Args:
            run: Runs statements.
            query: One of `sql.EARLIER`.
            key: The asset.
            bare: By partition, the event that names none. Further back is looked in steps that grow, so that few events
                are looked at where a file is near, and few statements are run where there is none.
            above: The id above which an event may name a file.
        """
        window = 1
        while bare:
            params = {"key": key, "naming": self._records.naming, "window": window, "above": above}
            params |= {"partitions": [*bare], "ids": [*bare.values()]}
            found = run(query, params)
            bare = {partition: lowest for partition, named, lowest, count in found if not named and count == window}
            ids = [named for _, named, _, _ in found if named]
            for start in range(0, len(ids), BATCH):
                for event in self._materializations(run, sql.BY_ID, (ids[start : start + BATCH],)):
                    if event.file is None:  # the text only looked as if it named one
                        bare[event.partition_key] = event.event_id
                    else:
                        yield event
            window *= _WINDOW_GROWTH

    def _poll(self, run: Transaction, cursor: Cursor) -> Poll:
        xmin, xmax, visible = run(sql.VISIBLE, (cursor.watermark.settled,))[0]
        advance = cursor.watermark.advance(visible, xmin, xmax, self._clock())
        fresh, watermark = advance.fresh, advance.watermark
        events: list[Event] = []
        for start in range(0, len(fresh), BATCH):
            events += self._materializations(run, sql.BY_ID, (fresh[start : start + BATCH],))
        assets, numbers = _assets(run)
        for key, wiped_at_us in assets.items():
            if key not in cursor.assets:  # its row comes in a transaction of its own, after its first event's
                self._read_asset(run, key, wiped_at_us, events.extend)
            elif wiped_at_us is not None and wiped_at_us != cursor.assets[key]:
                events.append(Wipe(self._asset_key(key), wiped_at_us))
        events += self._observations(run, cursor.watermark.settled)
        settled = watermark.settled != cursor.watermark.settled or not watermark.pending
        moved = Cursor(watermark, assets, verified=cursor.verified or settled, rows=numbers)
        full_read_reason = None
        if gone := sorted(cursor.assets.keys() - assets.keys()):
            full_read_reason = f"Dagster no longer knows the assets {', '.join(gone)}"
        elif anew := sorted(key for key, row in cursor.rows.items() if numbers.get(key) != row):
            full_read_reason = f"Dagster removed the assets {', '.join(anew)}, and has them again"
        elif advance.gone:
            full_read_reason = f"events were deleted, among them {advance.gone[0]}"
        elif moved.verified and not cursor.verified:
            full_read_reason = self._verify(run, moved)
        return Poll(events, moved, full_read_reason)

    def _observations(self, run: Transaction, since: int) -> Iterator[Consolidation]:
        """Yield the consolidations above an id that were not looked at yet.

        All ids up to the watermark are visible. One that is missed above it costs speed until the next full read.
        """
        ids = frozenset(event_id for (event_id,) in run(sql.OBSERVED, (since,)))
        fresh, self._observed = ids - self._observed, ids
        if fresh:
            yield from self._consolidations(run.stream(sql.CONSOLIDATIONS_BY_ID, (sorted(fresh),)))

    def _consolidations(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[Consolidation]:
        for event_id, key, at_us, run_id, event in rows:
            if objects := self._records.from_observation(event):
                yield Consolidation(self._asset_key(key), event_id, at_us, run_id, objects)

    def _verify(self, run: Transaction, cursor: Cursor) -> str | None:
        count, total = run(sql.FINGERPRINT, (cursor.watermark.settled,))[0]
        if (count, total) == (cursor.watermark.count, cursor.watermark.total):
            return None
        return f"{cursor.watermark.count} events were read up to id {cursor.watermark.settled}, now there are {count}"

    def _materializations(self, run: Transaction, query: str, params: Any) -> Iterator[Materialization]:
        not_cut = []
        for event_id, key, partition_key, at_us, run_id, record, event in run.stream(query, params):
            try:
                file = self._records.from_event(event) if record is None else self._records.from_cut(record)
            except ValueError:
                not_cut.append(event_id)
                continue
            yield Materialization(self._asset_key(key), event_id, partition_key, at_us, run_id, file)
        for start in range(0, len(not_cut), BATCH):
            yield from self._materializations(run, sql.WHOLE_BY_ID, (not_cut[start : start + BATCH],))

    def _asset_key(self, key: str) -> AssetKey:
        if key not in self._keys:
            self._keys[key] = parse_asset_key(key)
        return self._keys[key]


def _assets(run: Transaction) -> tuple[dict[str, int | None], dict[str, int]]:
    """Return when each asset was wiped, and the number of its row."""
    found = run(sql.ASSETS)
    return {key: wiped for key, wiped, _ in found}, {key: number for key, _, number in found}


def _evidence(run: Transaction, up_to: int) -> Sequence[Any]:
    return run(sql.EVIDENCE, {"up_to": up_to})[0]


def _batches(events: Iterator[Materialization]) -> Iterator[list[Materialization]]:
    while batch := list(islice(events, BATCH)):
        yield batch

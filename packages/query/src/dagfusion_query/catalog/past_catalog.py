"""The catalog as of past events: tables that are folded from the event log up to an event, and kept for later use."""

import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from dagfusion_client.as_of import AsOf
from dagfusion_client.errors import AsOfError, NameCollisionError, SnapshotError, UnknownPastError, UnknownTableError
from dagfusion_client.returned_values import TableDiff, TableGeneration
from dagfusion_contract.naming import TableName, table_name
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.model import Snapshot, Table, layouts_of, readable
from dagfusion_query.catalog.past_tables import KEPT_FILES, PastKey, PastTable, PastTables, as_past
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.catalog.table_history import compare, table_revision
from dagfusion_query.event_log.event_log_interface import (
    AssetKey,
    Cursor,
    Event,
    EventLog,
    Materialization,
    Moment,
    Watermark,
)
from dagfusion_query.event_log.stored_event import Foreign

_MOST_TABLES = 200  # of one statement
_KEPT_MOMENTS = 256
_LATE_S = 60.0  # that an event may be logged after its time, so that a time may stand for a later event at first
T = TypeVar("T")


class PastCatalog:
    """The tables of one environment as of past events. Thread-safe.

    Args:
        live: The current catalog.
        open_log: Opens a reader of the same event log.
        in_files: Whether snapshots are written to files, for other processes to map them.
    """

    def __init__(self, live: LiveCatalog, open_log: Callable[[], EventLog], *, in_files: bool = False) -> None:
        self._live, self._open_log = live, open_log
        self._reading, self._lock = threading.Lock(), threading.Lock()
        self._log: EventLog | None = None
        self._moments: OrderedDict[tuple[AsOf, int], Moment] = OrderedDict()
        self._tables = PastTables()
        self._in_files = in_files

    def moment(self, as_of: AsOf) -> Moment:
        """Return the state that an event id or a time stands for.

        Raises:
            AsOfError: The event or time is in the future.
            EventLogError: The event log cannot be read.
        """
        key = (as_of, self._live.lag().full_reads)
        with self._lock:
            if (cached := self._moments.get(key)) is not None:
                self._moments.move_to_end(key)
                return cached
        found = self._read(lambda log: log.moment(as_of))
        late = time.time() - found.at_us / 1e6 > _LATE_S
        if late if as_of.event_id is None else as_of.event_id <= self._live.settled:
            with self._lock:
                self._moments[key] = found
                while len(self._moments) > _KEPT_MOMENTS:
                    self._moments.popitem(last=False)
        return found

    @contextmanager
    def tables(
        self,
        moment: Moment,
        names: Collection[TableName] | None,
        allow: Callable[[TableName], bool] = lambda _: True,
    ) -> Iterator[list[PastTable]]:
        """Yield tables as of a moment, and what views among them read; their folders are kept until the block ends.

        Args:
            moment: The state.
            names: The tables and views, which come first; None for all, without those whose past is not known. Other
                names are ignored.
            allow: Returns True for tables that may be read; others are ignored, and views that read others.

        Raises:
            UnknownTableError: A table was not there yet.
            UnknownPastError: The event log does not have what a table held.
            NameCollisionError: Two assets had a table of one name.
            AsOfError: The statement names too many tables.
            EventLogError: The event log cannot be read.
        """
        found: list[PastTable] = []
        seen: set[TableName] = set()
        try:
            claims = self._claims(names, allow)
            while claims:
                for name, keys in claims.items():
                    try:
                        found += self._claimed(name, keys, moment)
                    except (UnknownTableError, UnknownPastError, NameCollisionError):
                        if names is not None and allow(name):
                            raise
                seen |= claims.keys()
                wanted = seen | _read_by_views(found)
                claims = {name: keys for name, keys in self._claims(wanted, allow).items() if name not in seen}
            may_read = readable({past.table.name: past.table for past in found}, allow)
            for past in found:
                if names is not None and past.table.name not in may_read:
                    _check_view(past, {other.table.name for other in found}, allow)
            yield [past for past in found if past.table.name in may_read]
        finally:
            self._tables.unpin(found)

    def _claims(
        self, names: Collection[TableName] | None, allow: Callable[[TableName], bool]
    ) -> dict[TableName, list[AssetKey]]:
        """Return the assets that may have a table of each name."""
        current = self._live.current()
        claims: dict[TableName, list[AssetKey]] = {}
        for key in self.assets(names, allow):
            claims.setdefault(table_name(current.environment, key), []).append(key)
        files = sum(len(current.tables[name].files) for name in claims if name in current.tables)
        if len(claims) > _MOST_TABLES or files > KEPT_FILES:
            raise AsOfError(
                f"this statement would read {len(claims):,} tables of {files:,} files as of the past, and may read "
                f"{_MOST_TABLES} tables of {KEPT_FILES:,} files: name fewer tables"
            )
        return claims

    def _claimed(self, name: TableName, keys: Sequence[AssetKey], moment: Moment) -> list[PastTable]:
        """Return the table of a name, pinned."""
        made: list[PastTable] = []
        missing: UnknownTableError | None = None
        try:
            for key in keys:
                try:
                    made.append(self._pinned(key, moment))
                except UnknownTableError as error:
                    missing = error
        except BaseException:
            self._tables.unpin(made)
            raise
        if len(made) > 1:
            self._tables.unpin(made)
            raise NameCollisionError(
                f"table {name} was claimed by the assets {' and '.join(str(list(key)) for key in keys)} as of "
                f"{moment.words}: their keys are the same in snake case"
            )
        if not made and missing is not None:
            raise missing
        return made

    def asset(self, name: TableName) -> AssetKey | None:
        """Return the asset of a table, also of one that was wiped; None if there is none.

        Raises:
            NameCollisionError: Two assets have tables of this name.
        """
        found = self.assets([name])
        if len(found) > 1:
            raise NameCollisionError(
                f"table {name} is claimed by the assets {' and '.join(str(list(key)) for key in found)}: "
                "their keys are the same in snake case; rename one of them"
            )
        return found[0] if found else None

    def revisions(self, asset_key: AssetKey, limit: int) -> list[TableGeneration]:
        """Return what the latest runs wrote of an asset, and its wipes; newest first.

        Raises:
            EventLogError: The event log cannot be read.
        """
        return [table_revision(found) for found in self._read(lambda log: log.revisions(asset_key, limit))]

    def diff(self, asset_key: AssetKey, before: AsOf, after: AsOf | None) -> TableDiff:
        """Compare two states of an asset; the second is the current one if it is None.

        Raises:
            AsOfError: One is in the future.
            UnknownPastError: The event log does not have what the asset held.
            EventLogError: The event log cannot be read.
        """
        name = table_name(self._live.current().environment, asset_key)
        now = AsOf(at_us=time.time_ns() // 1000)
        (then, first), (last, second) = (self._state(asset_key, as_of) for as_of in (before, after or now))
        return compare(str(name), first, second, (then.event_id, last.event_id))

    def _state(self, asset_key: AssetKey, as_of: AsOf) -> tuple[Moment, Table | None]:
        moment = self.moment(as_of)
        try:
            past = self._pinned(asset_key, moment)
        except UnknownTableError:
            return moment, None
        try:
            if past.table.view is not None:
                raise UnknownPastError(
                    f"{past.table.name} was a view as of {moment.words}: compare the tables that it reads"
                )
            if past.table.problem is not None:
                raise past.table.problem
            return moment, past.table
        finally:
            self._tables.unpin([past])

    def assets(
        self, names: Collection[TableName] | None, allow: Callable[[TableName], bool] = lambda _: True
    ) -> list[AssetKey]:
        """Return the assets of tables and views that may be read, also of those that were wiped; see `tables`."""
        snapshot = self._live.current()
        name_of = {key: table_name(snapshot.environment, key) for key in snapshot.asset_states}
        requested = [(key, name) for key, name in sorted(name_of.items()) if names is None or name in names]
        may_read = readable(snapshot.tables, allow)  # views by the rights of their tables
        return [key for key, name in requested if name in may_read or allow(name)]

    def close(self) -> None:
        """Close the event log and remove the files."""
        with self._lock:
            log, self._log = self._log, None
        if log is not None:
            log.close()
        self._tables.close()

    def _pinned(self, asset_key: AssetKey, moment: Moment) -> PastTable:
        """Return a table whose folder stays until its pin is given back."""
        key = PastKey(asset_key, moment.event_id, self._live.lag().full_reads)
        is_settled = moment.event_id <= self._live.settled
        return self._tables.pinned(key, lambda: self._made(asset_key, moment), is_final=is_settled)

    def _made(self, asset_key: AssetKey, moment: Moment) -> PastTable:
        environment = self._live.current().environment
        snapshot = self._folded(environment, asset_key, moment)
        name = table_name(environment, asset_key)
        table = snapshot.tables.get(name)
        if table is None:
            raise UnknownTableError(
                f"there was no table {name} as of {moment.words}: nothing had been materialized, or it was wiped"
            )
        layouts = layouts_of(table, snapshot.asset_states[asset_key])
        if not self._in_files:
            return PastTable(table, moment, layouts)
        folder = self._tables.new_folder()
        try:
            saved = SnapshotStore(folder).save(snapshot, Cursor(Watermark(), {}), "")
        except SnapshotError:
            shutil.rmtree(folder, ignore_errors=True)  # on a full disk, what was written would keep it full
            raise
        return PastTable(as_past(saved).tables[name], moment, layouts, folder)

    def _folded(self, environment: str, asset_key: AssetKey, moment: Moment) -> Snapshot:
        """Return a snapshot that has only one table, or none."""
        snapshot = Snapshot(0, environment)

        def receive(events: Sequence[Event]) -> None:
            nonlocal snapshot
            if any(isinstance(event, Materialization) and isinstance(event.file, Foreign) for event in events):
                raise UnknownPastError(
                    f"table {table_name(environment, asset_key)} has no past: its objects were written by another IO "
                    "manager, so that only its current objects are known"
                )
            snapshot = fold(snapshot, events)

        self._read(lambda log: log.past(asset_key, moment, receive))
        return as_past(replace(snapshot, generation=moment.event_id))

    def _read(self, step: Callable[[EventLog], T]) -> T:
        with self._reading:
            if self._log is None:
                self._log = self._open_log()
            return step(self._log)


def _check_view(past: PastTable, found: Collection[TableName], allow: Callable[[TableName], bool]) -> None:
    """Raise UnknownTableError for a view that reads tables without a past, unless the caller may not know of them."""
    reads = () if past.table.view is None else past.table.view.view.tables
    missing = [name for name in reads if name not in found]
    if missing and all(map(allow, missing)):
        raise UnknownTableError(
            f"view {past.table.name} cannot be read as of {past.moment.words}: the event log has nothing of the table "
            f"{missing[0]} that it reads"
        )


def _read_by_views(tables: Sequence[PastTable]) -> set[TableName]:
    """Return what the views among some tables read."""
    return {name for past in tables if past.table.view is not None for name in past.table.view.view.tables}

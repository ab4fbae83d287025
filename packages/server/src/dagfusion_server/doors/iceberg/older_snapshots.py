"""The older snapshots of tables that the Iceberg door offers, found from the latest revisions in the event log."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from dagfusion_client.errors import QueryError
from dagfusion_client.returned_values import TableGeneration
from dagfusion_contract.naming import TableName
from dagfusion_interop.iceberg.iceberg_schema import iceberg_schema
from dagfusion_interop.iceberg.past_states import NewerObjects, PastState
from dagfusion_interop.iceberg.publisher import Published, Publisher
from dagfusion_interop.iceberg.scan_plan import TableSnapshot
from dagfusion_interop.iceberg.table_metadata import WrittenSnapshot, fitting
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_server.doors.iceberg.visible_tables import EVERYTHING
from dagfusion_server.service.service import Service

_log = logging.getLogger(__name__)

_OLDER = 10  # snapshots of a table
_OLDER_FILES = 1_000_000  # in all of them
_PATIENCE_S = 1.0
_FINDING = 1  # tables at a time: others ask for histories, too
_RETRY_S = 10.0  # after an error
_TABLE_SNAPSHOTS = 4  # snapshots of which scans were planned last
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


@dataclass
class _Found:
    """The result of a search for the older snapshots of a table.

    Attributes:
        current: The version of the table.
        published: The version with its older snapshots.
        older: The states that are offered, the oldest first.
        events: The event of each state, by the id of its snapshot.
        tables: The tables that the search has read, by the ids of their snapshots; empty after the search.
        until_s: The end of the result's validity, in seconds since 1970.
        problem: The error because of which the search may have missed snapshots.
    """

    current: Published
    published: Published
    older: list[PastState] = field(default_factory=list)
    events: dict[int, int] = field(default_factory=dict)
    tables: dict[int, Table] = field(default_factory=dict)
    until_s: float = float("inf")
    problem: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Keep an error, so that the search is repeated soon."""
        unforeseen = None if isinstance(error, QueryError) else error
        name = self.current.table.name
        _log.warning("older snapshots of table %s cannot be read: %s", name, error, exc_info=unforeseen)
        self.problem = error
        self.until_s = min(self.until_s, time.time() + _RETRY_S)


class OlderSnapshots:
    """Finds the older snapshots of tables from their latest revisions in the event log.

    A revision is left out if its objects may be gone or overwritten: a later run began to write the table more than
    `kept_hours` ago, the table was wiped since, or a later run wrote objects with the same names.

    Args:
        service: Reads histories and past tables.
        kept_hours: How long replaced objects are kept, in hours.
    """

    def __init__(self, service: Service, kept_hours: float) -> None:
        self._service, self._kept_s = service, kept_hours * 3600
        self._found: dict[TableName, _Found] = {}
        self._finding: dict[TableName, asyncio.Task[_Found]] = {}
        self._places = asyncio.Semaphore(_FINDING)
        self._table_snapshots: OrderedDict[tuple[TableName, int], TableSnapshot] = OrderedDict()
        self._generations: dict[str, int] = {}  # of the catalogs, by environment

    async def with_them(self, current: Published, publisher: Publisher) -> Published:
        """Return the metadata of a table with its older snapshots, or without them if the search takes too long.

        The search then continues in the background, for the next request.

        Args:
            current: The table without them.
            publisher: Writes them.
        """
        if (known := self._known(current)) is not None:
            return known.published
        task = self._search(current, publisher)
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE_S)
        found = task.result().published if done else current
        return found if found.table is current.table else current

    async def find(self, publisher: Publisher, current: Published, snapshot_id: int) -> TableSnapshot | None:
        """Return an older snapshot of a table for plans of its scans; None if the table does not offer it.

        Args:
            publisher: Writes the table's snapshots.
            current: The table without them.
            snapshot_id: The id.

        Raises:
            QueryError: The older snapshots cannot be read now.
        """
        found = self._known(current)
        while found is None or found.current is not current:  # a search for another version may be in progress
            task = self._search(current, publisher)
            await asyncio.wait({task})
            found = task.result()
        written = next((one for one in found.published.older if one.version.snapshot_id == snapshot_id), None)
        if written is None:
            if found.problem is not None:
                raise found.problem.with_traceback(None)  # each request would add to it
            return None
        name = current.table.name
        if (name, snapshot_id) not in self._table_snapshots:
            past = await self._service.past_table(name, found.events[snapshot_id], EVERYTHING)
            if not await asyncio.to_thread(written.is_of, past.table):  # events were deleted since
                return None
            schema = await asyncio.to_thread(iceberg_schema, past.table, past.layouts)
            self._table_snapshots[name, snapshot_id] = TableSnapshot(snapshot_id, schema, past.table)
        self._table_snapshots.move_to_end((name, snapshot_id))
        kept = self._table_snapshots[name, snapshot_id]
        while len(self._table_snapshots) > _TABLE_SNAPSHOTS:
            self._table_snapshots.popitem(last=False)
        return kept

    def forget_dropped(self, environment: str, snapshot: Snapshot) -> None:
        """Forget the older snapshots of the tables of an environment that are not in its catalog.

        An older generation than that of another call changes nothing, as in `Publisher.forget_dropped`.

        Args:
            environment: Its name.
            snapshot: Its catalog.
        """
        if snapshot.generation < self._generations.get(environment, 0):
            return
        self._generations[environment] = snapshot.generation

        def is_dropped(table: Table) -> bool:
            return table.environment == environment and table.name not in snapshot.tables

        for name in [name for name, found in self._found.items() if is_dropped(found.current.table)]:
            del self._found[name]
        for key in [key for key, one in self._table_snapshots.items() if is_dropped(one.table)]:
            del self._table_snapshots[key]

    def _known(self, current: Published) -> "_Found | None":
        found = self._found.get(current.table.name)
        return found if found is not None and found.current is current and time.time() < found.until_s else None

    def _search(self, current: Published, publisher: Publisher) -> "asyncio.Task[_Found]":
        """Return the search for a table's older snapshots that is in progress, or begin one."""
        name = current.table.name
        if (task := self._finding.get(name)) is None:
            task = self._finding[name] = asyncio.create_task(self._find(current, publisher))
            task.add_done_callback(lambda _: self._finding.pop(name, None))
        return task

    async def _find(self, current: Published, publisher: Publisher) -> "_Found":
        found = _Found(current, current)
        try:
            async with self._places:
                await self._add_offered(found, publisher)
                snapshots = await self._with_parents(found, publisher)
            found.published = await asyncio.to_thread(publisher.with_older, current, snapshots)
        except Exception as error:  # noqa: BLE001  # the current snapshot is served, whatever it is
            found.fail(error)
        finally:
            found.tables.clear()
        self._found[current.table.name] = found
        return found

    async def _add_offered(self, found: "_Found", publisher: Publisher) -> None:
        """Add the offered snapshots; after an error those that were found before it."""
        try:
            async for state, event_id, kept_until_s in self._replaced(found, publisher):
                found.older.insert(0, state)
                found.events[state.written.version.snapshot_id] = event_id
                found.until_s = min(found.until_s, kept_until_s)
        except QueryError as error:
            found.fail(error)

    async def _with_parents(self, found: "_Found", publisher: Publisher) -> list[WrittenSnapshot]:
        """Return the snapshots that one document can have, the oldest first, each with the one before it as parent."""
        own = found.current.snapshot
        fit = len(await asyncio.to_thread(fitting, own, [state.written for state in found.older]))
        states = found.older[len(found.older) - fit :]
        snapshots = [*(state.written for state in states), own]
        for number, parent in enumerate(states, 1):
            try:
                snapshots[number] = await self._child(found, publisher, parent, snapshots[number])
            except QueryError as error:
                found.fail(error)
        return snapshots

    async def _child(
        self, found: "_Found", publisher: Publisher, parent: PastState, snapshot: WrittenSnapshot
    ) -> WrittenSnapshot:
        """Return a snapshot with its parent, or without a parent if its changes cannot be determined."""
        name, snapshot_id = found.current.table.name, snapshot.version.snapshot_id
        written = await asyncio.to_thread(publisher.child, name, parent, snapshot)
        if written is not None or snapshot.large_folder is not None:
            return written or snapshot
        table = await self._table(found, publisher, snapshot_id)
        if not await asyncio.to_thread(snapshot.is_of, table):
            return snapshot
        return await asyncio.to_thread(publisher.publish_child, parent, snapshot, table)

    async def _table(self, found: "_Found", publisher: Publisher, snapshot_id: int) -> Table:
        """Return the table as of a snapshot."""
        name, recent = found.current.table.name, publisher.recent(found.current.table.name, snapshot_id)
        if snapshot_id == found.current.snapshot_id:
            return found.current.table
        if recent is not None:
            return recent.table
        if snapshot_id in found.tables:
            return found.tables[snapshot_id]
        return (await self._service.past_table(name, found.events[snapshot_id], EVERYTHING)).table

    async def _replaced(self, offered: "_Found", publisher: Publisher) -> AsyncIterator[tuple[PastState, int, float]]:
        """Yield older states, the newest first, each with its event and the time until which its objects are kept."""
        current, table = offered.current, offered.current.table
        most = min(_OLDER, _OLDER_FILES // max(1, len(table.files)))
        found = await self._service.revisions(table.name, most + 1, EVERYTHING)
        newer = NewerObjects(table)
        first_at = datetime.max.replace(tzinfo=UTC)
        for later, one in pairwise(found):
            # Runs overlap: a newer one may have replaced objects before the latest event of the next one.
            first_at = min(first_at, later.first_at)
            until_s = max(first_at, one.at).timestamp() + self._kept_s
            if later.is_wipe or one.is_wipe or until_s < time.time():
                return
            if one.event_id >= current.snapshot.version.sequence:
                continue
            state = await self._state(offered, one, publisher, newer)
            if state is None:
                return
            yield state, one.event_id, until_s

    async def _state(
        self, found: "_Found", one: TableGeneration, publisher: Publisher, newer: NewerObjects
    ) -> PastState | None:
        """Return the state after a revision; None if its objects may have been replaced, or Iceberg cannot have it."""
        name = found.current.table.name
        written = await asyncio.to_thread(publisher.past, name, one.event_id, (one.at - _EPOCH) // _MS)
        if written is not None:
            return written if await asyncio.to_thread(newer.add_if_unchanged, written) else None
        past = await self._service.past_table(name, one.event_id, EVERYTHING)
        if past.table.problem is not None or not await asyncio.to_thread(newer.add_if_unchanged, past.table):
            return None
        state = await asyncio.to_thread(publisher.publish_past, past.table, past.layouts)
        if state is not None:
            found.tables[state.written.version.snapshot_id] = past.table
        return state

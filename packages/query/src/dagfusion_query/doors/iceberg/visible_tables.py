"""The namespaces, tables and older snapshots that a caller sees through the Iceberg door. Names are those of SQL."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import cast

from dagfusion_contract.naming import TableName
from dagfusion_query.access.authentication import ANONYMOUS
from dagfusion_query.access.grants import ALL, Caller, restricted
from dagfusion_query.catalog.environments import EnvironmentState
from dagfusion_query.catalog.model import PublishedView, Table
from dagfusion_query.errors import QueryError
from dagfusion_query.iceberg.past_states import NewerObjects, PastState
from dagfusion_query.iceberg.publisher import Published, Publisher
from dagfusion_query.iceberg.table_metadata import WrittenSnapshot
from dagfusion_query.returned_values import TableGeneration
from dagfusion_query.service.service import Service

_log = logging.getLogger(__name__)

_OLDER = 10  # snapshots of a table
_OLDER_FILES = 1_000_000  # in all of them
_PATIENCE_S = 1.0
_FINDING = 1  # tables at a time: others ask for histories, too
_RETRY_S = 10.0  # after an error
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
# A caller's own view has no asset states, and the layouts of files are in them.
_EVERYTHING = Caller(ANONYMOUS, ALL, "http")


class MissingError(QueryError, http=404):
    """The catalog has no such thing that the caller may see.

    Attributes:
        kind: The protocol's type of the error, such as `NoSuchTableException`.
    """

    def __init__(self, text: str, kind: str = "NotFoundException") -> None:
        super().__init__(text)
        self.kind = kind


class VisibleTables:
    """Looks tables up.

    Args:
        service: Has the catalogs.
        environments: The names of those that the door serves.
    """

    def __init__(self, service: Service, environments: Sequence[str]) -> None:
        self._service, self._environments = service, environments

    def namespaces(self, caller: Caller) -> list[str]:
        """Return all namespaces with a table or view that the caller may read."""
        return sorted({name.schema for name, _ in self._all(caller)})

    def tables(self, caller: Caller, namespace: str) -> list[str]:
        """Return the tables of a namespace.

        Raises:
            QueryError: As `check_namespace`.
        """
        self.check_namespace(caller, namespace)
        return sorted(name.table for name, table in self._all(caller) if name.schema == namespace and not table.view)

    def views(self, caller: Caller, namespace: str) -> list[str]:
        """Return the views of a namespace.

        Raises:
            QueryError: As `check_namespace`.
        """
        self.check_namespace(caller, namespace)
        return sorted(name.table for name, table in self._all(caller) if name.schema == namespace and table.view)

    def check_namespace(self, caller: Caller, namespace: str) -> None:
        """Check that there is a namespace.

        Raises:
            MissingError: The namespace has no table or view that the caller may read.
            QueryError: Its environment cannot be read now.
        """
        if not any(name.schema == namespace for name, _ in self._all(caller)):
            self._check_environment(caller, namespace)
            raise MissingError(f"there is no namespace {namespace[:200]}", "NoSuchNamespaceException")

    def find(self, caller: Caller, namespace: str, table: str) -> tuple[EnvironmentState, Table]:
        """Return a table.

        Raises:
            MissingError: There is none that the caller may read.
            QueryError: The table has an error, or its environment cannot be read now.
        """
        return self._find(caller, TableName(namespace, table), "table")

    def find_view(self, caller: Caller, namespace: str, view: str) -> tuple[EnvironmentState, Table, PublishedView]:
        """Return a view; raises as `find`."""
        state, found = self._find(caller, TableName(namespace, view), "view")
        return state, found, cast("PublishedView", found.view)

    def _find(self, caller: Caller, name: TableName, kind: str) -> tuple[EnvironmentState, Table]:
        for state in self._states(caller):
            found = state.snapshot.tables.get(name)
            if found is not None and found.view is not None:  # the rights of views are those of their tables
                found = restricted(state.snapshot, caller.grants, state.name).tables.get(name)
            elif not caller.grants.allow(state.name, name):
                continue
            elif (problem := state.snapshot.problems.get(name)) is not None:
                raise problem
            if found is not None and (found.view is not None) == (kind == "view"):
                if found.problem is not None:
                    raise found.problem
                return state, found
        self._check_environment(caller, name.schema)
        raise MissingError(f"there is no {kind} {str(name)[:200]}", f"NoSuch{kind.title()}Exception")

    def _all(self, caller: Caller) -> Iterator[tuple[TableName, Table]]:
        """Yield tables and views without an error: engines that load all that is listed stop at the first error."""
        for state in self._states(caller):
            for name, table in restricted(state.snapshot, caller.grants, state.name).tables.items():
                if table.problem is None:
                    yield name, table

    def _states(self, caller: Caller) -> Iterator[EnvironmentState]:
        for name, state in self._service.environments(_EVERYTHING).items():
            if name in self._environments and caller.grants.allow_environment(name):
                yield state

    def _check_environment(self, caller: Caller, namespace: str) -> None:
        for state in self._states(caller):
            if state.problem is not None and namespace.startswith(f"{state.name}_"):
                raise state.problem


class OlderSnapshots:
    """The older snapshots of tables: what the event log says of their latest revisions.

    A revision is left out if its objects may be gone or overwritten: a later run began to write the table more than
    `kept_hours` ago, the table was wiped since, or a later run wrote objects with the same names.

    Args:
        service: Knows the past.
        kept_hours: How long replaced objects are kept.
    """

    def __init__(self, service: Service, kept_hours: float) -> None:
        self._service, self._kept_s = service, kept_hours * 3600
        self._versions: dict[TableName, tuple[Published, float, Published]] = {}
        self._finding: dict[TableName, asyncio.Task[Published]] = {}
        self._places = asyncio.Semaphore(_FINDING)

    async def with_them(self, current: Published, publisher: Publisher) -> Published:
        """Return the metadata of a table with its older snapshots, or without where finding them takes long.

        They are found in the background then, for the next time.

        Args:
            current: The table without them.
            publisher: Writes them.
        """
        name = current.table.name
        cached = self._versions.get(name)
        if cached is not None and cached[0] is current and time.time() < cached[1]:
            return cached[2]
        task = self._finding.get(name)
        if task is None:
            task = self._finding[name] = asyncio.create_task(self._find(current, publisher))
            task.add_done_callback(lambda _: self._finding.pop(name, None))
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE_S)
        found = task.result() if done else current
        return found if found.snapshot is current.snapshot else current

    async def _find(self, current: Published, publisher: Publisher) -> Published:
        found, until_s = current, time.time() + _RETRY_S
        try:
            async with self._places:
                older, kept_until_s = await self._offered(current, publisher)
            found, until_s = await asyncio.to_thread(publisher.with_older, current, older), kept_until_s
        except Exception as error:  # noqa: BLE001  # the current snapshot is served, whatever it is
            _warn(current, error)
        self._versions[current.table.name] = (current, until_s, found)
        return found

    async def _offered(self, current: Published, publisher: Publisher) -> tuple[list[WrittenSnapshot], float]:
        """Return older snapshots, the oldest first, and until when they hold; after an error those that were found."""
        older: list[WrittenSnapshot] = []
        until_s = float("inf")
        try:
            async for one, kept_until_s in self._replaced(current, publisher):
                older.insert(0, one)
                until_s = min(until_s, kept_until_s)
        except QueryError as error:
            _warn(current, error)
            until_s = min(until_s, time.time() + _RETRY_S)
        return older, until_s

    async def _replaced(self, current: Published, publisher: Publisher) -> AsyncIterator[tuple[WrittenSnapshot, float]]:
        """Yield older snapshots, the newest first, and until when their objects are kept."""
        table = current.table
        most = min(_OLDER, _OLDER_FILES // max(1, len(table.files)))
        found = await self._service.revisions(table.name, most + 1, _EVERYTHING)
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
            state = await self._state(current, one, publisher, newer)
            if state is None:
                return
            yield state.written, until_s

    async def _state(
        self, current: Published, one: TableGeneration, publisher: Publisher, newer: NewerObjects
    ) -> PastState | None:
        """Return the state after a revision; None if its objects may be others now, or it is no table of Iceberg."""
        name = current.table.name
        written = publisher.past(name, one.event_id, (one.at - _EPOCH) // _MS)
        if written is not None:
            return written if await asyncio.to_thread(newer.take, written) else None
        past = await self._service.past_table(name, one.event_id, _EVERYTHING)
        if past.table.problem is not None or not await asyncio.to_thread(newer.take, past.table):
            return None
        return await asyncio.to_thread(publisher.publish_past, past.table, past.layouts)


def _warn(current: Published, error: Exception) -> None:
    unforeseen = None if isinstance(error, QueryError) else error
    _log.warning("older snapshots of table %s cannot be read: %s", current.table.name, error, exc_info=unforeseen)

"""Finds the past tables of statements, on threads of its own, and keeps their snapshots while they are needed."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from dagfusion_client.as_of import AsOf
from dagfusion_client.errors import ServiceUnavailableError, TooBusyError, UnknownTableError
from dagfusion_client.returned_values import TableDiff, TableGeneration
from dagfusion_client.sql_text import mentioned_tables
from dagfusion_contract.naming import TableName
from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.past_tables import PastTable
from dagfusion_server.environments import Environments
from dagfusion_server.worker.messages import PastSource

T = TypeVar("T")
_THREADS = 4  # a database that is slow must not take all threads of the process
_HISTORY_THREADS = 2
_HISTORIES = 32  # at once


@dataclass(frozen=True)
class FoundPast:
    """Past tables, whose snapshots stay until `close`.

    Attributes:
        tables: Each with its environment.
        pins: What keeps the snapshots.
    """

    tables: list[tuple[str, PastTable]]
    pins: ExitStack

    @property
    def sources(self) -> list[PastSource]:
        """The folder in which workers find the tables."""
        return [
            PastSource(environment=name, folder=str(past.folder), event_id=past.moment.event_id)
            for name, past in self.tables
        ]

    def close(self) -> None:
        """Release the snapshots."""
        self.pins.close()


class PastFinder:
    """Finds past tables.

    Args:
        environments: The catalogs.
    """

    def __init__(self, environments: Environments) -> None:
        self._environments = environments
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="dagfusion-past")
        self._history = ThreadPoolExecutor(_HISTORY_THREADS, thread_name_prefix="dagfusion-history")
        self._is_closed = False
        self._histories = 0  # that are being read; only the event loop's thread counts them

    async def find(self, sql: str, as_of: AsOf, grants: Grants) -> FoundPast:
        """Return the tables that a statement may be about, as of the past.

        Raises:
            QueryError: They cannot be read; see `Environments.past`.
        """
        work = self._submitted(self._pool, lambda: self._find(sql, as_of, grants))
        try:
            return await self._result(work)
        except asyncio.CancelledError:
            work.add_done_callback(_release)
            raise

    async def revisions(self, name: TableName, limit: int, grants: Grants) -> Sequence[TableGeneration]:
        """Return what the latest runs wrote of a table; see `Environments.revisions`."""
        return await self._run(lambda: self._environments.revisions(name, limit, grants.allow))

    async def diff(self, name: TableName, before: AsOf, after: AsOf | None, grants: Grants) -> TableDiff:
        """Compare two states of a table; see `Environments.diff`."""
        return await self._run(lambda: self._environments.diff(name, before, after, grants.allow))

    async def table(self, name: TableName, event_id: int, grants: Grants) -> PastTable:
        """Return one table as of an event. Its snapshot may be removed; what is mapped of it stays.

        Raises:
            UnknownTableError: There was none, or its asset is gone.
            QueryError: As `Environments.past`.
        """

        def find() -> PastTable:
            with self._environments.past(AsOf(event_id), [name], grants.allow) as found:
                for _, past in found:
                    if past.table.name == name:  # tables that views read are there, too
                        return past
            raise UnknownTableError(f"there was no table {name} as of event {event_id}")

        return await self._run(find)

    async def _run(self, step: Callable[[], T]) -> T:
        """Run a step for a history, on threads that statements do not need.

        Raises:
            TooBusyError: Many wait already.
        """
        if self._histories >= _HISTORIES:
            raise TooBusyError(f"{_HISTORIES} requests for the history of tables are in progress: try again later")
        self._histories += 1
        try:
            return await self._result(self._submitted(self._history, step))
        finally:
            self._histories -= 1

    def _submitted(self, pool: ThreadPoolExecutor, step: Callable[[], T]) -> "Future[T]":
        """Start a step.

        Raises:
            ServiceUnavailableError: The threads have ended.
        """
        if self._is_closed:
            raise _stopping()
        return pool.submit(step)

    async def _result(self, work: "Future[T]") -> T:
        """Wait for a step.

        Raises:
            ServiceUnavailableError: The threads ended before it began.
        """
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise _stopping() from None
            raise

    def close(self) -> None:
        """End the threads, on the thread of the event loop."""
        self._is_closed = True
        for pool in (self._pool, self._history):
            pool.shutdown(wait=False, cancel_futures=True)

    def _find(self, sql: str, as_of: AsOf, grants: Grants) -> FoundPast:
        with ExitStack() as pins:
            tables = pins.enter_context(self._environments.past(as_of, mentioned_tables(sql), grants.allow))
            return FoundPast(tables, pins.pop_all())


def _stopping() -> ServiceUnavailableError:
    return ServiceUnavailableError("the service is stopping")


def _release(work: "Future[FoundPast]") -> None:
    if not work.cancelled() and work.exception() is None:
        work.result().close()

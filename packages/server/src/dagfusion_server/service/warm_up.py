"""Warm-up: the new objects of tables that are often queried are fetched into local copies before a query needs them.

One worker fetches them for all, while no query waits for it: there is one worker more than queries can run.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence

import pyarrow.compute as pc

from dagfusion_client.documents.query_documents import QueryInfo, State
from dagfusion_client.errors import QueryCancelledError, QueryError, QueryTimeoutError
from dagfusion_client.sql_text import parse_table
from dagfusion_contract.naming import TableName
from dagfusion_interop.spark import SPARK
from dagfusion_query.access.grants import ALL
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.grant_names import EVERYTHING
from dagfusion_query.object_cache import CACHE
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_server.environments import Environments
from dagfusion_server.service.query_registry import sources
from dagfusion_server.service.worker_handle import Handle, NeverStarted
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import Fetched, Kind, Mode, NewObjects, Statement

_log = logging.getLogger(__name__)

_LOOK_S = 0.5
_LIMIT_S = 300.0  # of one table
_RECENT_S = 3600.0
_TABLES = 10_000  # that are remembered
_LOGGED = 1_000  # texts that are remembered


class QueriedTables:
    """The tables that queries read, and when.

    Args:
        least: Queries within the last hour from which on a table is queried often.
        clock: A monotonic clock, seconds.
    """

    def __init__(self, least: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._least, self._clock = least, clock
        self._times: dict[str, deque[float]] = {}  # of the last queries; the table that was read last is last

    def record(self, info: QueryInfo) -> None:
        """Remember the tables of a query that is over, if a worker used their current objects, or a result of them."""
        stats = info.stats
        if info.state is not State.finished or info.as_of or stats.path == SPARK:
            return
        if not (stats.files_read or stats.path == CACHE):
            return
        for table in {scan.table for scan in stats.scans if scan.files_read}:
            times = self._times.pop(table, None) or deque(maxlen=self._least)
            times.append(self._clock())
            self._times[table] = times
        while len(self._times) > _TABLES:
            del self._times[next(iter(self._times))]

    def frequent(self) -> list[str]:
        """Return the tables that are queried often."""
        since = self._clock() - _RECENT_S
        return [table for table, times in self._times.items() if len(times) == self._least and times[0] >= since]


class Budget:
    """The bytes that may be fetched within an hour, of all tables together.

    Args:
        limit_bytes: The bytes.
        clock: A monotonic clock, seconds.
    """

    def __init__(self, limit_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._left, self._clock = limit_bytes, clock
        self._spent: deque[tuple[float, int]] = deque()  # when, and how much

    def spend(self, fetched_bytes: int) -> None:
        """Record what was fetched."""
        self._left -= fetched_bytes
        self._spent.append((self._clock(), fetched_bytes))

    def left(self) -> int:
        """Return the bytes that may be fetched now; below 0 if an object had to be fetched twice."""
        while self._spent and self._spent[0][0] < self._clock() - _RECENT_S:
            self._left += self._spent.popleft()[1]
        return self._left


class WarmUp:
    """Has the new objects of tables fetched. All on one event loop.

    Args:
        queried: The tables that are queried often.
        budget: The bytes that may be fetched.
        environments: The catalogs.
        pool: The workers.
        fetched: Called with requests that were made.
    """

    def __init__(
        self,
        queried: QueriedTables,
        budget: Budget,
        environments: Environments,
        pool: Pool,
        fetched: Callable[[TableFetch], None],
    ) -> None:
        self._queried, self._budget, self._fetched = queried, budget, fetched
        self._environments, self._pool = environments, pool
        self._seen: dict[str, Snapshot] = {}  # by environment
        self._waiting: dict[str, int] = {}  # tables with new objects, and the last event before those
        self._logged: set[str] = set()  # about objects that were skipped

    async def follow(self) -> None:
        """Fetch what becomes new, until this is cancelled."""
        while True:
            try:
                await self.step()
            except Exception:  # noqa: BLE001  # the next look may be right
                _log.exception("new objects were not fetched by a fault of this program")
            await asyncio.sleep(_LOOK_S)

    async def step(self) -> None:
        """Fetch what is new now."""
        await self._look()
        await self._fetch_waiting()

    async def _look(self) -> None:
        """Find the tables with new objects."""
        states = self._environments.states()
        current = {name: state.snapshot for name, state in states.items() if state.problem is None}
        pairs = [(self._seen[name], snapshot) for name, snapshot in current.items() if name in self._seen]
        changed = [(before, after) for before, after in pairs if before.generation < after.generation]
        self._seen |= current  # the first one is what there was before the start
        if changed and (queried := self._queried.frequent()):
            for table, after_event in await asyncio.to_thread(_with_new_objects, queried, changed):
                self._waiting.setdefault(table, after_event)

    async def _fetch_waiting(self) -> None:
        while self._waiting:
            if (left_bytes := self._budget.left()) <= 0:
                self._waiting.clear()  # queries fetch those, and the next hour is for what is new then
                return
            worker = self._pool.lease_spare(QueryCancelledError("a query waits for the worker"))
            if worker is None:  # after the queries that wait
                return
            table = next(iter(self._waiting))
            wanted = NewObjects(table=table, after_event=self._waiting.pop(table), limit_bytes=left_bytes)
            if not await self._fetch(worker, wanted):
                self._waiting[table] = wanted.after_event  # later, when other tables had their turn
                return

    async def _fetch(self, worker: Handle, wanted: NewObjects) -> bool:
        """Fetch new objects on a worker; return False if a query needs it before the end."""
        statement = Statement(
            id=secrets.token_hex(16),
            mode=Mode.fetch,
            sql="",
            environments=sources(self._environments, ALL),
            grants=[EVERYTHING],
            limit_rows=0,
            limit_bytes=0,
            new_objects=wanted,
        )
        timeout = QueryTimeoutError(f"it took longer than {_LIMIT_S:g} s")
        timer = asyncio.get_running_loop().call_later(_LIMIT_S, worker.stop, timeout)
        coming_bytes = 0
        try:
            await worker.begin(statement, b"")
            while (message := await worker.next()).kind is not Kind.end:
                fetched = message.read(Fetched)
                coming_bytes = fetched.coming_bytes
                self._count(fetched)
        except QueryCancelledError:
            return False
        except (QueryError, NeverStarted) as error:  # queries fetch what is missing, and say what is wrong
            _log.warning("new objects of %s were not fetched: %s", wanted.table, str(error) or "the worker died")
        except asyncio.CancelledError:
            worker.stop(QueryCancelledError("the service is stopping"))
            raise
        finally:
            timer.cancel()
            self._budget.spend(coming_bytes)  # of a worker that died, which may have fetched them
        return True

    def _count(self, fetched: Fetched) -> None:
        for fetch in fetched.fetches:
            self._budget.spend(fetch.bytes)
            self._fetched(fetch)
        for text in fetched.skipped:
            if text not in self._logged:
                _log.warning("a new object was not fetched: %s", text)
        self._logged = self._logged.union(fetched.skipped) if len(self._logged) < _LOGGED else {*fetched.skipped}


def _with_new_objects(tables: Sequence[str], changed: Sequence[tuple[Snapshot, Snapshot]]) -> list[tuple[str, int]]:
    """Return the tables that a later snapshot has new objects of, each with the last event before those."""
    return [
        (table, last)
        for table in tables
        for before, after in changed
        if _last_event(after, parse_table(table)) > (last := _last_event(before, parse_table(table)))
    ]


def _last_event(snapshot: Snapshot, name: TableName) -> int:
    """Return the last event of a table's files; 0 for no table."""
    table = snapshot.tables.get(name)
    return 0 if table is None else pc.max(table.files["event_id"]).as_py() or 0

"""A service with real workers over Parquet files on local disk, and its catalog as another process would leave it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import pyarrow as pa
import pytest

from dagfusion_client.documents.query_documents import QueryInfo
from dagfusion_client.errors import QueryError
from dagfusion_client.formats import Format
from dagfusion_query.access.grants import ALL, Caller
from dagfusion_query.catalog.live_catalog import Lag
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.event_log.event_log_interface import Cursor, History, Watermark
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_query.settings import Settings
from dagfusion_server.environments import Environments, EnvironmentState
from dagfusion_server.service.query_registry import Query
from dagfusion_server.service.running_query import ActiveQuery
from dagfusion_server.service.service import Service
from tests.query.engine.conftest import Lake
from tests.waiting import PATIENCE_S

T = TypeVar("T")
CURSOR = Cursor(Watermark(0, 0, 0), {})
LAG = Lag(age_s=0.25, last_error=None, full_reads=1, undiscovered=3)
ANN = Caller("ann", ALL, "http")


class PublishedCatalogs:
    """Catalogs that change when a test says so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._states: dict[str, EnvironmentState] = {}
        self.on_refresh: Callable[[], None] = lambda: None
        self.on_history: Callable[[str, Sequence[str], str | None], History] = lambda *_: History([], None, None)

    def publish(self, snapshot: Snapshot) -> None:
        """Write a generation, as the catalog of an environment does."""
        name = snapshot.environment
        folder = self.root / "state" / name
        saved = SnapshotStore(folder).save(snapshot, CURSOR, "log")
        self._states[name] = EnvironmentState(name, saved, folder, None, LAG, None)

    def break_down(self, name: str, problem: QueryError) -> None:
        """Make an environment unavailable."""
        empty = EnvironmentState(name, Snapshot(0, name), self.root, None, None, None)
        self._states[name] = replace(self._states.get(name, empty), problem=problem)

    def states(self) -> Mapping[str, EnvironmentState]:
        return MappingProxyType(dict(self._states))

    def refresh(self, timeout_s: float) -> None:
        assert timeout_s > 0
        self.on_refresh()

    def history(self, environment: str, asset_key: Sequence[str], partition_key: str | None) -> History:
        return self.on_history(environment, asset_key, partition_key)


class Loop:
    """An event loop on a thread of its own, for tests that are not asynchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.start(coroutine).result(180)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Served:
    """A running service, and short ways to ask it."""

    def __init__(
        self, loop: Loop, catalogs: PublishedCatalogs, settings: Mapping[str, Any], engine: Mapping[str, Any]
    ) -> None:
        self.loop, self.catalogs = loop, catalogs
        names = list(catalogs.states()) or ["local"]
        attached = (
            replace(Settings(result_cache_dir="none"), **engine, environment=name, state_dir=None) for name in names
        )
        environments = tuple(EnvironmentConfig(s.environment, s) for s in attached)
        limits = replace(ServiceSettings(), **{"workers": 2, **settings})
        self.service = Service(Config(limits, environments, catalogs.root), cast("Environments", catalogs))
        self._id: str | None = None

    def generation(self, environment: str) -> int:
        """Return the generation of an environment's catalog."""
        return self.catalogs.states()[environment].snapshot.generation

    async def stream(self, sql: str, caller: Caller = ANN, **query: Any) -> ActiveQuery:
        return await self.service.run(Query(sql, **query), caller)

    async def read(self, sql: str, caller: Caller = ANN, **query: Any) -> tuple[bytes, ActiveQuery]:
        stream = await self.stream(sql, caller, **query)
        return b"".join([bytes(chunk) async for chunk in stream]), stream

    def start(self, sql: str, caller: Caller = ANN, **query: Any) -> "Future[tuple[bytes, ActiveQuery]]":
        """Start a query that is read to its end."""
        return self.loop.start(self.read(sql, caller, **query))

    def bytes(self, sql: str, format: str = "arrow", caller: Caller = ANN, **query: Any) -> bytes:  # noqa: A002
        return self.loop.run(self.read(sql, caller, format=Format(format), **query))[0]

    def table(self, sql: str, caller: Caller = ANN, **query: Any) -> pa.Table:
        return pa.ipc.open_stream(self.bytes(sql, caller=caller, **query)).read_all()

    def rows(self, sql: str, caller: Caller = ANN, **query: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table(sql, caller, **query).to_pylist()
        return rows

    def error(self, sql: str, caller: Caller = ANN, **query: Any) -> QueryError:
        with pytest.raises(QueryError) as caught:
            self.table(sql, caller, **query)
        return caught.value

    def queries(self, caller: Caller = ANN) -> list[QueryInfo]:
        """Return the queries of this process that a caller may see, newest first. On the service's loop."""
        return self.service._registry.infos(caller)

    def latest(self, caller: Caller = ANN) -> QueryInfo:
        return self.ask(lambda: self.queries(caller)[0])

    def ask(self, question: Callable[[], T]) -> T:
        """Ask the service on its own loop."""

        async def asked() -> T:
            return question()

        return self.loop.run(asked())

    def wait_for(self, condition: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        """Wait until something is so; fail when it does not get so."""

        async def wait() -> None:
            async with asyncio.timeout(within_s):
                while not condition():  # noqa: ASYNC110  # of any kind
                    await asyncio.sleep(0.01)

        self.loop.run(wait())


Serve = Callable[..., Served]


@contextmanager
def serving(root: Path) -> Iterator[Serve]:
    """Give a way to start services, all of which end with the block."""
    loop = Loop()
    services: list[Served] = []

    def serve(
        catalogs: PublishedCatalogs | None = None, *, engine: Mapping[str, Any] | None = None, **settings: Any
    ) -> Served:
        kept = catalogs or PublishedCatalogs(root / f"service{len(services)}")
        services.append(Served(loop, kept, settings, engine or {}))
        loop.run(services[-1].service.start())
        return services[-1]

    try:
        yield serve
    finally:
        for served in services:
            loop.run(served.service.close())
        loop.close()


@pytest.fixture
def new_served(tmp_path: Path, processes: None) -> Iterator[Serve]:  # noqa: ARG001  # it starts some
    """Starts services: `new_served(catalogs, workers=1)`; keywords are service settings, `engine` the engine's."""
    with serving(tmp_path) as serve:
        yield serve


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Six partitions of `local_silver_tax_id.orgs`: 1,000 rows for each of two states and three days."""
    made = Lake(tmp_path_factory.mktemp("lake"))
    rows = pa.table({"npi": pa.array(range(1000)), "name": [f"name {i}" for i in range(1000)]})
    for state in ("CA", "NY"):
        for day in (1, 2, 3):
            values = {"state": pa.scalar(state), "day": pa.scalar(day)}
            made.write(("Silver", "TaxID", "orgs"), rows, values)
    made.write(("Gold", "totals"), pa.table({"total": [1, 2]}))
    yield made
    made.engine.close()


@pytest.fixture(scope="module")
def served(lake: Lake, tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Served]:  # noqa: ARG001  # it starts some
    """A service over the lake, with two workers."""
    root = tmp_path_factory.mktemp("served")
    catalogs = PublishedCatalogs(root)
    catalogs.publish(lake.snapshot)
    with serving(root) as serve:
        yield serve(catalogs)

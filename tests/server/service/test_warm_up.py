"""New objects of tables that are often queried are there before a query needs them."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from dagfusion_client.documents import codec
from dagfusion_client.documents.query_documents import Failure, QueryInfo, ScanStats, State, Stats
from dagfusion_client.errors import (
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    StaleObjectError,
    WorkerDiedError,
)
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_query.settings import Settings
from dagfusion_server.environments import Environments
from dagfusion_server.service import warm_up, worker_handle
from dagfusion_server.service.service import Service
from dagfusion_server.service.warm_up import Budget, QueriedTables, WarmUp
from dagfusion_server.service.worker_handle import Handle, NeverStarted
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import Configuration, End, Fetched, Kind, Message, NewObjects, Statement
from dagfusion_stack.object_store import ObjectStore
from tests.e2e.wire import Recorded
from tests.query.engine.conftest import Lake
from tests.query.engine.stored_lake import StoredLake, numbers, server, wire
from tests.server.service.conftest import PublishedCatalogs, Serve, Served
from tests.server.service.workers import FakeProcess, until

__all__ = ["server", "wire"]

SUM = "SELECT sum(x + 0) AS n FROM local_default.t WHERE p = "


def query_over(*tables: str, **stats: Any) -> QueryInfo:
    """Return a query that read a file of each table."""
    scans = [ScanStats(table, 1, 1, 1, 1) for table in tables]
    read = Stats(**{"files_read": len(scans), "path": "splice", "scans": scans, **stats})
    return QueryInfo("q", "ann", "http", "", State.finished, datetime.now(UTC), read)


@pytest.mark.parametrize(
    ("info", "is_counted"),
    [
        (query_over("a"), True),
        (query_over("a", files_read=0, path="cache"), True),
        (query_over("a", files_read=0, path="catalog"), False),
        (query_over("a", path="spark"), False),
        (query_over("b", scans=[ScanStats("b", 1, 1, 1, 1), ScanStats("a", 1, 0, 1, 0)]), False),
        (replace(query_over("a"), state=State.failed), False),
        (replace(query_over("a"), state=State.cancelled), False),
        (replace(query_over("a"), as_of="7"), False),
    ],
)
def test_only_queries_that_use_current_objects_count(info: QueryInfo, *, is_counted: bool) -> None:
    queried = QueriedTables(1)
    queried.record(info)
    assert ("a" in queried.frequent()) is is_counted


def test_all_tables_have_one_budget_for_an_hour() -> None:
    now = [0.0]
    budget = Budget(100, lambda: now[0])
    budget.spend(60)
    now[0] = 1800.0
    budget.spend(50)
    assert budget.left() == -10
    now[0] = 3601.0
    assert budget.left() == 50
    now[0] = 5401.0
    assert budget.left() == 100


def test_a_table_is_queried_often_after_some_queries_within_an_hour() -> None:
    now = [0.0]
    queried = QueriedTables(2, lambda: now[0])

    def ask(*tables: str) -> None:
        queried.record(query_over(*tables))

    ask("a", "b", "a")
    assert queried.frequent() == []
    now[0] = 3000.0
    ask("a")
    assert queried.frequent() == ["a"]
    now[0] = 3700.0
    ask("b")
    assert queried.frequent() == []
    ask("a")
    assert queried.frequent() == ["a"]


def test_only_so_many_tables_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "_TABLES", 2)
    queried = QueriedTables(1)
    for table in ("a", "b", "a", "c"):
        queried.record(query_over(table))
    assert queried.frequent() == ["a", "c"]


@pytest.fixture
def stored(tmp_path: Path, server: ObjectStore, wire: Recorded) -> Iterator[StoredLake]:
    lake = StoredLake(tmp_path, server, wire.endpoint)
    yield lake
    lake.engine.close()


def sizes(lake: StoredLake) -> dict[str, int]:
    """Return the bytes of each partition's object."""
    (table,) = lake.snapshot.tables.values()
    return dict(zip(table.files["partition_key"].to_pylist(), table.files["size_bytes"].to_pylist(), strict=True))


def counted(served: Served, name: str, labels: str = "") -> float:
    sample = re.escape(f"dagfusion_{name}_total{labels}")
    found = re.search(rf"^{sample} (\S+)$", served.service.metrics().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list with an entry for each time that a service has looked for new objects."""
    step, taken = WarmUp.step, list[None]()

    async def counted_step(warm: WarmUp) -> None:
        await step(warm)
        taken.append(None)

    monkeypatch.setattr(WarmUp, "step", counted_step)
    return taken


@pytest.mark.usefixtures("heavy")
def test_a_query_after_a_materialization_takes_no_request(
    stored: StoredLake, wire: Recorded, new_served: Serve, tmp_path: Path, steps: list[None]
) -> None:
    store = stored.settings
    engine = {name: getattr(store, name) for name in ("endpoint_url", "region", "access_key_id", "secret_access_key")}
    engine["object_cache_dir"] = str(tmp_path / "copies")
    catalogs = PublishedCatalogs(tmp_path / "served")
    stored.put("a", numbers(0))
    catalogs.publish(stored.snapshot)
    served = new_served(catalogs, engine=engine, warm_up_bytes=1 << 20, warm_up_queries=2)

    stored.put("b", numbers(10))
    catalogs.publish(stored.snapshot)
    looked = len(steps) + 2  # the first may have begun before
    served.wait_for(lambda: len(steps) >= looked, 60)
    for _ in range(2):
        assert served.rows(f"{SUM}'a'") == [{"n": 45}]
    assert counted(served, "warm_up_requests") == 0

    stored.put("c", numbers(20))
    stored.put("d", numbers(30))
    catalogs.publish(stored.snapshot)
    served.wait_for(lambda: counted(served, "warm_up_requests") == 2, 60)
    before = len(wire.requests)
    hits, misses = (counted(served, "copies", f'{{cache="{found}"}}') for found in ("hit", "miss"))
    assert misses >= 1
    assert served.rows(f"{SUM}'c'") == [{"n": 245}]
    assert served.rows(f"{SUM}'d'") == [{"n": 345}]
    assert served.latest().stats.requests == 0
    assert (served.latest().stats.copies_found, served.latest().stats.copies_fetched) == (1, 0)
    assert len(wire.requests) == before
    assert counted(served, "warm_up_bytes") == sum(size for key, size in sizes(stored).items() if key in "cd")
    assert served.rows(f"{SUM}'b'") == [{"n": 145}]  # which was there before the table was queried often
    assert served.latest().stats.requests == 1
    assert counted(served, "copies", '{cache="hit"}') == hits + 2
    assert counted(served, "copies", '{cache="miss"}') == misses + 1


class Script:
    """The spare worker of a pool, which ends each fetch as a test says."""

    def __init__(self, *ends: Message | Exception) -> None:
        self.ends = [*ends]
        self.tables, self.wanted = list[str](), list[NewObjects]()
        self.stopped_by = list[QueryError]()
        self.is_idle = True

    def lease_spare(self, _: QueryError) -> Any:
        return self if self.is_idle else None

    async def begin(self, statement: Statement, _: bytes) -> None:
        assert statement.new_objects is not None
        self.tables.append(statement.new_objects.table)
        self.wanted.append(statement.new_objects)

    async def next(self) -> Message:
        if not self.ends:
            await asyncio.Event().wait()
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def stop(self, error: QueryError) -> None:
        self.stopped_by.append(error)


@contextmanager
def published(lake: Lake, *keys: str) -> Iterator[tuple[PublishedCatalogs, QueriedTables]]:
    """Tables that are queried often, and a catalog with them."""
    catalogs, queried = PublishedCatalogs(lake.root / "served"), QueriedTables(1)
    for key in keys:
        lake.write((key,), numbers(0))
    catalogs.publish(lake.snapshot)
    queried.record(query_over(*[f"local_default.{key}" for key in keys]))
    try:
        yield catalogs, queried
    finally:
        lake.engine.close()


FETCH = TableFetch("local_default.b", 2, 30, 0.1, 0.2)
DATA = Message(Kind.data, orjson.loads(codec.encode(Fetched([FETCH], ["it is gone"]))))


def coming(size_bytes: int) -> Message:
    """Return the message before so many bytes are fetched."""
    return Message(Kind.data, orjson.loads(codec.encode(Fetched(coming_bytes=size_bytes))))


END = Message(Kind.end, orjson.loads(codec.encode(End())))


@pytest.mark.parametrize("fault", [NeverStarted(), WorkerDiedError("it crashed"), StaleObjectError("it has changed")])
def test_a_fetch_that_fails_costs_no_other(tmp_path: Path, fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    worker, fetched = Script(fault, DATA, DATA, END), list[TableFetch]()

    async def test(catalogs: PublishedCatalogs, queried: QueriedTables, lake: Lake) -> None:
        warm = WarmUp(queried, Budget(100), cast("Environments", catalogs), cast("Pool", worker), fetched.append)
        await warm.step()
        for key in ("a", "b"):
            lake.write((key,), numbers(1))
        catalogs.publish(lake.snapshot)
        worker.is_idle = False
        await warm.step()
        assert worker.tables == []
        worker.is_idle = True
        for _ in range(2):
            await warm.step()

    lake = Lake(tmp_path)
    with published(lake, "a", "b") as (catalogs, queried):
        asyncio.run(test(catalogs, queried, lake))
    assert sorted(worker.tables) == ["local_default.a", "local_default.b"]
    assert fetched == [FETCH, FETCH]
    assert "were not fetched" in caplog.text
    assert caplog.text.count("a new object was not fetched: it is gone") == 1


def test_a_fetch_that_a_query_stops_is_tried_again_within_the_budget(tmp_path: Path) -> None:
    worker = Script(DATA, QueryCancelledError("a query waits"), DATA, END, DATA, DATA, END)

    async def test(catalogs: PublishedCatalogs, queried: QueriedTables, lake: Lake) -> None:
        warm = WarmUp(queried, Budget(100), cast("Environments", catalogs), cast("Pool", worker), lambda _: None)
        await warm.step()
        for key in ("a", "b"):
            lake.write((key,), numbers(1))
        catalogs.publish(lake.snapshot)
        await warm.step()
        assert len(worker.wanted) == 1
        await warm.step()
        lake.write(("a",), numbers(2))
        catalogs.publish(lake.snapshot)
        await warm.step()

    lake = Lake(tmp_path)
    with published(lake, "a", "b") as (catalogs, queried):
        asyncio.run(test(catalogs, queried, lake))
    first, second, third = worker.wanted  # nothing is left for a fourth
    assert first.table == third.table != second.table
    assert (third.after_event, [one.limit_bytes for one in worker.wanted]) == (first.after_event, [100, 70, 40])


@pytest.mark.parametrize("error", [QueryCancelledError("a query waits"), QueryTimeoutError("it took too long")])
def test_what_a_stopped_fetch_has_fetched_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: QueryError
) -> None:
    monkeypatch.setattr(worker_handle, "WorkerProcess", FakeProcess)
    monkeypatch.setattr(FakeProcess, "is_ready", True)
    fetched, budget, released = list[TableFetch](), Budget(100), list[Handle]()
    cancelled = Message(Kind.failed, orjson.loads(codec.encode(Failure.of(QueryCancelledError("cancelled")))))

    async def test() -> None:
        worker = Handle(lambda worker, _: released.append(worker), lambda _: None, 30.0, 1 << 30)
        process = cast("FakeProcess", worker.process)
        await worker.start(Configuration(folders=[], memory_bytes=1, settings={}, environments={}))
        worker.lease()
        environments = cast("Environments", PublishedCatalogs(tmp_path))
        warm = WarmUp(QueriedTables(1), budget, environments, cast("Pool", None), fetched.append)
        wanted = NewObjects(table="local_default.b", after_event=0, limit_bytes=100)
        fetching = asyncio.create_task(warm._fetch(worker, wanted))
        await until(lambda: Kind.statement in process.told)
        worker.stop(error)
        process.say(DATA, coming(40), DATA, cancelled)
        assert await fetching is isinstance(error, QueryTimeoutError), "it is tried again after a query"

    asyncio.run(test())
    assert (fetched, budget.left(), len(released)) == ([FETCH, FETCH], 100 - 2 * FETCH.bytes, 1)


def test_a_fetch_whose_worker_dies_counts_as_much_as_it_may_have_fetched(tmp_path: Path) -> None:
    worker, budget = Script(coming(20), DATA, coming(40), WorkerDiedError("it crashed")), Budget(100)

    async def test(catalogs: PublishedCatalogs, queried: QueriedTables, lake: Lake) -> None:
        warm = WarmUp(queried, budget, cast("Environments", catalogs), cast("Pool", worker), lambda _: None)
        await warm.step()
        lake.write(("a",), numbers(1))
        catalogs.publish(lake.snapshot)
        await warm.step()

    lake = Lake(tmp_path)
    with published(lake, "a") as (catalogs, queried):
        asyncio.run(test(catalogs, queried, lake))
    assert budget.left() == 100 - FETCH.bytes - 40


def test_without_local_copies_the_setting_has_no_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environment = EnvironmentConfig("local", Settings(object_cache_dir="none"))
    config = Config(ServiceSettings(warm_up_bytes=1), (environment,), tmp_path)
    service = Service(config, cast("Environments", PublishedCatalogs(tmp_path)))
    service._warm_up()
    assert "DAGFUSION_WARM_UP_BYTES has no effect: DAGFUSION_OBJECT_CACHE_DIR is none" in caplog.text
    assert service._warming_up is None


def test_a_service_that_stops_cancels_the_fetch(tmp_path: Path) -> None:
    worker = Script()

    async def test(catalogs: PublishedCatalogs, queried: QueriedTables, lake: Lake) -> None:
        warm = WarmUp(queried, Budget(10), cast("Environments", catalogs), cast("Pool", worker), lambda _: None)
        await warm.step()
        lake.write(("a",), numbers(1))
        catalogs.publish(lake.snapshot)
        fetching = asyncio.create_task(warm.step())
        await until(lambda: bool(worker.tables))
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching

    lake = Lake(tmp_path)
    with published(lake, "a") as (catalogs, queried):
        asyncio.run(test(catalogs, queried, lake))
    assert [type(error) for error in worker.stopped_by] == [QueryCancelledError]

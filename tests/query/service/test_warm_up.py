"""New objects of tables that are often queried are there before a query needs them."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from dagfusion_query.catalog.environments import Environments
from dagfusion_query.documents import codec
from dagfusion_query.documents.query_documents import QueryInfo, ScanStats, State, Stats
from dagfusion_query.engine.new_objects import new_objects
from dagfusion_query.errors import QueryCancelledError, QueryError, StaleObjectError, WorkerDiedError
from dagfusion_query.object_cache.copies import TableFetch
from dagfusion_query.service import warm_up
from dagfusion_query.service.warm_up import AskedTables, WarmUp
from dagfusion_query.service.worker_handle import NeverStarted
from dagfusion_query.service.worker_pool import Pool
from dagfusion_query.worker.messages import End, Kind, Message, Statement
from dagfusion_stack import object_store
from dagfusion_stack.object_store import ObjectStore
from tests.e2e.wire import Recorded, recording
from tests.query.engine.conftest import Lake
from tests.query.engine.test_object_requests import BUCKET, StoredLake, numbers
from tests.query.service.conftest import PublishedCatalogs, Serve, Served
from tests.query.service.workers import until

SUM = "SELECT sum(x + 0) AS n FROM local_default.t WHERE p = "


def test_a_table_is_asked_for_often_after_some_queries_within_an_hour() -> None:
    now = [0.0]
    asked = AskedTables(2, lambda: now[0])

    def ask(*tables: str) -> None:
        scans = [ScanStats(table, 1, 1, 1, 1) for table in tables]
        asked.over(QueryInfo("q", "ann", "http", "", State.finished, datetime.now(UTC), Stats(scans=scans)))

    ask("a", "b", "a")
    assert asked.often() == []
    now[0] = 3000.0
    ask("a")
    assert asked.often() == ["a"]
    now[0] = 3700.0
    ask("b")
    assert asked.often() == []
    ask("a")
    assert asked.often() == ["a"]


def test_only_so_many_tables_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "_TABLES", 2)
    asked = AskedTables(1)
    info = QueryInfo("q", "ann", "http", "", State.finished, datetime.now(UTC), Stats())
    for table in ("a", "b", "a", "c"):
        asked.over(replace(info, stats=Stats(scans=[ScanStats(table, 1, 1, 1, 1)])))
    assert asked.often() == ["a", "c"]


@pytest.fixture(scope="module")
def server(server_folder: Callable[[str], Path]) -> Iterator[ObjectStore]:
    with object_store.running(server_folder("s3"), buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
def wire(server: ObjectStore) -> Iterator[Recorded]:
    with recording(server.endpoint) as recorded:
        yield recorded


@pytest.fixture
def stored(tmp_path: Path, server: ObjectStore, wire: Recorded) -> Iterator[StoredLake]:
    lake = StoredLake(tmp_path, server, wire.endpoint)
    yield lake
    lake.engine.close()


def sizes(lake: StoredLake) -> dict[str, int]:
    """Return the bytes of each partition's object."""
    (table,) = lake.snapshot.tables.values()
    return dict(zip(table.files["partition_key"].to_pylist(), table.files["size_bytes"].to_pylist(), strict=True))


def test_the_newest_small_objects_are_chosen(stored: StoredLake) -> None:
    ids = [stored.put(name, numbers(0)).event_id for name in "abc"]
    stored.put("d", numbers(0, 1000))
    stored.put("a", numbers(5))
    (table,) = stored.snapshot.tables.values()
    size = sizes(stored)["a"]

    def chosen(after_event: int, limit_bytes: int = 1 << 20, object_bytes: int = 2 * size) -> list[str]:
        found = new_objects(table, after_event, limit_bytes, object_bytes)
        if found is None:
            return []
        assert len({*found.keys}) == len(found.keys) == len(found.parts) == found.scan.count
        return sorted(found.scan.kept["partition_key"].to_pylist())

    assert chosen(0) == ["a", "b", "c"]
    assert chosen(0, object_bytes=1 << 20) == ["a", "b", "c", "d"]
    assert chosen(ids[1]) == ["a", "c"]
    assert chosen(ids[2]) == ["a"]
    assert chosen(0, limit_bytes=2 * size) == ["a", "c"]
    assert chosen(0, limit_bytes=size - 1) == chosen(max(ids) + 2) == []


def counted(served: Served, name: str) -> float:
    found = re.search(rf"^dagfusion_{name}_total (\S+)$", served.service.metrics().decode(), re.MULTILINE)
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
    assert served.rows(f"{SUM}'c'") == [{"n": 245}]
    assert served.rows(f"{SUM}'d'") == [{"n": 345}]
    assert served.latest().stats.requests == 0
    assert len(wire.requests) == before
    assert counted(served, "warm_up_bytes") == sum(size for key, size in sizes(stored).items() if key in "cd")
    assert served.rows(f"{SUM}'b'") == [{"n": 145}]  # which was there before the table was asked for often
    assert served.latest().stats.requests == 1


class Script:
    """The spare worker of a pool, which ends each fetch as a test says."""

    def __init__(self, *ends: Message | Exception) -> None:
        self.ends = [*ends]
        self.tables = list[str]()
        self.stopped_by = list[QueryError]()
        self.is_idle = True

    def lease_spare(self) -> Any:
        return self if self.is_idle else None

    async def begin(self, statement: Statement, _: bytes) -> None:
        assert statement.new_objects is not None
        self.tables.append(statement.new_objects.table)

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
def published(lake: Lake, *keys: str) -> Iterator[tuple[PublishedCatalogs, AskedTables]]:
    """Tables that are asked for often, and a catalog with them."""
    catalogs, asked = PublishedCatalogs(lake.root / "served"), AskedTables(1)
    for key in keys:
        lake.write((key,), numbers(0))
    catalogs.publish(lake.snapshot)
    scans = [ScanStats(f"local_default.{key}", 1, 1, 1, 1) for key in keys]
    asked.over(QueryInfo("q", "ann", "http", "", State.finished, datetime.now(UTC), Stats(scans=scans)))
    try:
        yield catalogs, asked
    finally:
        lake.engine.close()


FETCH = TableFetch("local_default.b", 2, 30, 0.1, 0.2)
END = Message(Kind.end, orjson.loads(codec.encode(End(fetches=[FETCH]))))


@pytest.mark.parametrize("fault", [NeverStarted(), WorkerDiedError("it crashed"), StaleObjectError("it has changed")])
def test_a_fetch_that_fails_costs_no_other(tmp_path: Path, fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    worker, fetched = Script(fault, END), list[TableFetch]()

    async def test(catalogs: PublishedCatalogs, asked: AskedTables, lake: Lake) -> None:
        warm = WarmUp(asked, 10, cast("Environments", catalogs), cast("Pool", worker), fetched.append)
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
    with published(lake, "a", "b") as (catalogs, asked):
        asyncio.run(test(catalogs, asked, lake))
    assert sorted(worker.tables) == ["local_default.a", "local_default.b"]
    assert fetched == [FETCH]
    assert "were not fetched" in caplog.text


def test_a_service_that_stops_cancels_the_fetch(tmp_path: Path) -> None:
    worker = Script()

    async def test(catalogs: PublishedCatalogs, asked: AskedTables, lake: Lake) -> None:
        warm = WarmUp(asked, 10, cast("Environments", catalogs), cast("Pool", worker), lambda _: None)
        await warm.step()
        lake.write(("a",), numbers(1))
        catalogs.publish(lake.snapshot)
        fetching = asyncio.create_task(warm.step())
        await until(lambda: bool(worker.tables))
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching

    lake = Lake(tmp_path)
    with published(lake, "a") as (catalogs, asked):
        asyncio.run(test(catalogs, asked, lake))
    assert [type(error) for error in worker.stopped_by] == [QueryCancelledError]

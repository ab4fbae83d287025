"""A caller that leaves in the moment in which its worker comes."""

import asyncio
from typing import Any

import pytest

from dagfusion_client.documents.query_documents import State
from dagfusion_client.errors import UnknownQueryError
from dagfusion_query.access.grants import ALL, Caller, Grants
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.service import worker_handle
from dagfusion_server.service.admission import Admission
from dagfusion_server.service.metrics import Metrics
from dagfusion_server.service.past_finder import PastFinder
from dagfusion_server.service.query_registry import Query, Registry
from dagfusion_server.service.repeated_statements import RepeatedStatements
from dagfusion_server.service.running_query import ActiveQuery, ServiceParts
from dagfusion_server.service.spark_tables import SparkTables
from dagfusion_server.service.worker_handle import Handle, Transition
from dagfusion_server.service.worker_pool import Pool
from dagfusion_server.worker.messages import Configuration, Mode


class NoProcess:
    phase, pid = None, 1

    def __init__(self, *_: object) -> None: ...


class NoCatalogs:
    def states(self) -> dict[str, object]:
        return {}

    def refresh(self, timeout_s: float) -> None: ...


CONFIGURATION = Configuration(folders=[], memory_bytes=1, settings={}, environments={})


def test_the_worker_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_handle, "WorkerProcess", NoProcess)

    async def leave() -> None:
        pool = Pool(1, lambda: CONFIGURATION, 1 << 30, 0.3)
        worker = Handle(pool._take_back, pool._ended, 0.3, 1 << 30)
        pool._workers.add(worker)
        registry, admission = Registry(10), Admission(1, 1, 10, 10)
        catalogs: Any = NoCatalogs()
        metrics = Metrics(pool, admission, catalogs)
        no_spark = SparkTables(ServiceSettings(), None, {})
        past = PastFinder(catalogs)
        unknown = RepeatedStatements(catalogs, 0)
        shared = ServiceParts(ServiceSettings(), catalogs, registry, pool, admission, metrics, past, no_spark, unknown)
        running = ActiveQuery(shared, Query("SELECT 1"), Caller("ann", ALL, "http"), Mode.run)
        task = asyncio.create_task(running.begin())
        while not pool._waiting:  # noqa: ASYNC110  # step by step, as below
            await asyncio.sleep(0)
        worker.life.move(Transition.ready)
        pool._offer(worker, is_warm=True)
        while not pool.busy:
            assert not task.done()
            await asyncio.sleep(0)  # step by step: what is tested happens between two
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (pool.busy, pool.live, admission.running) == (0, 1, 0)
        [info] = registry.infos(Caller("ann", ALL, "http"))
        assert info.state is State.cancelled

    asyncio.run(leave())


def test_queries_are_seen_by_the_token_that_ran_them_and_not_by_the_next_of_its_name() -> None:
    registry, grants = Registry(10), Grants.parse(["uat"])
    old, new = (Caller("ann", grants, "http", token_id) for token_id in ("0123", "4567"))
    running, over = (registry.open(Query("SELECT 1"), old) for _ in range(2))
    over.end(State.finished, None)
    registry.close(over, keep=True)
    assert len(registry.infos(old)) == 2
    assert registry.infos(new) == []
    for entry in (running, over):
        assert registry.info(entry.info.id, old).user == "ann"
        with pytest.raises(UnknownQueryError):
            registry.entry(entry.info.id, new)


def test_a_long_statement_is_remembered_by_its_beginning() -> None:
    registry, ann = Registry(10), Caller("ann", ALL, "http")
    entry = registry.open(Query("SELECT 1 --" + "x" * 100_000), ann)
    entry.end(State.finished, None)
    registry.close(entry, keep=True)
    [info] = registry.infos(ann)
    assert info.sql.startswith("SELECT 1 --xxx")
    assert info.sql.endswith("... (100,011 characters)")
    assert len(info.sql) < 11_000

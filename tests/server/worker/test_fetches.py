"""A worker that fetches the new objects of a table: what it sends of them, and how it hears of a cancellation."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import orjson
import pytest

from dagfusion_client.documents import codec
from dagfusion_client.documents.query_documents import Failure
from dagfusion_client.errors import QueryCancelledError
from dagfusion_query.engine.copy_requests import Missing
from dagfusion_query.settings import Settings
from dagfusion_server.worker.messages import (
    HEADER,
    Configuration,
    EnvironmentSource,
    Fetched,
    Kind,
    Message,
    Mode,
    NewObjects,
    Statement,
)
from dagfusion_server.worker.statements import Statements
from dagfusion_server.worker.worker_engine import WorkerEngine
from tests.e2e.wire import Recorded
from tests.query.engine.conftest import missing
from tests.query.engine.stored_lake import StoredLake, numbers, server, stored, wire
from tests.server.service.conftest import PublishedCatalogs

__all__ = ["server", "stored", "wire"]

ID = "1"


class Worker:
    """The statements of a worker, with one catalog."""

    def __init__(self, settings: Settings, catalogs: PublishedCatalogs) -> None:
        configuration = Configuration(folders=[], memory_bytes=1 << 30, settings={"local": settings}, environments={})
        self.statements, self._catalogs = Statements(configuration, lambda _: None), catalogs

    def fetch(self) -> tuple[list[Fetched], Message]:
        """Fetch the new objects, and return what was sent of them, and the last message."""
        sent: list[Message] = []

        def send(*messages: list[bytes]) -> None:
            sent.extend(Message(Kind(one[:1]), orjson.loads(one[HEADER.size :])) for [one] in messages)

        self.statements.run(Message(Kind.statement, orjson.loads(codec.encode(self._statement()))), send)
        *fetched, last = sent
        return [message.read(Fetched) for message in fetched], last

    def fetch_until(self, begun: threading.Semaphore, times: int) -> list[Fetched]:
        """Cancel a fetch when this was released so many times, and return what was sent of it."""
        ended: list[tuple[list[Fetched], Message]] = []
        running = threading.Thread(target=lambda: ended.append(self.fetch()), daemon=True)
        running.start()
        for _ in range(times):
            assert begun.acquire(timeout=60)
        self.statements._cancel(ID)
        running.join(60)
        [(fetched, last)] = ended
        assert isinstance(last.read(Failure).error(), QueryCancelledError)
        return fetched

    def _statement(self) -> Statement:
        states = self._catalogs.states().items()
        return Statement(
            id=ID,
            sql="",
            mode=Mode.fetch,
            environments={
                name: EnvironmentSource(folder=str(state.folder), generation=state.snapshot.generation)
                for name, state in states
            },
            grants=["*"],
            limit_rows=0,
            limit_bytes=0,
            new_objects=NewObjects(table="local_default.t", after_event=0, limit_bytes=1 << 20),
        )


@pytest.fixture
def new_worker() -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(settings: Settings, catalogs: PublishedCatalogs) -> Worker:
        made.append(Worker(settings, catalogs))
        return made[-1]

    yield make
    for worker in made:
        worker.statements._engine.close()


@pytest.mark.usefixtures("heavy")
def test_objects_that_cannot_be_copied_are_skipped(
    stored: Callable[..., StoredLake], wire: Recorded, tmp_path: Path, new_worker: Callable[..., Worker]
) -> None:
    lake = stored(object_cache_dir=str(tmp_path / "copies"), archived_after_days=30)
    old = (datetime.now(UTC) - timedelta(days=40)).isoformat().replace("+00:00", "Z")
    lake.put("old", numbers(0), modified=old)
    for name in "abcdefghi":
        lake.put(name, numbers(0))
    lake.put("a", numbers(7, 5), logged=False)
    (table,) = lake.snapshot.tables.values()
    (size,) = {*table.files["size_bytes"].to_pylist()}
    catalogs = PublishedCatalogs(tmp_path / "served")
    catalogs.publish(lake.snapshot)
    worker = new_worker(lake.settings, catalogs)

    wire.requests.clear()
    groups, last = worker.fetch()
    assert last.kind is Kind.end
    assert [group.coming_bytes for group in groups] == [8 * size, 0, size, 0]
    assert [fetch.requests for group in groups for fetch in group.fetches] == [8, 1]
    assert len(wire.requests) == 9, "not of the archived object"
    [skipped] = [text for group in groups for text in group.skipped]
    assert "p=a/data.parquet" in skipped
    assert "has changed since its event was logged" in skipped
    assert sum(fetch.bytes for group in groups for fetch in group.fetches) == 8 * size
    groups, last = worker.fetch()
    assert (last.kind, len(wire.requests), [len(group.skipped) for group in groups]) == (Kind.end, 10, [0, 1])


@pytest.fixture
def worker(tmp_path: Path, new_worker: Callable[..., Worker]) -> Worker:
    return new_worker(Settings(object_cache_dir=str(tmp_path / "copies")), PublishedCatalogs(tmp_path))


def test_a_fetch_that_is_cancelled_sends_what_it_requested(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Semaphore(0)

    async def get(*_: object, **__: object) -> None:
        begun.release()
        await asyncio.Event().wait()

    monkeypatch.setattr(obstore, "get_async", get)
    monkeypatch.setattr(WorkerEngine, "new_objects", lambda *_: iter([missing(*[10] * 9)]))
    coming, requested = worker.fetch_until(begun, 8)
    assert (coming.coming_bytes, coming.fetches) == (80, [])
    assert [(fetch.requests, fetch.bytes) for fetch in requested.fetches] == [(8, 80)]
    assert requested.coming_bytes == 0


def test_a_fetch_is_cancelled_while_objects_are_chosen(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Semaphore(0)

    def endless(*_: object) -> Iterator[list[Missing]]:
        while True:
            begun.release()
            yield []

    monkeypatch.setattr(WorkerEngine, "new_objects", endless)
    assert worker.fetch_until(begun, 1) == []

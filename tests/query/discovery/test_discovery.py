"""The queue of discovery: bounded, the latest first to count, patient with a store that is down."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import pytest

from dagfusion_client.errors import SnapshotError, StoreUnavailableError, UndiscoverableError
from dagfusion_contract.record import DataFile
from dagfusion_query.discovery import discovery as module
from dagfusion_query.discovery import record_cache
from dagfusion_query.discovery.discovery import Discovery
from dagfusion_query.discovery.foreign_records import ForeignRecords
from dagfusion_query.discovery.record_cache import RecordCache
from dagfusion_query.event_log.event_log_interface import Event, Materialization
from dagfusion_query.event_log.stored_event import Foreign
from tests.waiting import eventually

Record = Callable[..., dict[str, Any]]
PATIENCE_S = 10.0


class FakeReader:
    """Answers with one record a URI, as slowly and as badly as a test sets it."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.asked: list[str] = []
        self.down = self.slow = False
        self.most_at_once = self._now = 0
        self.let_go = threading.Semaphore(0)  # of reads that are slow, one each
        self._lock = threading.Lock()

    def read(self, foreign: Foreign, partition_key: str | None) -> list[dict[str, Any]]:
        with self._lock:
            self.asked.append(foreign.uri)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            assert eventually(lambda: not self.slow or self.let_go.acquire(blocking=False))
            if self.down:
                raise StoreUnavailableError("the store is down")
            if foreign.uri.endswith(".csv"):
                raise UndiscoverableError("not Parquet")
            if foreign.uri.endswith(".bug"):
                raise ZeroDivisionError
            return [self._record(uri=foreign.uri, partition=[], rows=len(partition_key or ""))]
        finally:
            with self._lock:
                self._now -= 1


@pytest.fixture
def reader(file_record: Record) -> FakeReader:
    return FakeReader(file_record)


@pytest.fixture
def opened(reader: FakeReader) -> Iterator[Callable[..., Discovery]]:
    with ExitStack() as stack:

        def make(state_dir: Path | None = None, concurrency: int = 4) -> Discovery:
            discovery = Discovery(cast("ForeignRecords", reader), RecordCache(state_dir), concurrency)
            discovery.recognise("log", resume=True)
            stack.callback(discovery.close)
            return discovery

        yield make


def event(number: int, partition: str | None = None, uri: str | None = None) -> Materialization:
    return Materialization(("a",), number, partition, number, "run", Foreign(uri or f"s3://b/{number}.parquet", ()))


def discovered(discovery: Discovery, count: int) -> list[Event]:
    """Take events until there are so many."""
    found: list[Event] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {found} came"
        found += discovery.take()
        time.sleep(0.005)
    return found


def test_what_is_not_known_is_held_back_until_it_is_discovered(
    opened: Callable[..., Discovery], reader: FakeReader
) -> None:
    discovery = opened()
    own = Materialization(("own",), 1, None, 1, "run", None)
    assert discovery.resolve([own, event(2)]) == [own]
    (found,) = discovered(discovery, 1)
    assert isinstance(found, Materialization)
    assert isinstance(found.file, DataFile)
    assert (found.event_id, found.file.uri, discovery.waiting) == (2, "s3://b/2.parquet", 0)
    assert [e.event_id for e in discovery.resolve([event(2)]) if isinstance(e, Materialization)] == [2]
    assert reader.asked == ["s3://b/2.parquet"]


def test_so_many_are_looked_at_at_once_and_no_more(opened: Callable[..., Discovery], reader: FakeReader) -> None:
    discovery = opened(concurrency=3)
    reader.slow = True
    discovery.resolve([event(number, str(number)) for number in range(50)])
    for done in range(20):  # the place of each that ends is taken by one other
        assert eventually(lambda done=done: len(reader.asked) == done + 3)  # type: ignore[misc]
        reader.let_go.release()
    reader.slow = False
    assert len(discovered(discovery, 50)) == 50
    assert reader.most_at_once == 3


def test_of_a_partition_the_latest_is_learnt(opened: Callable[..., Discovery], reader: FakeReader) -> None:
    discovery = opened(concurrency=1)
    reader.slow = True
    discovery.resolve([event(1, "busy")])
    discovery.resolve([event(number, "p") for number in range(2, 10)])
    discovery.resolve([event(10, "busy")])
    reader.slow = False
    found = {e.event_id for e in discovered(discovery, 2) if isinstance(e, Materialization)}
    assert found == {9, 10}
    assert len(reader.asked) <= 3


def test_a_store_that_is_down_is_asked_again(
    opened: Callable[..., Discovery], reader: FakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_RETRY_S", 0.05)
    reader.down = True
    discovery = opened(concurrency=4)
    discovery.resolve([event(number, str(number)) for number in range(100)])
    discovery.wait(PATIENCE_S)
    assert (discovery.take(), discovery.waiting) == ([], 100)
    assert len(reader.asked) <= 8, "not each object finds out by itself"
    reader.down = False
    assert len(discovered(discovery, 100)) == 100


def test_refusals_are_events_with_a_reason(opened: Callable[..., Discovery], reader: FakeReader) -> None:
    discovery = opened()
    discovery.resolve([event(1, "csv", "s3://b/x.csv"), event(2, "bug", "s3://b/x.bug")])
    found = {e.partition_key: e.file for e in discovered(discovery, 2) if isinstance(e, Materialization)}
    assert str(found["csv"]) == "not Parquet"
    assert "it could not be read because of an internal error" in str(found["bug"])
    assert {type(file) for file in found.values()} == {UndiscoverableError}
    assert len(discovery.resolve([event(1, "csv", "s3://b/x.csv")])) == 1
    assert len(reader.asked) == 2


def test_what_was_discovered_and_what_was_not_survive(
    opened: Callable[..., Discovery], reader: FakeReader, tmp_path: Path
) -> None:
    before = opened(tmp_path)
    before.resolve([event(1, "a")])
    discovered(before, 1)
    reader.slow = True
    before.resolve([event(2, "b")])
    before.flush()
    reader.slow = False
    before.close()
    after = opened(tmp_path)
    found = {e.event_id for e in discovered(after, 2) if isinstance(e, Materialization)}
    assert found == {1, 2}, "what was discovered was not published, and what was waiting goes on waiting"
    after.flush()
    after.published()
    after.close()
    again = opened(tmp_path)
    assert again.take() == []
    assert len(again.resolve([event(1, "a"), event(2, "b")])) == 2


def test_another_event_of_the_same_number_is_another(
    opened: Callable[..., Discovery], reader: FakeReader, tmp_path: Path
) -> None:
    discovery = opened(tmp_path)
    discovery.resolve([event(1)])
    discovered(discovery, 1)
    discovery.flush()
    assert discovery.resolve([event(1, uri="s3://b/other.parquet")]) == []
    assert discovery.resolve([event(1)._replace(at_us=99)]) == []
    discovery.wait(PATIENCE_S)
    assert "s3://b/other.parquet" in reader.asked


def test_another_event_log_starts_from_nothing(opened: Callable[..., Discovery], tmp_path: Path) -> None:
    discovery = opened(tmp_path)
    discovery.resolve([event(1)])
    discovered(discovery, 1)
    discovery.close()
    cache = RecordCache(tmp_path)
    assert cache.recognise("another log") == []
    assert cache.find([event(1)]) == {}
    cache.close()


def test_after_a_full_read_only_its_events_count(opened: Callable[..., Discovery], reader: FakeReader) -> None:
    discovery = opened(concurrency=1)
    reader.slow = True
    discovery.resolve([event(1, "a"), event(2, "b"), event(3, "c")])
    discovery.start_full_read()
    assert discovery.resolve([event(2, "b"), event(4, "d")]) == []
    discovery.end_full_read()
    reader.slow = False
    found = {e.event_id for e in discovered(discovery, 2) if isinstance(e, Materialization)}
    discovery.wait(PATIENCE_S)
    assert (found, discovery.take()) == ({2, 4}, [])


@pytest.mark.parametrize("was_used_since", [False, True])
def test_a_cache_of_the_format_before_keeps_its_records(
    opened: Callable[..., Discovery], reader: FakeReader, tmp_path: Path, *, was_used_since: bool
) -> None:
    discovery = opened(tmp_path)
    discovery.resolve([event(1)])
    discovered(discovery, 1)
    discovery.flush()
    discovery.close()
    with closing(sqlite3.connect(tmp_path / record_cache.RECORDS_FILE)) as database:
        database.executescript("alter table records rename to learnt; pragma user_version = 2")
        if was_used_since:  # by a version that knows no other table
            database.execute("create table records (event_id integer)")
    again = opened(tmp_path)
    assert len(again.resolve([event(1)])) == 1
    assert len(reader.asked) == 1


def test_a_damaged_cache_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "discovered.sqlite").write_bytes(b"this is no database, whatever its name says" * 100)
    cache = RecordCache(tmp_path)
    assert cache.recognise("log") == []
    cache.close()


@pytest.mark.parametrize(
    "failure", [sqlite3.OperationalError("disk is full"), sqlite3.DatabaseError("malformed"), OSError(28, "full")]
)
def test_a_cache_that_cannot_be_begun_anew_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    file = tmp_path / "discovered.sqlite"
    file.write_bytes(b"this is no database, whatever its name says" * 100)
    connect = record_cache._connect

    def fail_once_it_is_gone(path: Path | None) -> sqlite3.Connection:
        if file.exists():
            return connect(path)
        raise failure

    monkeypatch.setattr(record_cache, "_connect", fail_once_it_is_gone)
    with pytest.raises(SnapshotError, match="cannot be stored") as caught:
        RecordCache(tmp_path)
    assert caught.value.__cause__ is failure


def test_closing_does_not_wait_for_the_queue(opened: Callable[..., Discovery], reader: FakeReader) -> None:
    discovery = opened(concurrency=2)
    reader.slow = True
    discovery.resolve([event(number, str(number)) for number in range(100)])
    threading.Timer(0.2, lambda: setattr(reader, "slow", False)).start()
    discovery.close()
    assert len(reader.asked) <= 4

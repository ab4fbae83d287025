"""When a checkpoint is written, and which event logs a catalog combines it with."""

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import MemoryStore

from dagfusion_query.catalog.checkpoint import CheckpointStore, reach
from dagfusion_query.catalog.checkpointer import INTERVAL_S, Checkpointer
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.errors import EventLogUnavailableError, StoreUnavailableError
from tests.query.catalog.following import Clock, wait_for
from tests.query.catalog.purgeable_log import PurgeableLog
from tests.query.catalog.test_checkpoint_sequences import ASSETS, PREFIX, materialization, shown

A, B = ASSETS


class Service:
    """A catalog without a state folder, and the writer of its checkpoint."""

    def __init__(self, log: Any, store: MemoryStore, now: Clock, **options: Any) -> None:
        self.clock = Clock()
        checkpoint = CheckpointStore(store, PREFIX, now)
        options = {"verify_interval_s": 0.0, "poll_interval_s": 3600.0, "clock": self.clock, **options}
        self.catalog = LiveCatalog(log, "uat", checkpoint=checkpoint, **options)
        self.writer = Checkpointer(self.catalog, checkpoint, now=now)

    def look(self) -> bool:
        self.catalog.refresh()
        return self.writer.look()

    def events(self) -> set[int]:
        self.catalog.refresh()
        return set(shown(self.catalog.current()).values())


@pytest.fixture
def log() -> PurgeableLog:
    return PurgeableLog()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture
def service(log: PurgeableLog, store: MemoryStore, now: Clock) -> Iterator[Callable[..., Service]]:
    with ExitStack() as stack:

        def start(**options: Any) -> Service:
            made = Service(options.pop("log", log), store, now, **options)
            stack.callback(made.catalog.close)
            return made

        yield start


def add(log: PurgeableLog, *partitions: str, asset: Any = A) -> list[int]:
    return [log.add(materialization(asset, partition)).event_id for partition in partitions]


def purge(log: PurgeableLog) -> None:
    log.purge({event.event_id for event in log.tables.events})


def test_a_new_service_starts_from_the_checkpoint_without_a_full_sync(
    log: PurgeableLog, service: Callable[..., Service]
) -> None:
    add(log, "CA", "NY")
    assert service().look()
    (later,) = add(log, "CA")
    new = service()
    assert (new.events(), new.catalog.full_syncs) == ({2, later}, 0)


def test_nothing_is_written_twice_and_one_service_writes(
    log: PurgeableLog, service: Callable[..., Service], now: Clock
) -> None:
    one, other = service(), service()
    add(log, "CA")
    assert one.look()
    assert not one.look()
    add(log, "NY")
    assert not other.look(), "the other one has written it a moment ago"
    assert one.look()
    add(log, "TX")
    now.now += 2 * INTERVAL_S
    assert other.look(), "the other one has stopped"
    assert not one.look()
    now.now += 2 * INTERVAL_S
    assert not one.look(), "nothing is new"


def test_a_purged_log_and_no_checkpoint_is_logged(
    log: PurgeableLog, caplog: pytest.LogCaptureFixture, service: Callable[..., Service]
) -> None:
    add(log, "CA", "NY")
    with_checkpoint = service()
    with ExitStack() as stack:
        without = LiveCatalog(log, "uat", poll_interval_s=3600.0, verify_interval_s=0.0)
        stack.callback(without.close)
        log.purge({1})
        without.refresh()
        assert "events were deleted from the event log, and partitions of a/x with them" in caplog.text
        assert set(shown(without.current()).values()) == {2}
    assert with_checkpoint.events() == {1, 2}


def test_a_purged_log_keeps_its_tables_after_a_full_sync_and_a_new_start(
    log: PurgeableLog, service: Callable[..., Service]
) -> None:
    add(log, "CA", "NY")
    one = service()
    assert one.look()
    purge(log)
    assert one.events() == {1, 2}
    one.clock.now += 3600
    assert one.events() == {1, 2}
    assert service().events() == {1, 2}
    (later,) = add(log, "CA")
    assert one.events() == {2, later}
    log.wipe(A)
    assert one.events() == service().events() == set()


@pytest.mark.parametrize("is_running", [True, False])
def test_a_replaced_database_is_not_combined(
    log: PurgeableLog,
    service: Callable[..., Service],
    now: Clock,
    caplog: pytest.LogCaptureFixture,
    *,
    is_running: bool,
) -> None:
    add(log, "CA", "NY", "TX")
    one = service()
    assert one.look()
    before = obstore.get(one.writer._store._store, "_catalog/checkpoint.json").bytes()
    log.replace()
    add(log, "CA")
    if not is_running:
        one = service()
    now.now += 10 * INTERVAL_S
    one.clock.now += 3600
    assert one.events() == {1}
    assert not one.look()
    assert "is not used: event 1 is another one now" in caplog.text
    assert "s3://bucket/_catalog is not written" in caplog.text
    assert obstore.get(one.writer._store._store, "_catalog/checkpoint.json").bytes() == before
    obstore.delete(one.writer._store._store, "_catalog/checkpoint.json")
    assert one.look()


def test_an_empty_database_that_takes_the_place_of_another_is_not_combined(
    log: PurgeableLog, service: Callable[..., Service]
) -> None:
    add(log, "CA")
    assert service().look()
    log.replace()
    one = service()
    assert one.events() == set()
    assert "the event log ends at 0" in str(one.catalog.refusal)


@pytest.mark.parametrize("is_running", [True, False])
def test_a_log_that_was_set_back_shows_what_it_has_and_what_was_purged_before(
    log: PurgeableLog, service: Callable[..., Service], *, is_running: bool
) -> None:
    add(log, "CA", "NY", "TX")
    one = service()
    assert one.look()
    log.purge({1})
    one.events()
    backup = log.backup()
    lost = add(log, "NY", "WA")
    assert one.events() == {1, 3, *lost}
    assert one.look()
    log.restore(backup)
    add(log, "OR", "OR")
    if not is_running:
        one = service()
    one.clock.now += 3600
    assert one.events() == {1, 2, 3, 5}


def test_a_database_that_moved_keeps_its_tables(log: PurgeableLog, service: Callable[..., Service]) -> None:
    add(log, "CA", "NY")
    assert service().look()
    log.purge({1})
    log.database += 1
    moved = service()
    assert moved.events() == {1, 2}
    assert moved.catalog.refusal is None


def test_a_removed_asset_does_not_come_back(log: PurgeableLog, service: Callable[..., Service]) -> None:
    add(log, "CA", "NY")
    one = service()
    assert one.look()
    log.remove(A)
    (again,) = add(log, "CA")
    add(log, "TX", asset=B)
    assert one.events() == service().events() == {again, again + 1}


def test_a_store_that_does_not_answer_stops_only_a_service_without_a_snapshot(
    log: PurgeableLog,
    service: Callable[..., Service],
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add(log, "CA")
    first = service(state_dir=tmp_path)
    assert first.look()
    first.catalog.close()

    def unreachable(*_: Any, **__: Any) -> Any:
        raise BaseError("no route")

    monkeypatch.setattr(obstore, "get", unreachable)
    with pytest.raises(StoreUnavailableError, match=r"_catalog of the catalog cannot be read: no route"):
        service()
    second = service(state_dir=tmp_path)
    assert not caplog.text, "a stored snapshot that is still true needs no checkpoint"
    second.catalog.close()
    (added,) = add(log, "TX")
    log.purge({1})
    second = service(state_dir=tmp_path)
    assert "begins with the stored snapshot" in caplog.text
    assert second.events() == {1, added}
    with pytest.raises(StoreUnavailableError):
        second.look()
    monkeypatch.undo()
    add(log, "NY")
    assert not second.look(), "the first one has just written it"
    assert second.events() == {1, added, added + 1}


def test_sqlite_has_no_checkpoint(
    log: PurgeableLog,
    service: Callable[..., Service],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PurgeableLog, "keeps_ids", False)
    one = service()
    assert one.catalog.checkpoint is None
    assert "s3://bucket/_catalog is not used: an event log in SQLite" in caplog.text
    add(log, "CA")
    one.events()
    purge(log)
    assert one.events() == set()


def test_the_thread_writes_at_once_and_when_it_is_closed(
    log: PurgeableLog, service: Callable[..., Service], store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    add(log, "CA")
    one = service()
    one.writer.start()
    reader = CheckpointStore(store, PREFIX)
    wait_for(lambda: reader.head() is not None)
    first = reader.head()
    add(log, "NY")
    one.catalog.refresh()
    one.writer.close()
    assert reader.head() != first
    assert service().events() == {1, 2}


def test_a_purge_while_a_service_was_down_loses_nothing(
    log: PurgeableLog, service: Callable[..., Service], tmp_path: Any
) -> None:
    add(log, "CA")
    first, other = service(state_dir=tmp_path), service()
    first.catalog.close()
    add(log, "NY")
    assert other.look()
    purge(log)
    assert service(state_dir=tmp_path).events() == {1, 2}


def test_a_checkpoint_is_written_after_a_restore_from_a_backup(
    log: PurgeableLog, service: Callable[..., Service], store: MemoryStore, now: Clock
) -> None:
    add(log, "CA")
    backup, one = log.backup(), service()
    add(log, "NY", "TX", "WA")
    assert one.look()
    log.restore(backup)
    (later,) = add(log, "OR")
    other = service()
    now.now += 3 * INTERVAL_S
    assert other.look()
    assert not other.look(), "nothing is new"
    head = CheckpointStore(store, PREFIX).head()
    assert head is not None
    assert reach(head.cursor) == later
    add(log, "WA")
    log.purge({later})
    assert service().events() == {1, later, later + 1}


def test_a_checkpoint_that_waits_for_the_event_log_is_not_written_over(
    log: PurgeableLog, service: Callable[..., Service], store: MemoryStore, now: Clock
) -> None:
    one, other = service(), service()
    add(log, "CA")
    assert other.look()
    purge(log)
    add(log, "NY")
    assert one.events() == {2}
    log.down = True
    now.now += 3 * INTERVAL_S
    with pytest.raises(EventLogUnavailableError):
        one.writer.look()
    before = obstore.get(store, "_catalog/checkpoint.json").bytes()
    assert not one.writer.look()
    assert obstore.get(store, "_catalog/checkpoint.json").bytes() == before
    log.down = False
    assert one.events() == {1, 2}


def test_a_catalog_keeps_one_checkpoint_until_the_event_log_answers(
    log: PurgeableLog, service: Callable[..., Service], store: MemoryStore, now: Clock
) -> None:
    one, other = service(), service()
    kept = []
    for partition in ("CA", "NY", "TX"):
        log.down = False
        add(log, partition)
        assert other.look()
        purge(log)
        log.down = True
        reader = CheckpointStore(store, PREFIX, now)
        head = reader.head()
        assert head is not None
        checkpoint = reader.load(head, "uat")
        kept.append(weakref.ref(checkpoint.snapshot))
        with pytest.raises(EventLogUnavailableError):
            one.catalog.combine(checkpoint)
        del checkpoint
    gc.collect()
    assert [snapshot() is None for snapshot in kept] == [True, True, False]
    log.down = False
    assert one.events() == {1, 2, 3}


def test_the_checkpoint_of_another_database_is_never_served(log: PurgeableLog, service: Callable[..., Service]) -> None:
    add(log, "CA")
    assert service().look()
    log.replace()
    log.down = True
    with pytest.raises(EventLogUnavailableError):
        service()


def test_a_warning_that_cannot_be_worked_out_fails_no_sync(
    log: PurgeableLog,
    service: Callable[..., Service],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def slow(_: PurgeableLog) -> list[Any]:
        raise EventLogUnavailableError("it took too long")

    monkeypatch.setattr(PurgeableLog, "purged_assets", slow)
    add(log, "CA")
    assert service().events() == {1}
    assert "it took too long" in caplog.text


@pytest.mark.parametrize("keeps_ids", [True, False])
def test_the_warning_of_lost_partitions_names_a_checkpoint_only_if_it_would_help(
    log: PurgeableLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, keeps_ids: bool
) -> None:
    monkeypatch.setattr(PurgeableLog, "keeps_ids", keeps_ids)
    add(log, "CA")
    add(log, "CA", asset=B)
    with closing(LiveCatalog(log, "uat", poll_interval_s=3600.0, verify_interval_s=0.0)) as catalog:
        log.remove(B)
        catalog.refresh()
        assert "events were deleted" not in caplog.text
        purge(log)
        catalog.refresh()
    assert "events were deleted from the event log, and partitions of a/x with them" in caplog.text
    assert ("DAGFUSION_CATALOG_CHECKPOINT" in caplog.text) == keeps_ids

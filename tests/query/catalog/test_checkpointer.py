"""When a checkpoint is written, and when a catalog starts from it."""

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import MemoryStore

from dagfusion_client.errors import EventLogUnavailableError, StoreUnavailableError
from dagfusion_query.catalog.checkpoint import CheckpointStore, last_event_read
from dagfusion_query.catalog.checkpointer import INTERVAL_S
from tests.query.catalog.checkpointing import Service, add, purge
from tests.query.catalog.following import Clock, wait_for
from tests.query.catalog.purgeable_log import PurgeableLog
from tests.query.catalog.test_checkpoint_sequences import PREFIX


def test_a_new_service_starts_from_the_checkpoint_without_a_full_read(
    log: PurgeableLog, service: Callable[..., Service]
) -> None:
    add(log, "CA", "NY")
    assert service().look()
    (later,) = add(log, "CA")
    new = service()
    assert (new.events(), new.catalog.full_reads) == ({2, later}, 0)


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


def test_the_age_is_since_the_checkpoint_had_all_of_the_catalog(
    log: PurgeableLog, service: Callable[..., Service], now: Clock
) -> None:
    one, other = service(), service()
    now.now += 50.0
    assert (one.writer.age_s, other.writer.age_s) == (50.0, 50.0), "since the start"
    add(log, "CA")
    assert one.look()
    assert one.writer.age_s == 0.0
    now.now += 10.0
    assert not other.look(), "the first one writes it"
    assert other.writer.age_s == 10.0
    assert not one.look()
    assert one.writer.age_s == 0.0, "there is nothing new, so it has everything"


def test_the_age_of_a_service_that_restarts_is_that_of_the_checkpoint_that_it_finds(
    log: PurgeableLog, service: Callable[..., Service], now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = service()
    add(log, "CA")
    assert one.look()
    add(log, "NY")
    now.now += 3600.0
    other = service()

    def refused(*_: Any, **__: Any) -> Any:
        raise BaseError("refused")

    with monkeypatch.context() as broken:
        broken.setattr(obstore, "put", refused)
        with pytest.raises(StoreUnavailableError):
            other.look()
    assert other.writer.age_s == 3600.0
    assert other.look()
    assert other.writer.age_s == 0.0


def test_the_age_grows_while_the_checkpoint_cannot_be_written(
    log: PurgeableLog, service: Callable[..., Service], now: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = service()
    add(log, "CA")
    assert one.look()
    add(log, "NY")

    def refused(*_: Any, **__: Any) -> Any:
        raise BaseError("refused")

    with monkeypatch.context() as broken:
        broken.setattr(obstore, "put", refused)
        now.now += 3600.0
        with pytest.raises(StoreUnavailableError):
            one.look()
    assert one.writer.age_s == 3600.0
    assert one.look()
    assert one.writer.age_s == 0.0


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
    reader = CheckpointStore(lambda: store, PREFIX)
    wait_for(lambda: reader.head() is not None)
    first = reader.head()
    add(log, "NY")
    one.catalog.refresh()
    one.writer.close()
    assert reader.head() != first
    assert service().events() == {1, 2}


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
    head = CheckpointStore(lambda: store, PREFIX).head()
    assert head is not None
    assert last_event_read(head.cursor) == later
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
        reader = CheckpointStore(lambda: store, PREFIX, now)
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

"""Which event logs a catalog combines with its checkpoint: purged, set back, moved or replaced ones."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import obstore
import pytest

from dagfusion_client.errors import EventLogUnavailableError
from dagfusion_query.catalog.checkpointer import INTERVAL_S
from dagfusion_query.catalog.live_catalog import LiveCatalog
from tests.query.catalog.checkpointing import A, B, Service, add, purge
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog
from tests.query.catalog.test_checkpoint_sequences import shown


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


def test_a_purged_log_keeps_its_tables_after_a_full_read_and_a_new_start(
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
    assert "is not used: event 1 is another event now" in caplog.text
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


def test_the_checkpoint_of_another_database_is_never_served(log: PurgeableLog, service: Callable[..., Service]) -> None:
    add(log, "CA")
    assert service().look()
    log.replace()
    log.down = True
    with pytest.raises(EventLogUnavailableError):
        service()


def test_a_warning_that_cannot_be_worked_out_fails_no_full_read(
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

"""What a catalog does when its event log goes away, or its disk is full."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dagfusion_client.as_of import AsOf
from dagfusion_client.errors import EventLogUnavailableError, SnapshotError
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.discovery.discovery import Discovery
from dagfusion_query.discovery.foreign_objects import ForeignObjects
from dagfusion_query.discovery.foreign_records import ForeignRecords
from dagfusion_query.discovery.record_cache import RecordCache
from dagfusion_query.event_log.event_log_interface import (
    AssetKey,
    Cursor,
    Event,
    EventLog,
    Evidence,
    History,
    Moment,
    Poll,
    Revision,
)
from dagfusion_query.settings import Settings
from tests.query.catalog.following import Clock, Opened, Record, partitions, wait_for


class FailingLog:
    """An event log that fails on demand."""

    keeps_ids = False

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.down: Exception | None = None
        self.closed = 0

    def _fail(self) -> None:
        if self.down is not None:
            raise self.down

    def identity(self) -> str:
        self._fail()
        return self._log.identity()

    def read_all(self, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        self._fail()
        return self._log.read_all(receive)

    def poll(self, cursor: Cursor) -> Poll:
        self._fail()
        return self._log.poll(cursor)

    def verify(self, cursor: Cursor) -> str | None:
        self._fail()
        return self._log.verify(cursor)

    def evidence(self, event_ids: Sequence[int]) -> Evidence:
        self._fail()
        return self._log.evidence(event_ids)

    def purged_assets(self) -> Sequence[AssetKey]:
        self._fail()
        return self._log.purged_assets()

    def history(self, asset_key: Sequence[str], partition_key: str | None) -> History:
        self._fail()
        return self._log.history(asset_key, partition_key)

    def moment(self, as_of: AsOf) -> Moment:
        self._fail()
        return self._log.moment(as_of)

    def past(self, asset_key: AssetKey, moment: Moment, receive: Callable[[Sequence[Event]], None]) -> None:
        self._fail()
        self._log.past(asset_key, moment, receive)

    def revisions(self, asset_key: AssetKey, limit: int) -> Sequence[Revision]:
        self._fail()
        return self._log.revisions(asset_key, limit)

    def close(self) -> None:
        self.closed += 1
        self._log.close()


def test_the_last_snapshot_is_served_while_the_log_is_away(
    on_sqlite: Any, catalog_of: Opened, file_record: Record
) -> None:
    on_sqlite.report(file_record("CA"))
    log, clock = FailingLog(on_sqlite.open()), Clock()
    catalog = catalog_of(log, clock=clock)
    log.down = EventLogUnavailableError("the event log is on holiday")
    wait_for(lambda: catalog.lag().last_error is log.down)
    assert partitions(catalog.current()) == {"2024-01-15|CA"}
    with pytest.raises(EventLogUnavailableError, match="on holiday"):
        catalog.refresh()
    clock.now += 60
    assert catalog.lag().age_s == 60
    on_sqlite.report(file_record("NY"))
    log.down = None
    wait_for(lambda: partitions(catalog.current()) == {"2024-01-15|CA", "2024-01-15|NY"})
    wait_for(lambda: catalog.lag().last_error is None and catalog.lag().age_s == 0)


def test_an_error_that_nobody_foresaw_does_not_end_the_following(
    on_sqlite: Any, catalog_of: Opened, file_record: Record
) -> None:
    on_sqlite.report(file_record("CA"))
    log = FailingLog(on_sqlite.open())
    catalog = catalog_of(log)
    log.down = ZeroDivisionError("a bug")
    wait_for(lambda: "a bug" in str(catalog.lag().last_error))
    log.down = None
    on_sqlite.report(file_record("NY"))
    wait_for(lambda: partitions(catalog.current()) == {"2024-01-15|CA", "2024-01-15|NY"})


def test_without_log_and_snapshot_there_is_nothing_to_serve(on_sqlite: Any) -> None:
    log = FailingLog(on_sqlite.open())
    log.down = EventLogUnavailableError("the event log is on holiday")
    with pytest.raises(EventLogUnavailableError, match="on holiday"):
        LiveCatalog(log, "uat", poll_interval_s=0.05)
    assert log.closed == 1


def test_a_state_folder_that_cannot_be_made_leaves_nothing_open(on_sqlite: Any, tmp_path: Path) -> None:
    log = FailingLog(on_sqlite.open())
    records = RecordCache(None)
    (tmp_path / "file").write_text("")
    discovery = Discovery(ForeignRecords(ForeignObjects(Settings()), None), records)
    with pytest.raises(SnapshotError, match="cannot be written"):
        LiveCatalog(log, "uat", tmp_path / "file" / "state", poll_interval_s=0.05, discovery=discovery)
    assert log.closed == 1
    with pytest.raises(SnapshotError, match="closed"):
        records.recognise("this")


def test_a_stored_snapshot_is_served_while_the_log_is_away(
    on_sqlite: Any, catalog_of: Opened, file_record: Record, tmp_path: Path
) -> None:
    on_sqlite.report(file_record("CA"))
    catalog_of(on_sqlite.open(), tmp_path / "state").close()
    log = FailingLog(on_sqlite.open())
    log.down = EventLogUnavailableError("the event log is on holiday")
    catalog = catalog_of(log, tmp_path / "state")
    assert partitions(catalog.current()) == {"2024-01-15|CA"}
    on_sqlite.report(file_record("NY"))
    log.down = None
    wait_for(lambda: partitions(catalog.current()) == {"2024-01-15|CA", "2024-01-15|NY"})
    assert catalog.lag().full_reads == 0


@pytest.mark.usefixtures("heavy")
def test_a_state_folder_that_fills_up_does_not_stop_the_catalog(
    on_sqlite: Any, catalog_of: Opened, file_record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_sqlite.report(file_record("CA"))
    catalog = catalog_of(on_sqlite.open(), tmp_path / "state")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        on_sqlite.report(file_record("NY"))
        assert partitions(catalog.refresh()) == {"2024-01-15|CA", "2024-01-15|NY"}
    on_sqlite.report(file_record("TX"))
    catalog.refresh()
    catalog.close()
    again = catalog_of(on_sqlite.open(), tmp_path / "state")
    assert partitions(again.current()) == {"2024-01-15|CA", "2024-01-15|NY", "2024-01-15|TX"}
    assert again.lag().full_reads == 0


def test_a_shared_catalog_serves_what_is_on_disk_and_says_why_it_is_behind(
    on_sqlite: Any, catalog_of: Opened, file_record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_sqlite.report(file_record("CA"))
    clock = Clock()
    catalog = catalog_of(on_sqlite.open(), tmp_path / "state", poll_interval_s=600, shared=True, clock=clock)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    on_sqlite.report(file_record("NY"))
    clock.now += 10
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        assert partitions(catalog.refresh()) == {"2024-01-15|CA"}
    clock.now += 1.5
    assert partitions(catalog.refresh()) == {"2024-01-15|CA"}, "it is not tried again yet"
    assert "no space left on device" in str(catalog.lag().last_error)
    assert catalog.lag().age_s == 11.5
    clock.now += 0.5
    assert partitions(catalog.refresh()) == {"2024-01-15|CA", "2024-01-15|NY"}
    assert (catalog.lag().last_error, catalog.lag().age_s) == (None, 0)


def test_closing_twice_is_allowed(on_sqlite: Any, catalog_of: Opened, file_record: Record) -> None:
    on_sqlite.report(file_record("CA"))
    catalog = catalog_of(on_sqlite.open())
    catalog.close()
    catalog.close()
    assert partitions(catalog.current()) == {"2024-01-15|CA"}

"""The event log of a plain DAGSTER_HOME."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagfusion_client.errors import EventLogSchemaError, EventLogUnavailableError
from dagfusion_query.event_log.event_log_interface import Event
from dagfusion_query.event_log.sqlite import SqliteEventLog

Record = Callable[..., dict[str, Any]]


def index(home: Path) -> Path:
    return home / "history" / "runs" / "index.db"


@pytest.mark.usefixtures("processes")  # of a run, whose output Dagster keeps
def test_an_id_that_is_given_out_again_is_noticed(on_sqlite: Any, file_record: Record) -> None:
    log = on_sqlite.open()
    first = on_sqlite.materialize(file_record(partition=[], rows=1))
    cursor = log.read_all(lambda _: None)
    on_sqlite.instance.delete_run(first)
    on_sqlite.materialize(file_record(partition=[], rows=2))
    received: list[Event] = []
    assert "is not the one that was read" in str(log.poll(cursor).full_read_reason)
    again = log.read_all(received.extend)
    assert again.watermark.settled <= cursor.watermark.settled, "SQLite did give the id out again"
    assert len(received) == 1


def test_nothing_is_written_and_a_writer_does_not_stop_the_reader(on_sqlite: Any, file_record: Record) -> None:
    on_sqlite.report(file_record())
    log = on_sqlite.open()
    with sqlite3.connect(index(on_sqlite.home), isolation_level=None) as writer:
        writer.execute("begin immediate")
        writer.execute("delete from event_logs")
        received: list[Event] = []
        log.read_all(received.extend)
        assert len(received) == 1
        writer.execute("rollback")
    writer.close()
    with pytest.raises(EventLogUnavailableError, match="readonly"):
        log._read(lambda connection: connection.execute("delete from event_logs"))


def test_a_home_without_runs_is_told(tmp_path: Path) -> None:
    with pytest.raises(EventLogUnavailableError, match="materialize an asset, or check DAGSTER_HOME"):
        SqliteEventLog(index(tmp_path)).read_all(lambda _: None)


def test_what_is_no_event_log_is_told(tmp_path: Path) -> None:
    path = index(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("not a database, but long enough for its header to be read as one" * 20)
    with pytest.raises(EventLogSchemaError, match="not an SQLite file that can be read"):
        SqliteEventLog(path).read_all(lambda _: None)
    path.unlink()
    sqlite3.connect(path).execute("create table t (x)").connection.close()
    with pytest.raises(EventLogSchemaError, match="not an event log of Dagster's: no such table"):
        SqliteEventLog(path).read_all(lambda _: None)


def test_another_file_in_its_place_is_another_log(on_sqlite: Any, file_record: Record) -> None:
    on_sqlite.report(file_record())
    log = on_sqlite.open()
    before = log.identity()
    path = index(on_sqlite.home)
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)
    assert log.identity() != before


def test_a_path_with_signs_that_a_uri_reserves_opens(tmp_path: Path) -> None:
    path = index(tmp_path / "a?b#c %41&mode=rwc")
    path.parent.mkdir(parents=True)
    sqlite3.connect(path).execute("create table event_logs (id)").connection.close()
    with pytest.raises(EventLogSchemaError, match="no such table: asset_keys"):
        SqliteEventLog(path).read_all(lambda _: None)

"""The history of queries: kept over restarts, bounded, shared, and never a reason for a query to fail."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dagfusion_client.documents.query_documents import Failure, QueryCost, QueryInfo, ScanStats, State, Stats
from dagfusion_query.access.grants import Caller, Grants
from dagfusion_server.service import query_history as history_module
from dagfusion_server.service.query_history import FILE_NAME, QueryHistory
from dagfusion_server.service.query_registry import Query, Registry
from tests.query.disk import SmallDisk
from tests.query.engine.conftest import Lake
from tests.server.service.conftest import ANN, PublishedCatalogs, Serve
from tests.waiting import PATIENCE_S, eventually

AT = datetime(2026, 1, 2, tzinfo=UTC)
BOB = Caller("bob", Grants.parse(["local"]), "http", "token-of-bob")
WRITER = """
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from dagfusion_client.documents.query_documents import QueryInfo, State, Stats
from dagfusion_server.service.query_history import QueryHistory

history = QueryHistory(Path(sys.argv[1]), 500, 1 << 30)
while True:
    history.record(QueryInfo(token_hex(8), "", "", "SELECT 1" * 200, State.finished, datetime.now(UTC), Stats()), "ann")
    time.sleep(0.0005)
"""


def info(number: int, user: str = "ann", **changes: object) -> QueryInfo:
    """Return a query that ended at its second."""
    ended = AT + timedelta(seconds=number)
    query = QueryInfo(f"q{number}", user, "http", f"SELECT {number}", State.finished, AT, Stats(rows=number), None)
    return replace(query, ended_at=ended, **changes)  # type: ignore[arg-type]


def ids(history: QueryHistory, owner: str | None = None, limit: int = 100, before: datetime | None = None) -> list[str]:
    return [found.id for found in history.infos(owner, limit, before)]


def closed(history: QueryHistory) -> None:
    """Close a history, and wait until all is written, however long the disk takes."""
    history.close()
    if history._thread is not None:
        history._thread.join(PATIENCE_S)


def written(history: QueryHistory, *infos: QueryInfo) -> None:
    """Record queries, and wait until they are written."""
    for one in infos:
        history.record(one, one.user)
    closed(history)


def missing(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings that the history has written."""
    return [text for text in caplog.messages if "queries are missing in the history" in text]


def test_all_of_a_query_outlives_the_service_but_for_its_scans(tmp_path: Path) -> None:
    stats = Stats(files_read=2, bytes_read=7, requests=3, generations={"uat": 9}, scans=[ScanStats("t", 1, 1, 1, 1)])
    failed = info(
        1,
        stats=stats,
        state=State.failed,
        error=Failure(code="sql_syntax", message="no", line=1),
        as_of="4711",
        cost=QueryCost(0.1, 0.2, "2025-06-01"),
    )
    written(QueryHistory(tmp_path, 10, 1 << 30), failed)

    kept = replace(failed, stats=replace(stats, scans=[], runs=[], warnings=[]))
    assert QueryHistory(tmp_path, 10, 1 << 30).infos(None, 10) == [kept]
    assert QueryHistory(tmp_path, 10, 1 << 30).info("q1", "ann") == kept
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0


def test_pages_and_owners(tmp_path: Path) -> None:
    history = QueryHistory(tmp_path, 100, 1 << 30)
    written(history, *(info(number, "ann" if number % 2 else "bob") for number in range(6)))

    assert ids(history) == ["q5", "q4", "q3", "q2", "q1", "q0"]
    assert ids(history, limit=2) == ["q5", "q4"]
    assert ids(history, limit=2, before=AT + timedelta(seconds=4)) == ["q3", "q2"]
    assert ids(history, "bob") == ["q4", "q2", "q0"]
    assert history.info("q4", "ann") is None
    assert history.info("q4", "bob") is not None


def test_the_oldest_are_deleted(tmp_path: Path) -> None:
    written(QueryHistory(tmp_path, 3, 1 << 30), *map(info, range(5)))
    history = QueryHistory(tmp_path, 3, 1 << 30)
    written(history, info(5))
    assert ids(history) == ["q5", "q4", "q3"]


def test_the_file_has_its_bytes_and_no_more(tmp_path: Path) -> None:
    most, file = 400_000, tmp_path / FILE_NAME
    for batch in range(3):
        long = [info(number, sql="x" * 5000) for number in range(100 * batch, 100 * (batch + 1))]
        written(QueryHistory(tmp_path, 1000, most), *long)
        assert file.stat().st_size <= most
        found = ids(QueryHistory(tmp_path, 1000, most), limit=1000)
        assert found[0] == f"q{100 * (batch + 1) - 1}"
        assert 40 < len(found) < 80
    history = QueryHistory(tmp_path, 1000, most)
    for number in range(300, 320):  # little by little
        history._write(history_module._rows([(info(number, sql="x" * 5000), "ann")]))
        assert file.stat().st_size <= most
    written(QueryHistory(tmp_path, 5, most), info(320))
    assert file.stat().st_size < most / 4, "fewer are to be kept: the file becomes smaller"
    assert ids(QueryHistory(tmp_path, 5, most)) == ["q320", "q319", "q318", "q317", "q316"]


def test_what_waits_for_the_disk_has_its_bytes_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history_module, "_WAITING_BYTES", 12_000)
    history, locked, write = QueryHistory(tmp_path, 10, 1 << 30), threading.Event(), QueryHistory._write

    def wait(*given: object) -> None:
        locked.wait(PATIENCE_S)
        write(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(QueryHistory, "_write", wait)
    for number in range(5):
        history.record(info(number, sql="x" * 5000), "ann")
    locked.set()
    closed(history)
    assert ids(history) == ["q1", "q0"]
    assert len(missing(caplog)) == 1
    history = QueryHistory(tmp_path, 10, 1 << 30)
    written(history, *(info(number, sql="x" * 3000) for number in range(5, 8)))
    assert ids(history, limit=3) == ["q7", "q6", "q5"]


def test_a_read_changes_nothing(tmp_path: Path) -> None:
    history = QueryHistory(tmp_path, 10, 1 << 30)
    assert ids(history) == []
    assert list(tmp_path.iterdir()) == []
    written(history, info(1))
    os.utime(tmp_path / FILE_NAME, (1, 1))
    (tmp_path / FILE_NAME).chmod(0o400)
    assert ids(history) == ["q1"]
    assert (tmp_path / FILE_NAME).stat().st_mtime == 1


def test_none_is_kept_with_zero(tmp_path: Path) -> None:
    written(QueryHistory(tmp_path, 10, 1 << 30), info(0))
    (tmp_path / f"{FILE_NAME}.damaged").write_bytes(b"an older file that was put aside")
    history = QueryHistory(tmp_path, 0, 1 << 30)
    written(history, info(1))
    assert ids(history) == []
    assert list(tmp_path.iterdir()) == []


def test_services_share_a_folder(tmp_path: Path) -> None:
    services = [QueryHistory(tmp_path, 1000, 1 << 30) for _ in range(3)]
    for number in range(300):
        services[number % 3].record(info(number), "ann")
    for service in services:
        closed(service)
    assert {*ids(services[0], limit=1000)} == {f"q{number}" for number in range(300)}


def test_a_query_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    history = QueryHistory(tmp_path, 10, 1 << 30)
    written(history, info(1))
    other = QueryHistory(tmp_path, 10, 1 << 30)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("begin exclusive")
        other.record(info(2), "ann")  # while the file is locked
        database.rollback()
    closed(other)
    assert ids(other) == ["q2", "q1"]


def test_a_folder_that_is_missing_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "state"
    history = QueryHistory(folder, 10, 1 << 30)
    for number in range(3):
        history._write([(f"q{number}", "ann", number, b"{}")])
    assert len(missing(caplog)) == 1
    folder.mkdir()
    history._write([("q9", "ann", 9, b"{}")])
    assert len(missing(caplog)) == 1
    assert (folder / FILE_NAME).exists()


def test_a_full_disk_costs_history_only(
    small_disk: SmallDisk, lake: Lake, new_served: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    catalogs = PublishedCatalogs(small_disk.folder.parent / "service")
    catalogs.publish(lake.snapshot)
    served = new_served(catalogs, workers=1)
    history = served.service._history = served.service._registry._history = QueryHistory(
        small_disk.folder, 100, 1 << 30
    )
    small_disk.fill()
    assert served.rows("SELECT 1 AS n") == [{"n": 1}]
    served.wait_for(lambda: any("is full" in text for text in missing(caplog)))
    assert history.infos(None, 10) == []

    small_disk.empty()
    assert served.rows("SELECT 2 AS n") == [{"n": 2}]
    served.wait_for(lambda: [one.sql for one in history.infos(None, 10)] == ["SELECT 2 AS n"])


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    history = QueryHistory(tmp_path, 10, 1 << 30)
    assert ids(history) == []
    assert len(missing(caplog)) == 1
    assert (tmp_path / FILE_NAME).read_bytes() == content
    written(history, info(1))
    assert ids(history) == ["q1"]
    assert (tmp_path / f"{FILE_NAME}.damaged").read_bytes() == content


@pytest.mark.usefixtures("heavy")
def test_a_page_ends_when_its_texts_are_long(tmp_path: Path) -> None:
    history, long = QueryHistory(tmp_path, 2000, 1 << 30), "é" * 5000
    failed = Failure(code="sql_syntax", message="x" * 10_000)
    written(history, *(info(number, sql=long, error=failed if number % 2 else None) for number in range(1000)))
    found = history.infos(None, 1000)
    texts = sum(len(one.sql.encode()) + (0 if one.error is None else len(one.error.message)) for one in found)
    assert 4 << 20 <= texts < (4 << 20) + 20_000
    assert history.infos(None, 1000, found[-1].ended_at)[0].id == f"q{999 - len(found)}"


def test_the_pages_of_one_owner_need_no_look_at_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, asked = QueryHistory(tmp_path, 10, 1 << 30), list[str]()
    written(history, info(1))
    connect = sqlite3.connect

    def traced(path: str, timeout: float, *, uri: bool) -> sqlite3.Connection:
        database = connect(path, timeout=timeout, uri=uri)
        database.set_trace_callback(asked.append)
        return database

    monkeypatch.setattr(sqlite3, "connect", traced)
    assert ids(history, "bob", before=AT) == []
    with closing(connect(tmp_path / FILE_NAME)) as database:
        [plan] = database.execute(f"explain query plan {asked[-1]}").fetchall()
    assert "SEARCH queries USING INDEX queries_by_owner (owner=? AND ended_us<?)" in plan


@pytest.mark.parametrize("document", [b'{"id": "x"}', b'{"id": "q', None, "QueryInfo of a newer service"])
def test_a_row_that_cannot_be_read_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, document: object
) -> None:
    history = QueryHistory(tmp_path, 10, 1 << 30)
    written(history, info(1), info(2), info(3))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database, database:
        database.execute("update queries set document = ? where id = 'q2'", (document,))
    for _ in range(2):
        assert ids(history, limit=2) == ["q3", "q1"]
        assert history.info("q2", "ann") is None
    assert len(missing(caplog)) == 1


def test_the_writer_survives_a_query_that_cannot_be_encoded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = QueryHistory(tmp_path, 10, 1 << 30)
    for one in (info(1), info(2, stats=Stats(rows=1 << 70)), info(3)):
        history.record(one, "ann")
    assert eventually(lambda: ids(history) == ["q3", "q1"])
    written(history, info(4))
    assert ids(history) == ["q4", "q3", "q1"]
    assert "the query q2 is missing in the history" in caplog.messages


def test_the_writer_survives_any_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    history, write = QueryHistory(tmp_path, 10, 1 << 30), QueryHistory._write

    def fail(*_: object) -> None:
        monkeypatch.setattr(QueryHistory, "_write", write)
        raise MemoryError

    monkeypatch.setattr(QueryHistory, "_write", fail)
    history.record(info(1), "ann")
    assert eventually(lambda: len(missing(caplog)) == 1)
    written(history, info(2))
    assert ids(history) == ["q2"]


def test_a_read_waits_for_a_locked_file_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history, waits = QueryHistory(tmp_path, 10, 1 << 30), list[float]()
    written(history, info(1))
    connect = sqlite3.connect

    def timed(path: str, timeout: float, *, uri: bool) -> sqlite3.Connection:
        waits.append(timeout)
        return connect(path, timeout=timeout, uri=uri)

    monkeypatch.setattr(sqlite3, "connect", timed)
    with closing(connect(tmp_path / FILE_NAME)) as database:
        database.execute("begin exclusive")
        assert history.infos(None, 10) == []
    assert max(waits) <= 1


def test_a_killed_service_leaves_a_whole_file(tmp_path: Path, processes: None) -> None:  # noqa: ARG001  # it starts one
    known: set[str] = set()
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) as writer:  # noqa: S603  # of this test
            before = known
            assert eventually(lambda: not before.issuperset(ids(QueryHistory(tmp_path, 10, 1 << 30), limit=1)))  # noqa: B023
            os.kill(writer.pid, signal.SIGKILL)
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        known = {*ids(QueryHistory(tmp_path, 10, 1 << 30), limit=1000)}
        assert 0 < len(known) <= 500


def test_many_queries_are_written_before_the_registry_forgets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "_GATHER_S", PATIENCE_S)
    history = QueryHistory(tmp_path, 10_000, 1 << 30)
    for number in range(history_module._BATCH + 1):  # the writer may have taken one, and waits for a batch beside it
        history.record(info(number), "ann")
    assert eventually(lambda: len(ids(history, limit=10_000)) >= history_module._BATCH)
    monkeypatch.undo()
    closed(history)


def test_a_query_of_a_token_is_that_of_its_id(tmp_path: Path) -> None:
    history = QueryHistory(tmp_path, 10, 1 << 30)
    registry = Registry(1, history, lambda stats: QueryCost(0.0, stats.total_s, "2025-06-01"))
    for caller in (BOB, ANN):
        entry = registry.open(Query("SELECT 1"), caller)
        entry.update_stats(total_s=2.5)
        entry.end(State.finished, None)
        registry.close(entry, keep=True)
    closed(history)
    [bobs] = history.infos("token-of-bob", 10)
    assert bobs.ended_at == bobs.submitted_at + timedelta(seconds=2.5)
    assert bobs.cost == QueryCost(0.0, 2.5, "2025-06-01")
    assert len(history.infos(None, 10)) == 2


def test_queries_of_a_service_that_stopped_are_listed_by_the_next(
    lake: Lake, tmp_path: Path, new_served: Serve
) -> None:
    catalogs = PublishedCatalogs(tmp_path)
    catalogs.publish(lake.snapshot)
    before = new_served(catalogs, workers=1)
    before.rows("SELECT count(*) AS n FROM local_silver_tax_id.orgs WHERE name <> ''")
    mine = before.latest()
    before.rows("SELECT 2 AS n", BOB)
    before.loop.run(before.service.close())
    closed(before.service._history)

    after = new_served(catalogs, workers=1)
    recorded, one = after.service.recorded_queries, after.service.recorded_query
    assert [found.sql for found in after.loop.run(recorded(ANN, 10))] == [
        "SELECT 2 AS n",
        "SELECT count(*) AS n FROM local_silver_tax_id.orgs WHERE name <> ''",
    ]
    assert [found.user for found in after.loop.run(recorded(BOB, 10))] == ["bob"]
    after.rows("SELECT 3 AS n", BOB)
    assert [found.sql for found in after.loop.run(recorded(BOB, 10))] == ["SELECT 3 AS n", "SELECT 2 AS n"]
    assert [found.sql for found in after.loop.run(recorded(BOB, 1))] == ["SELECT 3 AS n"]
    assert after.loop.run(recorded(ANN, 10, mine.submitted_at)) == []
    found = after.loop.run(one(mine.id, ANN))
    assert found.cost is not None
    assert found.cost == mine.cost
    assert found.cost.worker_usd > 0
    assert found.stats.generations == {"local": after.generation("local")}

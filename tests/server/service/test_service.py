"""What the service does for its doors, with real workers."""

import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_client.documents.query_documents import QueryInfo, State
from dagfusion_client.errors import (
    ExecutionError,
    PlanError,
    ReadOnlyError,
    SqlSyntaxError,
    TooBusyError,
    UnknownQueryError,
    UnknownTableError,
)
from dagfusion_client.formats import Format
from dagfusion_query.access.grants import Caller, Grants
from dagfusion_query.event_log.event_log_interface import History
from dagfusion_server.service import service as service_module
from dagfusion_server.service.query_registry import Query
from tests.server.service.conftest import ANN, Loop, PublishedCatalogs, Served
from tests.waiting import PATIENCE_S, eventually

ORGS = "local_silver_tax_id.orgs"
BOB = Caller("bob", Grants.parse(["local"]), "flight")


def test_the_stats_say_what_a_query_cost(served: Served) -> None:
    encoded, stream = served.loop.run(served.read(f"SELECT npi FROM {ORGS} WHERE day = 2"))

    stats = stream.stats
    assert (stats.files_total, stats.files_read, stats.files_skipped, stats.path) == (6, 2, 4, "splice")
    assert (stats.rows, stats.result_bytes, stats.truncated) == (2000, len(encoded), False)
    assert stats.bytes_read > 0
    assert stats.generations == {"local": served.generation("local")}
    assert [(scan.table, scan.files_total, scan.files_read) for scan in stats.scans] == [(ORGS, 6, 2)]
    assert 0 < stats.scans[0].bytes_kept < stats.scans[0].bytes_total
    assert stats.total_s >= stats.planning_s > 0
    assert served.ask(lambda: served.service.query(stream.id, ANN)).stats == stats


@pytest.mark.parametrize(
    ("sql", "files"), [(f"SELECT npi FROM {ORGS} WHERE day = 2", 2), (f"EXPLAIN SELECT npi FROM {ORGS}", 0)]
)
def test_files_are_read_that_were_opened(served: Served, sql: str, files: int) -> None:
    stats = served.loop.run(served.read(sql))[1].stats

    assert (stats.files_total, stats.files_read, stats.files_skipped) == (6, files, 6 - files)


@pytest.mark.parametrize(("sql", "path"), [(f"SELECT count(*) FROM {ORGS}", "catalog"), ("SELECT 1", "catalog")])
def test_what_needs_no_file_says_so(served: Served, sql: str, path: str) -> None:
    assert served.loop.run(served.read(sql))[1].stats.path == path


def test_a_short_result_is_complete_with_its_first_bytes(served: Served) -> None:
    async def first() -> tuple[bool, int]:
        stream = await served.stream("SELECT 1 AS a")
        complete, rows = stream.is_complete, stream.stats.rows
        await stream.close()
        return complete, rows

    # The worker's last message may come after the wait for it, on a busy machine.
    assert eventually(lambda: served.loop.run(first()) == (True, 1))
    assert served.latest().state is State.finished


def test_each_chunk_of_an_arrow_result_is_whole_messages(served: Served) -> None:
    async def chunks() -> list[bytes]:
        stream = await served.stream("SELECT value, repeat('x', 1000) AS text FROM generate_series(1, 20000)")
        return [bytes(chunk) async for chunk in stream]

    received = served.loop.run(chunks())
    assert len(received) > 5
    schema = pa.ipc.read_schema(pa.py_buffer(received[0]))
    rows = 0
    for number, chunk in enumerate(received):
        reader = pa.BufferReader(chunk)
        while reader.tell() < len(chunk):
            if chunk[reader.tell() :] == b"\xff\xff\xff\xff\x00\x00\x00\x00":
                assert number == len(received) - 1
                break
            message = pa.ipc.read_message(reader)
            rows += pa.ipc.read_record_batch(message, schema).num_rows if message.type == "record batch" else 0
    assert rows == 20_000
    assert max(len(chunk) for chunk in received) < 4 << 20


def test_every_format_is_one(served: Served) -> None:
    sql = f"SELECT npi, name FROM {ORGS} WHERE state = 'CA' AND day = 1 ORDER BY npi LIMIT 2"
    assert served.bytes(sql, "csv") == b'npi,name\r\n0,"name 0"\r\n1,"name 1"\r\n'
    assert served.bytes(sql, "jsonl") == b'{"npi":0,"name":"name 0"}\n{"npi":1,"name":"name 1"}\n'
    assert served.bytes(sql, "json") == (
        b'{"columns":[{"name":"npi","type":"int64"},{"name":"name","type":"string"}],'
        b'"rows":[[0,"name 0"],[1,"name 1"]]}'
    )
    assert pq.read_table(pa.BufferReader(served.bytes(sql, "parquet"))).to_pydict() == {
        "npi": [0, 1],
        "name": ["name 0", "name 1"],
    }
    assert served.table(sql).to_pydict() == {"npi": [0, 1], "name": ["name 0", "name 1"]}


def test_empty_results_have_their_columns(served: Served) -> None:
    sql = f"SELECT npi, name FROM {ORGS} WHERE npi < 0"
    assert served.table(sql).schema.names == ["npi", "name"]
    assert served.bytes(sql, "csv") == b"npi,name\r\n"
    assert served.bytes(sql, "jsonl") == b""
    assert served.bytes(sql, "json").endswith(b'"rows":[]}')
    assert pq.read_table(pa.BufferReader(served.bytes(sql, "parquet"))).num_rows == 0


def test_a_wanted_cut_is_no_error(served: Served) -> None:
    encoded, stream = served.loop.run(served.read("SELECT value FROM generate_series(1, 1000000)", limit_rows=10))
    assert pa.ipc.open_stream(encoded).read_all().num_rows == 10
    assert (stream.stats.rows, stream.stats.truncated) == (10, True)

    assert len(served.rows("SELECT value FROM generate_series(1, 10)", limit_rows=10**30)) == 10
    _, whole = served.loop.run(served.read("SELECT value FROM generate_series(1, 10)", limit_rows=10))
    assert (whole.stats.rows, whole.stats.truncated) == (10, False)


def test_describe_only_plans(served: Served) -> None:
    schema = served.loop.run(served.service.describe(Query(f"SELECT npi, state FROM {ORGS}"), ANN))
    assert schema.names == ["npi", "state"]


def test_what_only_plans_is_not_among_the_queries(served: Served) -> None:
    before = len(served.ask(lambda: served.queries(ANN)))
    served.loop.run(served.service.describe(Query("SELECT 1"), ANN))
    served.loop.run(served.service.explain(Query("SELECT 1"), ANN))
    assert len(served.ask(lambda: served.queries(ANN))) == before


def test_explain_says_what_would_be_read(served: Served) -> None:
    found = served.loop.run(served.service.explain(Query(f"SELECT npi FROM {ORGS} WHERE day = 2 AND npi > 5"), ANN))
    (scan,) = found.scans
    assert (found.path, scan.files_total, scan.files_read) == ("splice", 6, 2)
    assert scan.partitions == ["CA|2", "NY|2"]
    assert [(f.skipped, f.by) for f in scan.filters] == [(4, "partition values"), (0, "statistics")]
    assert all(uri.startswith("[folder]/") for uri in scan.uris)
    assert found.generations == {"local": served.generation("local")}


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELEC 1", SqlSyntaxError),
        ("SELECT * FROM local_silver_tax_id.org", UnknownTableError),
        (f"SELECT nope FROM {ORGS}", PlanError),
        ("CREATE TABLE x AS SELECT 1", ReadOnlyError),
        ("COPY (SELECT 1) TO '/tmp/x.parquet'", ReadOnlyError),
        (f"INSERT INTO {ORGS} VALUES (1, 'x', 'CA', 1)", ReadOnlyError),
        ("SELECT 1/0", ExecutionError),
        ("SELECT 1; SELECT 2", PlanError),
        ("", PlanError),
    ],
)
def test_errors_cross_the_process(served: Served, sql: str, error: type[Exception]) -> None:
    assert isinstance(served.error(sql), error)
    info = served.latest()
    assert (info.state, info.sql) == (State.failed, sql)
    assert info.error is not None


@pytest.mark.parametrize("name", ["x" * 100_000, "\u20ac" * 30_000])
def test_a_long_error_has_its_ends(served: Served, name: str) -> None:
    said = str(served.error(f'SELECT "{name}"'))
    assert said.startswith("No field named")
    assert len(said.encode()) < 1600, "more is no message of gRPC's, and a history of a thousand fills the memory"
    assert str(served.error(f'SELECT * FROM "{name}"')).endswith("lists the tables")


def test_queries_are_seen_by_their_user_and_by_who_may_see_everything(served: Served) -> None:
    served.rows("SELECT 'of bob'", BOB)
    mine = served.ask(lambda: served.queries(BOB))
    everything = served.ask(lambda: served.queries(ANN))
    assert {info.user for info in mine} == {"bob"}
    assert {info.user for info in everything} >= {"ann", "bob"}
    assert everything == sorted(everything, key=lambda info: info.submitted_at, reverse=True)
    of_ann = next(info for info in everything if info.user == "ann")
    with pytest.raises(UnknownQueryError):
        served.ask(lambda: served.service.query(of_ann.id, BOB))
    with pytest.raises(UnknownQueryError):
        served.ask(lambda: served.service.cancel(of_ann.id, BOB))


def test_a_stream_that_is_read_again_gives_nothing_twice(served: Served) -> None:
    async def read() -> list[int]:
        stream = await served.stream("SELECT 1", format=Format.jsonl)
        return [sum([len(chunk) async for chunk in stream]) for _ in range(2)]

    first, second = served.loop.run(read())
    assert first > 0
    assert second == 0


def test_metrics_count_queries_files_and_workers(served: Served) -> None:
    served.rows(f"SELECT npi FROM {ORGS} WHERE day = 2")
    served.error("SELEC")
    served.wait_for(lambda: b"dagfusion_workers_live 3.0" in served.service.metrics())
    text = served.ask(served.service.metrics).decode()
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(numbers['dagfusion_queries_total{door="http",outcome="finished"}']) >= 1
    assert float(numbers['dagfusion_queries_total{door="http",outcome="sql_syntax"}']) >= 1
    assert float(numbers["dagfusion_files_skipped_total"]) >= 4
    assert float(numbers["dagfusion_workers_live"]) == 3
    assert float(numbers["dagfusion_workers_busy"]) == 0
    assert float(numbers['dagfusion_catalog_generation{environment="local"}']) == served.generation("local")
    assert float(numbers['dagfusion_catalog_lag_seconds{environment="local"}']) == 0.25
    assert float(numbers['dagfusion_catalog_undiscovered{environment="local"}']) == 3
    assert "dagfusion_query_seconds_bucket" in text


def test_few_histories_are_read_at_once_and_queries_go_on(served: Served) -> None:
    begun, may_end = threading.Semaphore(0), threading.Event()
    told = History([], 1, None)

    def slowly(*_: object) -> History:
        begun.release()
        assert may_end.wait(60)
        return told

    served.catalogs.on_history = slowly
    asked = [served.loop.start(served.service.history("local", ("a",), str(number))) for number in range(20)]
    assert begun.acquire(timeout=60)
    assert begun.acquire(timeout=60)
    assert served.rows("SELECT 1 AS a") == [{"a": 1}]
    assert not begun.acquire(blocking=False), "a slow database has two of them at most"
    may_end.set()
    assert [history.result(60) for history in asked] == [told] * 20


def test_reads_have_two_threads_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, waiting, locked = Loop(), set[str](), threading.Event()
    reads = Served(loop, PublishedCatalogs(tmp_path), {}, {}).service  # which needs no worker

    def wait(*_: object) -> list[QueryInfo]:
        waiting.add(threading.current_thread().name)
        locked.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(service_module, "_RECORDED_TIMEOUT_S", 0.5)
    monkeypatch.setattr(reads._history, "infos", wait)
    asked = [loop.start(reads.recorded_queries(ANN, 10)) for _ in range(8)]
    try:
        for one in asked:
            with pytest.raises(TooBusyError, match="try again"):
                one.result(PATIENCE_S)
    finally:
        locked.set()
        loop.close()
    assert len(waiting) == 2

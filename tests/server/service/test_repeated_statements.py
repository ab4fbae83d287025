"""Statements that come again: columns and kept results without a worker, never those of another catalog or caller."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_client.documents.query_documents import ScanStats, State
from dagfusion_client.errors import QueryError, UnknownTableError
from dagfusion_query.access.grants import Caller, Grants
from dagfusion_query.object_cache import CACHE
from dagfusion_server.environments import Environments
from dagfusion_server.service import repeated_statements
from dagfusion_server.service.query_registry import Query
from dagfusion_server.service.repeated_statements import KeptResult, RepeatedStatements
from dagfusion_server.service.worker_handle import Handle
from dagfusion_server.worker.messages import Cost, End, Planned
from tests.query.engine.conftest import Lake
from tests.server.service.conftest import ANN, PublishedCatalogs, Serve, Served, serving
from tests.server.service.test_endings import ENDLESS_ROWS
from tests.tiers import examples
from tests.waiting import eventually

SQL = "SELECT * FROM local_gold.totals"
BOB = Caller("bob", Grants.parse(["local_silver_tax_id.orgs"]), "flight")


def described(served: Served, sql: str = SQL, caller: Caller = ANN, row: pa.RecordBatch | None = None) -> pa.Schema:
    return served.loop.run(served.service.describe(Query(sql, row), caller))


def planned(served: Served) -> float:
    lines = served.ask(served.service.metrics).decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("dagfusion_plans_total"))


def test_columns_are_known_until_the_catalog_changes(
    new_served: Serve, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = Lake(tmp_path_factory.mktemp("own"))
    own.write(("Gold", "totals"), pa.table({"total": [1]}), folder="")
    catalogs = PublishedCatalogs(tmp_path_factory.mktemp("state"))
    catalogs.publish(own.snapshot)
    served = new_served(catalogs, workers=1)
    for _ in range(3):
        assert described(served).names == ["total"]
    assert planned(served) == 1
    own.write(("Gold", "totals"), pa.table({"total": [1], "more": ["x"]}), folder="")
    catalogs.publish(own.snapshot)
    for _ in range(2):
        assert described(served).names == ["total", "more"]
    assert planned(served) == 2
    own.engine.close()


def test_parameters_and_callers_are_told_apart(served: Served) -> None:
    typed = "SELECT $1 AS a"
    rows = [pa.record_batch({"1": pa.array([value])}) for value in (1, "x")]
    for _ in range(2):
        assert [described(served, typed, row=row).types for row in rows] == [[pa.int64()], [pa.string()]]
        assert described(served).names == ["total"]
        with pytest.raises(UnknownTableError):
            described(served, caller=BOB)


def test_errors_are_not_remembered(served: Served) -> None:
    for _ in range(2):
        with pytest.raises(QueryError):
            described(served, "SELECT none FROM local_gold.totals")
        assert served.latest().state is State.failed


T = "local_default.t"
TIMES = 4  # until the service itself has the result: it runs, is kept, is taken by a worker, and by the service
STATEMENTS = [
    f"SELECT sum(x) AS n, count(x) AS c FROM {T}",
    f"SELECT p, max(x + 0) AS m FROM {T} GROUP BY p ORDER BY p",
    f"SELECT x FROM {T} WHERE p = 'a' ORDER BY x",
    f"SELECT x FROM {T} WHERE p IN ('b', 'c') AND x > 5 ORDER BY x",
]
OF_A = STATEMENTS[2]
WRITE = st.tuples(st.sampled_from("abc"), st.lists(st.integers(0, 9), min_size=1, max_size=4))
ASK = st.tuples(st.just("?"), st.sampled_from(STATEMENTS))


class KeptLake:
    """A lake whose service keeps results, which counts the statements that workers take."""

    def __init__(self, root: Path, serve: Serve, **engine: Any) -> None:
        self.lake = Lake(root / "lake", with_checksums=True, with_etags=True)
        self.catalogs = PublishedCatalogs(root / "catalogs")
        self.put("a", [1])
        self.served = serve(self.catalogs, workers=1, engine={"result_cache_dir": str(root / "results"), **engine})

    def put(self, p: str, numbers: Sequence[int]) -> None:
        rows = pa.table({"x": pa.array(numbers, pa.int64())})
        self.lake.write(("t",), rows, {"p": pa.scalar(p)}, folder=f"p={p}")
        self.catalogs.publish(self.lake.snapshot)

    def ask(self, sql: str, caller: Caller = ANN, **query: Any) -> list[dict[str, Any]]:
        return self.served.rows(sql, caller, **query)

    def is_known(self, sql: str = OF_A, caller: Caller = ANN, **query: Any) -> bool:
        """Return True if the service itself has the result."""
        known = self.served.service._repeated
        return known.result(known.result_key(Query(sql, **query), caller)) is not None


@pytest.fixture
def kept(new_served: Serve, tmp_path: Path) -> Iterator[Callable[..., KeptLake]]:
    made: list[KeptLake] = []

    def make(**engine: Any) -> KeptLake:
        made.append(KeptLake(tmp_path, new_served, **engine))
        return made[-1]

    yield make
    for lake in made:
        lake.lake.engine.close()


def known(lake: KeptLake, sql: str = OF_A, caller: Caller = ANN, **query: Any) -> None:
    """Ask until the service has the result: a worker writes what it keeps beside its next statements."""
    assert eventually(lambda: bool(lake.ask(sql, caller, **query)) and lake.is_known(sql, caller, **query))


def test_a_result_that_is_known_needs_no_worker(kept: Callable[..., KeptLake], monkeypatch: pytest.MonkeyPatch) -> None:
    lake = kept()
    known(lake)
    by_worker = lake.served.latest()
    begun: list[str] = []
    begin = Handle.begin

    async def counted(handle: Handle, statement: Any, body: bytes) -> None:
        begun.append(statement.sql)
        await begin(handle, statement, body)

    monkeypatch.setattr(Handle, "begin", counted)
    assert lake.ask(OF_A) == [{"x": 1}]
    assert begun == []
    info = lake.served.latest()
    assert (info.state, info.stats.path, info.stats.rows) == (State.finished, CACHE, 1)
    assert replace(info.stats, planning_s=0, first_batch_s=0, queued_s=0, total_s=0) == replace(
        by_worker.stats, planning_s=0, first_batch_s=0, queued_s=0, total_s=0
    )
    assert lake.ask(OF_A, result_cache=False) == [{"x": 1}]
    assert begun == [OF_A]


def test_a_result_that_is_known_does_not_wait_for_a_worker_that_is_busy(kept: Callable[..., KeptLake]) -> None:
    lake = kept()
    known(lake)
    stream = lake.served.loop.run(lake.served.stream(ENDLESS_ROWS))
    assert lake.ask(OF_A) == [{"x": 1}]
    assert not stream.is_complete
    lake.served.loop.run(stream.close())


def test_formats_limits_parameters_and_callers_have_their_own(kept: Callable[..., KeptLake]) -> None:
    lake = kept()
    lake.put("a", [1, 2, 3])
    known(lake)
    assert not lake.is_known(limit_rows=2)
    assert lake.ask(OF_A, limit_rows=2) == [{"x": 1}, {"x": 2}]
    for _ in range(TIMES):
        assert lake.served.bytes(OF_A, "csv") == b"x\r\n1\r\n2\r\n3\r\n"
    more = f"SELECT x FROM {T} WHERE x > $1 ORDER BY x"
    for _ in range(TIMES):
        for least in (0, 1, 2):
            row = pa.record_batch({"1": pa.array([least])})
            assert [found["x"] for found in lake.ask(more, params=row)] == [1, 2, 3][least:]
    without_grant = Caller("bob", Grants.parse(["local_gold.totals"]), "http")
    assert isinstance(lake.served.error(OF_A, without_grant), UnknownTableError)
    reader = Caller("eve", Grants.parse([T]), "http")
    assert lake.ask(OF_A, reader) == lake.ask(OF_A)


def test_what_may_have_another_result_is_not_known(kept: Callable[..., KeptLake]) -> None:
    lake = kept()
    for sql in (f"SELECT x, random() AS r FROM {T}", f"SELECT max(x) AS x, now() AS n FROM {T}"):
        found = {str(lake.ask(sql)) for _ in range(TIMES)}
        assert len(found) == TIMES
        assert not lake.is_known(sql)


def test_no_results_without_a_folder_for_them(kept: Callable[..., KeptLake]) -> None:
    lake = kept(result_cache_dir="none")
    for _ in range(TIMES):
        assert lake.ask(OF_A) == [{"x": 1}]
        assert lake.served.latest().stats.path == "splice"
    assert not lake.is_known()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(10))
@given(steps=st.lists(WRITE | ASK, min_size=5, max_size=25))
def test_a_known_result_is_always_that_of_the_rows_now(
    steps: list[tuple[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    processes: None,  # noqa: ARG001  # it starts some
) -> None:
    """Whatever is rewritten between two questions."""
    root = tmp_path_factory.mktemp("fresh")
    with serving(root) as serve:
        lake, rows = KeptLake(root, serve), {"a": [1]}
        try:
            for what, value in steps:
                if what == "?":
                    for _ in range(TIMES):
                        assert lake.ask(value) == _expected(rows, value)
                else:
                    lake.put(what, value)
                    rows[what] = value
        finally:
            lake.lake.engine.close()


def _expected(rows: dict[str, list[int]], sql: str) -> list[dict[str, Any]]:
    """Return the rows of one of `STATEMENTS`, computed without any engine."""
    every = [x for numbers in rows.values() for x in numbers]
    of_b_and_c = [x for p in "bc" for x in rows.get(p, []) if x > 5]
    expected: list[list[dict[str, Any]]] = [
        [{"n": sum(every), "c": len(every)}],
        [{"p": p, "m": max(numbers)} for p, numbers in sorted(rows.items())],
        [{"x": x} for x in sorted(rows.get("a", []))],
        [{"x": x} for x in sorted(of_b_and_c)],
    ]
    return expected[STATEMENTS.index(sql)]


COST = Cost(
    first_batch_s=0.5,
    files_read=0,
    bytes_read=0,
    requests=0,
    requests_s=0.0,
    copies_found=0,
    copies_fetched=0,
    rows=1,
    result_bytes=8,
    truncated=False,
)
PLANNED = Planned(planning_s=0.5, generations={"local": 1}, cached=True, scans=[], path=CACHE)


def result(body: bytes = b"rows", **planned: Any) -> KeptResult:
    return KeptResult(b"schema", body, replace(PLANNED, **planned), End(COST))


def catalogs_of(root: Path) -> tuple[Lake, PublishedCatalogs]:
    lake, catalogs = Lake(root / "lake"), PublishedCatalogs(root / "catalogs")
    lake.write(("t",), pa.table({"x": [1]}))
    catalogs.publish(lake.snapshot)
    return lake, catalogs


def test_only_what_a_worker_had_kept_and_planned_before_over_these_catalogs_is_known(tmp_path: Path) -> None:
    lake, catalogs = catalogs_of(tmp_path)
    known, query = RepeatedStatements(cast("Environments", catalogs), 1 << 20), Query(OF_A)
    key = known.result_key(query, ANN)
    others: list[dict[str, Any]] = [{"cached": False}, {"path": "splice"}, {"generations": {"local": 2}}]
    for other in others:
        known.keep_result(key, query, ANN, result(**other))
        assert known.result(key) is None
    known.keep_result(key, query, ANN, result())
    assert (found := known.result(key)) is not None
    assert (found.body, found.planned.planning_s) == (b"rows", 0.0)
    lake.engine.close()


def test_a_result_of_a_catalog_that_has_changed_meanwhile_is_not_known(tmp_path: Path) -> None:
    lake, catalogs = catalogs_of(tmp_path)
    known, query = RepeatedStatements(cast("Environments", catalogs), 1 << 20), Query(OF_A)
    key = known.result_key(query, ANN)
    lake.write(("t",), pa.table({"x": [2]}))
    catalogs.publish(lake.snapshot)
    known.keep_result(key, query, ANN, result())
    assert known.result(key) is None
    assert known.result(known.result_key(query, ANN)) is None
    lake.engine.close()


def test_a_result_is_known_for_the_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At midnight other objects may be archived."""
    lake, catalogs = catalogs_of(tmp_path)
    known, query = RepeatedStatements(cast("Environments", catalogs), 1 << 20), Query(OF_A)
    known.keep_result(known.result_key(query, ANN), query, ANN, result())
    assert known.result(known.result_key(query, ANN)) is not None

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Tomorrow":
            return cls(2100, 1, 1, tzinfo=tz or UTC)

    monkeypatch.setattr(repeated_statements, "datetime", Tomorrow)
    assert known.result(known.result_key(query, ANN)) is None
    lake.engine.close()


def test_the_results_used_last_stay_within_their_bytes(tmp_path: Path) -> None:
    lake, catalogs = catalogs_of(tmp_path)
    one = result(bytes(1000))
    known = RepeatedStatements(cast("Environments", catalogs), 3 * one.size_bytes)
    queries = [Query(f"SELECT {number} FROM {T}") for number in range(5)]
    for query in queries[:3]:
        known.keep_result(known.result_key(query, ANN), query, ANN, one)
    known.result(known.result_key(queries[0], ANN))
    for query in queries[3:]:
        known.keep_result(known.result_key(query, ANN), query, ANN, one)
    found = [known.result(known.result_key(query, ANN)) is not None for query in queries]
    assert found == [True, False, False, True, True]
    large = Query(f"SELECT 9 FROM {T}")
    known.keep_result(known.result_key(large, ANN), large, ANN, result(bytes(1 << 20)))
    assert known.result(known.result_key(large, ANN)) is None
    assert known.result(known.result_key(queries[4], ANN)) is not None  # it has displaced nothing
    lake.engine.close()


def test_facts_of_many_scans_count_as_memory() -> None:
    scan = ScanStats(table=T, files_total=9, files_read=9, bytes_total=1, bytes_kept=1, files_left_out=0)
    scans = [replace(scan, bytes_total=number) for number in range(1000, 2000)]
    taken = sum(map(sys.getsizeof, [*scans, *(scan.bytes_total for scan in scans)]))
    assert result(scans=scans).size_bytes - result().size_bytes > taken

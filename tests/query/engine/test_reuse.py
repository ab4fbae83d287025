"""Kept results: taken for equal plans over the same versions of objects, and never for anything else."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import ExecutionError
from dagfusion_query.engine import reuse
from dagfusion_query.engine.session import new_context
from dagfusion_query.object_cache import CACHE
from dagfusion_query.settings import Settings
from tests.query.engine.conftest import Lake
from tests.waiting import eventually

T = "local_default.t"
SUM = f"SELECT sum(x + 0) AS n FROM {T}"
OF_A = f"SELECT x FROM {T} WHERE p = 'a' ORDER BY x"


class KeepingLake(Lake):
    """A lake whose engine keeps results, in a folder that other lakes may share."""

    def __init__(self, root: Path, results: Path, **variables: str) -> None:
        kept = {"DAGFUSION_RESULT_CACHE_DIR": str(results), **variables}
        super().__init__(root, with_checksums=True, with_etags=True, settings=kept)

    def put(self, p: str, numbers: Sequence[int]) -> None:
        self.write(("t",), pa.table({"x": pa.array(numbers, pa.int64())}), {"p": pa.scalar(p)}, folder=f"p={p}")

    def ask(self, sql: str, params: Any = None) -> tuple[str | None, pa.Table]:
        """Return how a statement was answered, where that is not as its plan says, and its rows."""
        prepared = self.prepare(sql, params)
        batches = self.engine.run(prepared)
        return batches.path, pa.Table.from_batches(list(iter(batches.next, None)), prepared.schema)

    def is_kept(self, sql: str, params: Any = None) -> bool:
        return self.ask(sql, params)[0] == CACHE


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Callable[..., KeepingLake]]:
    made: list[KeepingLake] = []

    def make(**variables: str) -> KeepingLake:
        made.append(KeepingLake(tmp_path / "lake", tmp_path / "results", **variables))
        return made[-1]

    yield make
    for lake in made:
        lake.engine.close()


def test_an_equal_statement_has_the_kept_result(keeping: Callable[..., KeepingLake]) -> None:
    lake = keeping()
    lake.put("a", [1, 2])
    lake.put("b", [3])
    assert eventually(lambda: lake.is_kept(SUM))
    batches = lake.engine.run(lake.prepare(SUM))
    assert (batches.path, batches.files_read, batches.bytes_read) == (CACHE, 0, 0)
    assert batches.next() == pa.record_batch({"n": pa.array([6], pa.int64())})
    assert batches.next() is None
    assert lake.is_kept(f"select sum(x + 0) as n\nfrom {T}")  # whatever it is written like

    other = keeping()  # as another process
    other.snapshot = lake.snapshot
    assert other.ask(SUM) == (CACHE, pa.table({"n": [6]}))


def test_only_a_partition_that_is_read_changes_the_identity(keeping: Callable[..., KeepingLake]) -> None:
    lake = keeping()
    lake.put("a", [2, 1])
    lake.put("b", [3])
    assert eventually(lambda: lake.is_kept(OF_A))
    lake.put("b", [4])
    lake.put("c", [5])
    assert lake.ask(OF_A) == (CACHE, pa.table({"x": [1, 2]}))
    lake.put("a", [7])
    assert lake.ask(OF_A) == (None, pa.table({"x": [7]}))
    assert eventually(lambda: lake.is_kept(OF_A))
    assert lake.ask(OF_A) == (CACHE, pa.table({"x": [7]}))


def test_parameters_are_part_of_a_plan(keeping: Callable[..., KeepingLake]) -> None:
    lake = keeping()
    lake.put("a", [1, 2, 3])
    above = f"SELECT x FROM {T} WHERE x > $1"
    assert eventually(lambda: lake.is_kept(above, [1]))
    assert lake.ask(above, [2]) == (None, pa.table({"x": [3]}))
    assert lake.ask(above, [1]) == (CACHE, pa.table({"x": [2, 3]}))


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT x, random() AS r FROM {T}",
        f"SELECT x, uuid() AS r FROM {T}",
        f"SELECT x FROM {T} WHERE now() > TIMESTAMP '2020-01-01T00:00:00Z'",
        f"SELECT x, current_date AS d FROM {T}",
        f"SELECT x, CURRENT_TIMESTAMP AS d FROM {T}",
        f"SELECT x, current_time AS d FROM {T}",
        f"EXPLAIN ANALYZE SELECT x FROM {T}",
        "SELECT table_name FROM information_schema.tables",
        f"SELECT count(*) FROM {T}",
        f"WITH RECURSIVE r AS (SELECT min(x) AS x FROM {T} UNION ALL SELECT x + 1 FROM r WHERE x < 3) SELECT * FROM r",
    ],
)
def test_what_may_have_another_result_is_not_kept(sql: str, keeping: Callable[..., KeepingLake]) -> None:
    lake = keeping()
    lake.put("a", [1, 2])
    assert lake.prepare(sql).identity is None
    assert [lake.ask(sql)[0] for _ in range(3)] == [None] * 3


def test_files_of_unknown_versions_have_no_kept_results(keeping: Callable[..., KeepingLake]) -> None:
    lake = keeping()
    lake.put("a", [1])
    lake.with_etags = False  # a run does not compare the checksum of an object that it reads in place
    lake.put("b", [2])
    assert lake.prepare(SUM).identity is None
    assert lake.prepare(OF_A).identity is not None


def test_a_result_that_is_dropped_on_its_way_is_not_kept(
    keeping: Callable[..., KeepingLake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reuse, "_LONG_S", 0.0)
    lake = keeping()
    lake.put("a", range(100_000))
    batches = lake.engine.run(lake.prepare(f"SELECT x FROM {T}"))
    assert batches.next() is not None
    batches.cancel()
    assert batches.next() is None  # as at the end
    lake.engine.close()
    assert not list(tmp_path.glob("results/objects/*/*"))


def test_the_batches_before_an_error_are_not_kept(
    keeping: Callable[..., KeepingLake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reuse, "_LONG_S", 0.0)
    lake = keeping()
    lake.write(("t",), pa.table({"s": ["1"] * 10_000}), {"p": pa.scalar("a")}, folder="p=a")
    lake.write(("t",), pa.table({"s": ["1"] * 10_000 + ["no number"]}), {"p": pa.scalar("b")}, folder="p=b")
    batches = lake.engine.run(lake.prepare(f"SELECT CAST(s AS BIGINT) AS x FROM {T}"))
    with pytest.raises(ExecutionError):
        list(iter(batches.next, None))
    assert batches.next() is None  # as at the end
    lake.engine.close()
    assert not list(tmp_path.glob("results/objects/*/*"))


JOIN = f"SELECT l.x, r.x AS y FROM {T} l JOIN {T} r ON l.x = r.x AND l.p = r.p WHERE l.p = 'a' ORDER BY l.x"


@pytest.mark.parametrize(
    "sql", [JOIN, f"SELECT x FROM {T} WHERE p = 'a' AND x IN (SELECT x + 1 FROM {T} WHERE p = 'a')"]
)
def test_joins_have_an_identity_of_their_own(sql: str, keeping: Callable[..., KeepingLake]) -> None:
    """DataFusion numbers the filters of joins, in the order in which a process plans them."""
    lake = keeping()
    lake.put("a", [1, 2])
    lake.put("b", [3])
    known = lake.prepare(sql).identity
    lake.put("b", [4])
    other = keeping()
    other.snapshot = lake.snapshot
    assert known is not None
    assert {lake.prepare(sql).identity, other.prepare(sql).identity} == {known}
    lake.put("a", [1])
    assert lake.prepare(sql).identity != known


def test_a_constant_that_looks_like_the_number_of_a_filter_is_told_apart(keeping: Callable[..., KeepingLake]) -> None:
    lake = keeping()
    lake.put("a", [1])
    of = f"SELECT l.x, arrow_cast(X'220412020801F001{{}}', 'Binary') AS b FROM {T} l JOIN {T} r ON l.x = r.x"
    assert lake.prepare(of.format("07")).identity != lake.prepare(of.format("08")).identity


def test_the_version_of_every_object_counts(
    keeping: Callable[..., KeepingLake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "_ROWS", 2)
    lake = keeping()
    for p in "abcde":
        lake.put(p, [1])
    seen = {lake.prepare(SUM).identity}
    for p in "abcde":
        lake.put(p, [2])
        seen.add(lake.prepare(SUM).identity)
    assert len(seen) == 6


def test_small_batches_are_kept_as_large_ones() -> None:
    kept: list[pa.RecordBatch] = []
    keeper = reuse.Keeper(1 << 20, lambda batches, _: kept.extend(batches))
    for number in range(100):
        keeper.take(pa.record_batch({"x": [number], "name": pa.array([str(number)]).dictionary_encode()}), 0.0)
    keeper.take(None, 0.0)
    assert len(kept) < 10
    assert pa.Table.from_batches(kept).to_pylist() == [{"x": n, "name": str(n)} for n in range(100)]


@pytest.mark.usefixtures("heavy")
def test_small_results_stay_within_the_disk_space(
    keeping: Callable[..., KeepingLake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reuse, "_LONG_S", 0.0)
    lake = keeping(DAGFUSION_RESULT_CACHE_BYTES="40000")
    lake.put("a", range(10))
    for number in range(30):
        lake.ask(f"SELECT x FROM {T} WHERE x <> {number}")
    lake.engine.close()
    blocks = 10  # of 4096 bytes, one a result: 9 within the limit, and one that came while others were removed
    assert eventually(lambda: len(list(tmp_path.glob("results/objects/*/*"))) <= blocks)


def test_large_results_are_not_kept(keeping: Callable[..., KeepingLake], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_LONG_S", 0.0)
    lake = keeping(DAGFUSION_RESULT_CACHE_RESULT_BYTES="4000")
    lake.put("a", range(1000))
    few, all_rows = f"SELECT x FROM {T} WHERE x < 100", f"SELECT x FROM {T}"
    lake.ask(all_rows)
    assert eventually(lambda: lake.is_kept(few))
    assert not lake.is_kept(all_rows)


def test_a_short_query_is_kept_when_it_comes_again(
    keeping: Callable[..., KeepingLake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reuse, "_LONG_S", float("inf"))
    lake = keeping()
    lake.put("a", [1])
    lake.ask(SUM)
    lake.ask(OF_A)
    lake.ask(OF_A)
    lake.engine.close()
    assert len(list(tmp_path.glob("results/objects/*/*"))) == 1


@pytest.mark.parametrize("what", ["altered", "cut", "empty", "a folder"])
def test_a_damaged_result_is_not_taken(what: str, keeping: Callable[..., KeepingLake], tmp_path: Path) -> None:
    lake = keeping(DAGFUSION_RESULT_CACHE_MEMORY_BYTES="1")
    lake.put("a", [1])
    assert eventually(lambda: lake.is_kept(SUM))
    (path,) = tmp_path.glob("results/objects/*/*")
    stored = path.read_bytes()
    path.unlink()
    if what == "a folder":
        path.mkdir()
    else:
        path.write_bytes({"altered": stored.replace(b"\1", b"\2"), "cut": stored[:-1], "empty": b""}[what])
    assert lake.ask(SUM) == (None, pa.table({"n": [1]}))


@pytest.mark.usefixtures("heavy")
def test_the_results_used_last_are_in_memory(keeping: Callable[..., KeepingLake], tmp_path: Path) -> None:
    lake = keeping(DAGFUSION_RESULT_CACHE_MEMORY_BYTES="15000")
    lake.put("a", range(1000))
    large, *small = (f"SELECT x FROM {T} WHERE x < {below}" for below in (1000, 500, 501, 502, 503, 504, 505))
    for sql in (large, *small):
        assert eventually(partial(lake.is_kept, sql))
    for path in tmp_path.glob("results/objects/*/*"):
        path.unlink()
    assert [lake.is_kept(sql) for sql in reversed(small)] == [True] * 3 + [False] * 3
    assert not lake.is_kept(large)


def test_no_results_where_they_are_turned_off(keeping: Callable[..., KeepingLake]) -> None:
    lake = keeping(DAGFUSION_RESULT_CACHE_DIR="none")
    lake.put("a", [1])
    assert [lake.ask(SUM)[0] for _ in range(4)] == [None] * 4
    on = keeping()
    on.snapshot = lake.snapshot
    assert eventually(lambda: on.is_kept(SUM))
    assert on.engine.run(on.prepare(SUM), result_cache=False).path is None


PARTITIONS = ["a", "b", "c", "d"]
STATEMENTS = [
    "SELECT sum(x) AS n, count(x) AS c FROM {t}",
    "SELECT p, max(x + 0) AS m FROM {t} GROUP BY p ORDER BY p",
    "SELECT x FROM {t} WHERE p = 'a' ORDER BY x",
    "SELECT x FROM {t} WHERE p IN ('b', 'c') AND x > 5 ORDER BY x",
    "SELECT DISTINCT x FROM {t} WHERE p > 'a' ORDER BY x",
    "SELECT l.x, count(*) AS n FROM {t} l JOIN {t} r ON l.x = r.x WHERE r.p = 'd' GROUP BY l.x ORDER BY l.x",
]
WRITE = st.tuples(st.sampled_from(PARTITIONS), st.lists(st.integers(0, 9), min_size=1, max_size=4))
ASK = st.tuples(st.just("?"), st.sampled_from(STATEMENTS))


@pytest.mark.usefixtures("heavy")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(steps=st.lists(WRITE | ASK, min_size=5, max_size=25))
def test_a_kept_result_is_always_that_of_the_rows_now(
    steps: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is rewritten between two questions, whichever of two engines over one folder keeps the result."""
    root = tmp_path_factory.mktemp("fresh")
    lakes = [KeepingLake(root / "lake", root / "results") for _ in range(2)]
    rows = {"d": [1]}
    try:
        lakes[0].put("d", [1])
        for number, (what, value) in enumerate(steps):
            if what != "?":
                lakes[0].put(what, value)
                rows[what] = value
                continue
            lake = lakes[number % 2]
            lake.snapshot = lakes[0].snapshot
            for _ in range(2):
                assert lake.ask(value.format(t=T))[1].to_pylist() == _in_memory(rows, value)
    finally:
        for lake in lakes:
            lake.engine.close()


def _in_memory(rows: dict[str, list[int]], sql: str) -> list[dict[str, Any]]:
    context = new_context(Settings.read({}))
    pairs = [(p, x) for p, numbers in rows.items() for x in numbers]
    table = pa.table({"x": pa.array([x for _, x in pairs], pa.int64()), "p": [p for p, _ in pairs]})
    context.register_record_batches("t", [table.to_batches()])
    return list(context.sql(sql.format(t="t")).to_arrow_table().to_pylist())

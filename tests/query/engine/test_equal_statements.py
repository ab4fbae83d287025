"""Equal statements that arrive together run once, in whatever process, and each has the right answer."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import ExecutionError
from dagfusion_query.engine import reuse
from dagfusion_query.object_cache import CACHE, claims
from tests.query.engine.test_reuse import SUM, KeepingLake, T
from tests.tiers import examples
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("patient", "heavy")
STATEMENTS = [
    f"SELECT p, sum(x + 0) AS n FROM {T} GROUP BY p ORDER BY p",
    f"SELECT x FROM {T} WHERE p = 'a' ORDER BY x",
    f"SELECT count(DISTINCT x) AS n FROM {T} WHERE p > 'a'",
    f"SELECT l.x, count(*) AS n FROM {T} l JOIN {T} r ON l.x = r.x GROUP BY l.x ORDER BY l.x",
]
ROWS = f"SELECT x FROM {T}"
Seen = tuple[str | None, str | None, pa.Table]  # identity, path, rows


@pytest.fixture
def lakes(tmp_path: Path) -> Iterator[Callable[..., KeepingLake]]:
    """Make lakes over one folder of objects and one of results, as processes have them."""
    made: list[KeepingLake] = []

    def make(**variables: str) -> KeepingLake:
        made.append(KeepingLake(tmp_path / "lake", tmp_path / "results", **variables))
        if made[:-1]:
            made[-1].snapshot = made[0].snapshot
        return made[-1]

    yield make
    for lake in made:
        lake.engine.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the limit of a wait, so that a busy machine does not end it."""
    monkeypatch.setattr(claims, "_PATIENCE_S", 1e9)
    monkeypatch.setattr(claims, "_HANDED_OUT_S", 1e8)


@pytest.fixture
def kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the results of short statements, too."""
    monkeypatch.setattr(reuse, "_LONG_S", 0.0)


def wanted(root: Path) -> bool:
    return any(path.stat().st_mode & claims._WANTED for path in root.glob("results/claims/*"))


@pytest.mark.usefixtures("kept_at_once")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(20))
@given(rounds=st.lists(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=8), min_size=1, max_size=3))
def test_each_statement_runs_once_for_each_state_of_its_partitions(
    rounds: list[list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two engines share the folder, each with four threads; a partition is rewritten between two rounds."""
    root = tmp_path_factory.mktemp("equal")
    both = [KeepingLake(root / "lake", root / "results") for _ in range(2)]
    reference = KeepingLake(root / "lake", root / "none", DAGFUSION_RESULT_CACHE_DIR="none")
    runs: dict[str, int] = {}
    try:
        both[0].put("b", [3, 4])
        for number, statements in enumerate(rounds):
            both[0].put("a", [number, 2, 3])
            both[1].snapshot = reference.snapshot = both[0].snapshot
            for sql, (identity, path, rows) in zip(statements, _asked(both, statements), strict=True):
                assert rows == reference.ask(sql)[1]
                if identity is not None:  # first statements that are planned at the same time may be staged
                    runs[identity] = runs.get(identity, 0) + (path != CACHE)
        assert set(runs.values()) <= {1}
    finally:
        for lake in (*both, reference):
            lake.engine.close()


@pytest.mark.usefixtures("kept_at_once")
def test_long_statements_run_once(lakes: Callable[..., KeepingLake]) -> None:
    first = lakes()
    first.put("a", range(1000))
    both = [first, lakes()]
    for number in range(10):
        sql = f"SELECT sum(x + {number}) AS n FROM {T}"
        for lake in both:
            lake.prepare(sql)
        paths = [path for _, path, _ in _asked(both, [sql] * 8)]
        assert sorted(map(str, paths)) == ["None", *[CACHE] * 7]


def test_a_short_result_is_kept_for_those_who_wait(
    lakes: Callable[..., KeepingLake], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reuse, "_LONG_S", float("inf"))
    leader = lakes()
    leader.put("a", [1, 2])
    follower = lakes()
    run = leader.engine.run(leader.prepare(SUM))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(follower.ask, SUM)
        assert eventually(lambda: wanted(tmp_path))
        assert len(list(iter(run.next, None))) == 1
        assert answer.result(30) == (CACHE, pa.table({"n": [3]}))


@pytest.mark.parametrize("end", ["cancelled", "dropped", "left", "too large"])
def test_who_waits_runs_when_the_first_leaves_no_result(
    end: str, lakes: Callable[..., KeepingLake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"DAGFUSION_RESULT_CACHE_RESULT_BYTES": "1000"} if end == "too large" else {}
    leader = lakes(**variables)
    leader.put("a", range(20_000))
    follower = lakes()
    run = leader.engine.run(leader.prepare(ROWS))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(follower.ask, ROWS)
        assert eventually(lambda: wanted(tmp_path))
        match end:
            case "cancelled":
                run.cancel()
            case "dropped":
                del run
            case "left":
                assert run.next() is not None
                monkeypatch.setattr(claims, "_PATIENCE_S", 0.0)  # the client takes no more
            case "too large":
                assert len(list(iter(run.next, None))) > 1
        path, rows = answer.result(30)
    assert (path, rows.num_rows) == (None, 20_000)


def test_the_error_of_the_first_is_no_one_else_s(lakes: Callable[..., KeepingLake], tmp_path: Path) -> None:
    """What makes the first run fail may be its own."""
    leader = lakes()
    path = leader.write(("t",), pa.table({"x": [1, 2]}), {"p": pa.scalar("a")}, folder="p=a")
    follower = lakes()
    content = path.read_bytes()
    run = leader.engine.run(leader.prepare(SUM))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(follower.ask, SUM)
        assert eventually(lambda: wanted(tmp_path))
        path.unlink()
        with pytest.raises(ExecutionError):
            run.next()
        path.write_bytes(content)
        with pytest.raises(ExecutionError):  # the local file has another etag now
            answer.result(30)


def test_a_wait_is_cancelled_with_its_statement(lakes: Callable[..., KeepingLake], tmp_path: Path) -> None:
    leader = lakes()
    leader.put("a", [1, 2])
    follower = lakes()
    run = leader.engine.run(leader.prepare(SUM))
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(follower.engine.run, follower.prepare(SUM), cancelled=cancelled)
        assert eventually(lambda: wanted(tmp_path))
        cancelled.set()
        batches = answer.result(30)
    batches.cancel()
    assert batches.next() is None
    assert run.next() == pa.record_batch({"n": pa.array([3], pa.int64())})


def test_a_statement_that_keeps_nothing_does_not_wait(lakes: Callable[..., KeepingLake]) -> None:
    leader = lakes()
    leader.put("a", [1, 2])
    run = leader.engine.run(leader.prepare(SUM))
    other = leader.engine.run(leader.prepare(SUM), result_cache=False)
    assert other.next() == run.next()


def _asked(lakes: Sequence[KeepingLake], statements: Sequence[str]) -> list[Seen]:
    """Ask all statements at once, on the engines in turn."""
    barrier = threading.Barrier(len(statements))

    def ask(number: int) -> Seen:
        barrier.wait(60)
        lake = lakes[number % len(lakes)]
        prepared = lake.prepare(statements[number])
        batches = lake.engine.run(prepared)
        rows = pa.Table.from_batches(list(iter(batches.next, None)), prepared.schema)
        return prepared.identity, batches.path, rows

    with ThreadPoolExecutor(len(statements)) as pool:
        return list(pool.map(ask, range(len(statements))))

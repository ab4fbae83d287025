"""Equal statements that arrive together at a service with real workers: one runs, and the others have its result."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_client.errors import QueryCancelledError, QueryTimeoutError, UnknownTableError, WorkerDiedError
from dagfusion_query.access.grants import Caller, Grants
from dagfusion_query.object_cache import claims
from dagfusion_server.service.running_query import ActiveQuery
from tests.query.engine.conftest import Lake
from tests.server.service.conftest import ANN, PublishedCatalogs, Serve, Served
from tests.waiting import eventually

TABLE = "local_silver_tax_id.orgs"
ROWS = 6000
# Long enough for others to arrive, and to be kept at once.
LONG = f"SELECT count(*) AS n, min(x * y + {{}}) AS least FROM {TABLE} CROSS JOIN generate_series(1, 20000) s(y)"
WIDE = f"SELECT x, repeat('x', 1000) AS wide FROM {TABLE}"
Answer = tuple[bytes, ActiveQuery]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    made = Lake(tmp_path_factory.mktemp("lake"), with_checksums=True, with_etags=True)
    made.write(("Silver", "TaxID", "orgs"), pa.table({"x": range(ROWS)}), {"state": pa.scalar("CA")})
    made.write(("Gold", "totals"), pa.table({"total": [1, 2]}))
    yield made
    made.engine.close()


@pytest.fixture
def serve(lake: Lake, new_served: Serve, tmp_path: Path) -> Callable[..., Served]:
    def start(results: str = "results", workers: int = 2, **engine: Any) -> Served:
        catalogs = PublishedCatalogs(tmp_path / f"state{len(list(tmp_path.iterdir()))}")
        catalogs.publish(lake.snapshot)
        kept = {"result_cache_dir": str(tmp_path / results), **engine}
        served = new_served(catalogs, workers=workers, engine=kept)
        served.wait_for(lambda: served.service._pool.live == workers + 1)
        return served

    return start


def rows(answer: "Future[Answer]") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pa.ipc.open_stream(answer.result(120)[0]).read_all().to_pylist()
    return found


def paths(*answers: "Future[Answer]") -> list[str]:
    return sorted(answer.result(120)[1].stats.path for answer in answers)


def counted(served: Served, result: str) -> float:
    """Return how many results were computed (`miss`) or those of equal queries (`hit`)."""
    name = f'dagfusion_results_total{{cache="{result}"}}'
    lines = served.ask(served.service.metrics).decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith(name))


def led(served: Served, root: Path, sql: str) -> "Future[Answer]":
    """Start a statement, and return when it runs and has the claim on its result."""
    answer = served.start(sql)
    assert eventually(lambda: any(root.glob("results/claims/*")))
    return answer


def followed(served: Served, root: Path, sql: str, **query: Any) -> "Future[Answer]":
    """Start an equal statement, and return when it waits for the first."""
    answer = served.start(sql, **query)
    assert eventually(lambda: waited(root))
    return answer


def waited(root: Path) -> bool:
    """Return True if a statement waits, or has waited, for one that runs."""
    with suppress(FileNotFoundError):  # it has ended just now
        return any(path.stat().st_mode & claims._WANTED for path in root.glob("results/claims/*"))
    return False


def test_statements_that_arrive_together_run_once(serve: Callable[..., Served]) -> None:
    """At two services over one folder, as embedded connections share theirs."""
    both = serve(workers=3), serve(workers=3)
    for number in range(3):
        answers = [both[i % 2].start(LONG.format(number)) for i in range(8)]
        for answer in answers:
            assert rows(answer) == [{"n": ROWS * 20_000, "least": number}]
        assert paths(*answers) == [*["cache"] * 7, "splice"]
    assert sum(counted(served, "miss") for served in both) == 3
    assert sum(counted(served, "hit") for served in both) == 21


def test_others_run_when_the_worker_of_the_first_is_killed(serve: Callable[..., Served], tmp_path: Path) -> None:
    served, sql = serve(), LONG.format(1)
    first = led(served, tmp_path, sql)
    workers = served.ask(lambda: [*served.service._pool._workers])
    [leader] = [worker.process.pid for worker in workers if worker.life.is_leased]
    others = [followed(served, tmp_path, sql) for _ in range(2)]
    os.kill(leader, signal.SIGKILL)
    with pytest.raises(WorkerDiedError):
        first.result(120)
    for answer in others:
        assert rows(answer) == [{"n": ROWS * 20_000, "least": 1}]
    assert "splice" in paths(*others)


def test_others_run_when_the_first_is_cancelled(serve: Callable[..., Served], tmp_path: Path) -> None:
    served, sql = serve(), LONG.format(2)
    first = led(served, tmp_path, sql)
    [leader] = served.ask(served.queries)
    others = [followed(served, tmp_path, sql) for _ in range(2)]
    served.ask(lambda: served.service.cancel(leader.id, ANN))
    with pytest.raises(QueryCancelledError):
        first.result(120)
    for answer in others:
        assert rows(answer) == [{"n": ROWS * 20_000, "least": 2}]


def test_the_wait_is_part_of_the_time_that_a_query_may_take(serve: Callable[..., Served], tmp_path: Path) -> None:
    served, sql = serve(), LONG.replace("20000", "200000").format(3)
    first = led(served, tmp_path, sql)
    for timeout_s in (0.5, 2.0, 8.0):  # one that is planned for so long does not wait
        with pytest.raises(QueryTimeoutError):
            served.start(sql, timeout_s=timeout_s).result(120)
        if waited(tmp_path):
            break
    assert waited(tmp_path)
    assert rows(first) == [{"n": ROWS * 200_000, "least": 3}]


def test_others_do_not_wait_for_the_client_of_the_first(serve: Callable[..., Served]) -> None:
    served, sql = serve(result_cache_result_bytes=1 << 30), WIDE.replace("1000", "10000")
    first = served.loop.run(served.stream(sql))  # takes nothing of its 60 MB
    assert len(served.rows(sql)) == ROWS
    assert not first.is_complete
    served.loop.run(first.close())


def test_a_result_that_is_too_large_to_be_kept_is_each_one_s_own(serve: Callable[..., Served]) -> None:
    served = serve(result_cache_result_bytes=1_000_000)
    answers = [served.start(WIDE) for _ in range(3)]
    assert [len(rows(answer)) for answer in answers] == [ROWS] * 3
    assert paths(*answers) == ["splice"] * 3


def test_who_may_not_read_a_table_does_not_wait_for_those_who_may(serve: Callable[..., Served], tmp_path: Path) -> None:
    served, sql = serve(), LONG.format(4)
    first = led(served, tmp_path, sql)
    other = Caller("bob", Grants.parse(["local_gold.totals"]), "http")
    assert isinstance(served.error(sql, other), UnknownTableError)
    assert not waited(tmp_path)
    assert paths(first) == ["splice"]


def test_a_caller_can_do_without_the_result_of_others(serve: Callable[..., Served], tmp_path: Path) -> None:
    served, sql = serve(), LONG.format(5)
    first = led(served, tmp_path, sql)
    own = served.start(sql, result_cache=False)
    assert rows(own) == rows(first)
    assert paths(own, first) == ["splice"] * 2

"""Time by query and engine: warm (one session answers again) and cold (a new session answers its first query)."""

import contextlib
from collections.abc import Iterator

import pytest

from benchmarks.conftest import Clock
from benchmarks.dataset import Dataset
from benchmarks.engines.dagfusion import with_snapshots
from benchmarks.engines.protocol import Engine, Session
from benchmarks.workload import POINT, QUERIES, Query, Row, rows

Answers = dict[str, list[Row]]

by_query = pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)


@pytest.fixture(scope="module")
def session(engine: Engine, data: Dataset) -> Iterator[Session]:
    with contextlib.closing(engine.open(data.place)) as opened:
        yield opened


@by_query
def test_warm(session: Session, engine: Engine, query: Query, answers: Answers, clock: Clock) -> None:
    assert rows(session.run(query)) == answers[query.name]
    clock.time(lambda: session.run(query), kind="warm", engine=engine.name, query=query.name)


@by_query
def test_cold(engine: Engine, query: Query, data: Dataset, answers: Answers, clock: Clock) -> None:
    _time_first_answer(engine, query, data, answers, clock)


def test_cold_with_a_snapshot(
    data: Dataset, answers: Answers, clock: Clock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _time_first_answer(with_snapshots(tmp_path_factory.mktemp("snapshots")), POINT, data, answers, clock)


def _time_first_answer(engine: Engine, query: Query, data: Dataset, answers: Answers, clock: Clock) -> None:
    def first_answer() -> list[Row]:
        with contextlib.closing(engine.open(data.place)) as fresh:
            return rows(fresh.run(query))

    assert first_answer() == answers[query.name]
    clock.time(first_answer, kind="cold", engine=engine.name, query=query.name)

"""Time by query and engine: warm (one session answers again) and cold (a new session answers its first query)."""

import contextlib
from collections.abc import Iterator

import pyarrow as pa
import pytest

from benchmarks.conftest import Clock
from benchmarks.dataset import Dataset
from benchmarks.engines.dagfusion import NOTHING_KEPT
from benchmarks.engines.protocol import Engine, Session
from benchmarks.workload import POINT, QUERIES, Query, Row, rows

Answers = dict[str, list[Row]]


@pytest.fixture(scope="module")
def session(engine: Engine, data: Dataset) -> Iterator[Session]:
    with contextlib.closing(engine.open(data.place)) as opened:
        yield opened


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_warm(session: Session, engine: Engine, query: Query, answers: Answers, clock: Clock) -> None:
    clock.time(
        lambda: session.run(query),
        lambda answer: rows(answer) == answers[query.name],
        kind="warm",
        engine=engine.name,
        query=query.name,
    )


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_cold(engine: Engine, query: Query, data: Dataset, answers: Answers, clock: Clock) -> None:
    time_first_answer(engine, query, data, answers, clock)


def test_cold_without_a_snapshot(data: Dataset, answers: Answers, clock: Clock) -> None:
    time_first_answer(NOTHING_KEPT, POINT, data, answers, clock)


def time_first_answer(engine: Engine, query: Query, data: Dataset, answers: Answers, clock: Clock) -> None:
    def first_answer() -> pa.Table:
        with contextlib.closing(engine.open(data.place)) as fresh:
            return fresh.run(query)

    clock.time(
        first_answer,
        lambda answer: rows(answer) == answers[query.name],
        kind="cold",
        engine=engine.name,
        query=query.name,
    )

"""The same queries after a consolidation of the table. The last file: it changes what the others would read."""

import contextlib
from collections.abc import Iterator
from functools import partial

import pytest

from benchmarks.conftest import Clock, Findings
from benchmarks.counters import count
from benchmarks.dataset import Dataset
from benchmarks.engines.dagfusion import CONSOLIDATED_ENGINE
from benchmarks.engines.protocol import Session
from benchmarks.service import in_turns
from benchmarks.test_queries import Answers, time_first_answer
from benchmarks.wire import metered
from benchmarks.workload import DATE_QUERY, FULL_SCAN, QUERIES, Query, rows
from dagfusion_query.scan import large_objects
from dagfusion_query.scan.large_objects import LargeObjects

ROUNDS = 50


@pytest.fixture(scope="module")
def large(data: Dataset, findings: Findings) -> Iterator[int]:
    """The number of large objects."""
    with data.consolidated() as made:
        findings["consolidated_objects"] = made
        yield made["objects"]


@pytest.fixture(scope="module")
def session(data: Dataset, large: int) -> Iterator[Session]:  # noqa: ARG001  # opened after the consolidation
    with contextlib.closing(CONSOLIDATED_ENGINE.open(data.place)) as opened:
        yield opened


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_warm(session: Session, query: Query, answers: Answers, clock: Clock) -> None:
    clock.time(
        lambda: session.run(query),
        lambda answer: rows(answer) == answers[query.name],
        kind="warm",
        engine=CONSOLIDATED_ENGINE.name,
        query=query.name,
    )


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_cold(query: Query, data: Dataset, answers: Answers, clock: Clock) -> None:
    time_first_answer(CONSOLIDATED_ENGINE, query, data, answers, clock)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_requests(query: Query, data: Dataset, large: int, findings: Findings) -> None:
    with metered(data.place.endpoint) as meter:
        counted = count(data, meter, query)
    findings.setdefault("consolidated_claims", {})[query.name] = counted
    assert sum(counted["cold"]["requests"].values()) <= 2 * counted["cold"]["objects"]
    assert sum(counted["warm"]["requests"].values()) <= 2 * counted["warm"]["objects"]
    if query is FULL_SCAN:
        assert 0 < counted["cold"]["objects"] <= large


def test_one_day_from_small_and_from_large_objects(
    data: Dataset, large: int, answers: Answers, findings: Findings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day is read from small objects; what would it cost from the row groups that have it?"""
    with metered(data.place.endpoint) as meter, contextlib.ExitStack() as opened:
        small = count(data, meter, DATE_QUERY)
        if small["cold"]["objects"] < data.files(DATE_QUERY):
            pytest.skip("with fewer days than states, a day has a large object of its own, and is read from it")
        sessions = {"small": opened.enter_context(contextlib.closing(CONSOLIDATED_ENGINE.open(data.place)))}
        assert rows(sessions["small"].run(DATE_QUERY)) == answers[DATE_QUERY.name]
        monkeypatch.setattr(large_objects, "LEAST_SHARE", 0.0)
        monkeypatch.setattr(LargeObjects, "_worthwhile", lambda _, usable, __: usable)
        from_large = count(data, meter, DATE_QUERY)
        assert from_large["cold"]["objects"] == large, "each large object has the day"
        sessions["large"] = opened.enter_context(contextlib.closing(CONSOLIDATED_ENGINE.open(data.place)))
        assert rows(sessions["large"].run(DATE_QUERY)) == answers[DATE_QUERY.name]
        times = in_turns({way: partial(one.run, DATE_QUERY) for way, one in sessions.items()}, ROUNDS)
    counted = {"small": small, "large": from_large}
    findings["date_both_ways"] = {
        way: {"cold": one["cold"], "warm": one["warm"], "warm_s": times[way]} for way, one in counted.items()
    }

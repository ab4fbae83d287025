"""The data set and the engines on it: each gives the same answers, and one more day leaves no trace."""

import contextlib

import pytest

from benchmarks.dataset import TABLE, Dataset
from benchmarks.engines import duckdb_files
from benchmarks.engines.dagfusion import DagFusion
from benchmarks.engines.limit import Limit
from benchmarks.engines.protocol import Engine
from benchmarks.engines.registry import ENGINES
from benchmarks.workload import COUNT, DATE_QUERY, POINT, QUERIES, STATE_QUERY, Query, rows

pytestmark = pytest.mark.embedded


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_every_engine_gives_the_stored_answers(engine: Engine, data: Dataset) -> None:
    if engine is duckdb_files.LAKE:
        pytest.importorskip("duckdb_extension_ducklake", reason="this extension of DuckDB comes with the group `bench`")
        duckdb_files.register(data.place, data.partitions)
    answers = data.answers()
    with contextlib.closing(engine.open(data.place)) as session:
        for query in (POINT, STATE_QUERY, DATE_QUERY):
            assert rows(session.run(query)) == answers[query.name]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_dagfusion_gives_every_stored_answer(query: Query, data: Dataset) -> None:
    with contextlib.closing(DagFusion(data.place)) as session:
        assert rows(session.run(query)) == data.answers()[query.name]


def test_the_limit_reads_the_rows_of_the_answer(data: Dataset) -> None:
    read = Limit(data.place).read([("CA", "2024-01-05")], ["npi"])
    assert read == len(data.answers()[POINT.name])


def test_one_more_partition_is_seen_and_undone(data: Dataset) -> None:
    with contextlib.closing(DagFusion(data.place)) as session:
        before = rows(session.run(COUNT))
        with data.one_more_partition():
            session.connection.refresh()
            assert rows(session.run(COUNT)) > before
    with contextlib.closing(DagFusion(data.place)) as session:
        assert rows(session.run(COUNT)) == before
        [info] = [info for info in session.connection.tables() if info.name == TABLE]
        assert info.partitions == data.partitions

"""A query without SELECT has all columns, wherever it stands; all other text stays as it is written."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import PlanError, SqlSyntaxError
from dagfusion_client.sql_text import with_select

# Marked where a SELECT is missing.
NAMES = st.sampled_from(["t", "a.b", '"from"', '"x(y"', "t /* FROM u */", "t -- (FROM u\n"])
WHERES = st.sampled_from(["", " WHERE x > 1", " WHERE s = '(FROM t'", " ORDER BY extract(day FROM d)", " LIMIT 3"])
FROMS = st.tuples(st.sampled_from(["FROM ", "from\n"]), NAMES, WHERES).map("".join)
HEADS = st.sampled_from(["SELECT a, count(*) ", "SELECT DISTINCT 1 ", "select $$(FROM t)$$ ", 'SELECT "UNION" '])


def _larger(query: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    word = st.sampled_from([" UNION ALL ", " UNION ", "\nEXCEPT\n", " INTERSECT ", " UNION ALL BY NAME "])
    return st.one_of(
        st.tuples(query, word, query).map("".join),
        st.tuples(query, query).map(lambda q: f"WITH c AS ({q[0]}) {q[1]}"),
        st.tuples(query, query).map(lambda q: f"WITH RECURSIVE c (a, b) AS ( {q[0]}), d AS ({q[1]})\n|FROM c, d"),
        query.map(lambda q: f"|FROM ({q}) q"),
        query.map(lambda q: f"SELECT 1, ({q}) AS x FROM t WHERE EXISTS ({q}) OR a IN ({q})"),
        query.map(lambda q: f"FROM ({q}) q SELECT a, trim(both 'x' FROM b)"),
    )


QUERIES = st.recursive(
    FROMS.map("|".__add__) | st.tuples(HEADS, FROMS).map("".join) | st.just("VALUES (1)"), _larger, max_leaves=6
)
PREFIXES = st.sampled_from(["", "EXPLAIN ", "explain analyze verbose ", "EXPLAIN FORMAT TREE ", "-- FROM\n", " \n"])


@given(PREFIXES, QUERIES, st.sampled_from(["", ";", " ; "]))
def test_select_is_put_before_each_from_that_begins_a_query(prefix: str, query: str, end: str) -> None:
    marked = prefix + query + end

    assert with_select(marked.replace("|", "")) == marked.replace("|", "SELECT * ")


@given(st.text(st.sampled_from("FROM from SELECT ()'\"-/*\n;$.,x")))
def test_nothing_else_is_changed(text: str) -> None:
    assert with_select(text).replace("SELECT * ", "") == text.replace("SELECT * ", "")


@pytest.fixture
def t(lake: Any) -> Any:
    for p in (1, 2):
        lake.write(("t",), pa.table({"x": [10 * p]}), {"p": pa.scalar(p)})
    return lake


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("FROM local_default.t ORDER BY p", [{"x": 10, "p": 1}, {"x": 20, "p": 2}]),
        ("FROM local_default.t WHERE p = 2", [{"x": 20, "p": 2}]),
        ("FROM local_default.t SELECT x WHERE p = 2", [{"x": 20}]),
        ("SELECT 0 AS z, * FROM (FROM local_default.t) q WHERE p = $1", [{"z": 0, "x": 20, "p": 2}]),
        ("WITH q AS (FROM local_default.t) FROM q WHERE x = 20", [{"x": 20, "p": 2}]),
        ("FROM (VALUES (1), (2)) v(a) WHERE a = 2", [{"a": 2}]),
    ],
)
def test_a_query_without_select_has_all_columns(t: Any, sql: str, rows: list[dict[str, int]]) -> None:
    assert t.rows(sql, [2] if "$1" in sql else None) == rows


def test_explain_sees_the_same_query(t: Any) -> None:
    prepared = t.prepare("EXPLAIN FROM local_default.t WHERE p = 2")

    assert prepared.is_explain
    assert [(scan.count, prepared.schema.names) for scan in prepared.scans] == [(1, ["x", "p"])]


@pytest.mark.parametrize("sql", ["SELECT FROM local_default.t", "SELECT * FROM (SELECT FROM local_default.t) q"])
def test_a_result_without_columns_is_an_error(t: Any, sql: str) -> None:
    with pytest.raises(PlanError, match="no columns"):
        t.prepare(sql)


def test_a_syntax_error_is_where_it_was_written(t: Any) -> None:
    with pytest.raises(SqlSyntaxError) as caught:
        t.prepare("FROM local_default.t WHERE WHERE x = 1")

    assert (caught.value.line, caught.value.column) == (1, 22)


@pytest.mark.parametrize("sql", ["SELECT abs(*) FROM local_default.t", "SELECT count(abs(*)) FROM local_default.t"])
@pytest.mark.parametrize("prefix", ["", "EXPLAIN ", "EXPLAIN ANALYZE "])
def test_a_star_that_is_no_value_is_an_error_of_planning(t: Any, prefix: str, sql: str) -> None:
    with pytest.raises(PlanError, match=r"only count\(\*\)"):
        t.prepare(prefix + sql)

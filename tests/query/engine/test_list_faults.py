"""Lists of one value in a filter keep their meaning, NULL included, whichever rule of DataFusion could merge them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_client.sql_text import may_negate_lists
from dagfusion_query.engine.logical_plan_faults import read_in_context
from tests.tiers import examples

ROWS = pa.table({"x": [None, 1, 2, 3, 5], "y": [None, 1, 2, None, 0]})
T = "local_default.t"
NEEDED = {  # what plain DataFusion answers with other rows
    "x NOT IN (1, 2) OR x NOT IN (3, 4)": [1, 2, 3, 5],
    "x IN (1, 2) AND x NOT IN (5, NULL)": [],
    "(x = 1 OR x = 2) AND x NOT IN (5, NULL)": [],
    "NOT (x IN (1, 2) AND x IN (3, 4))": [1, 2, 3, 5],
    "NOT (x = 1 OR x = 2) OR NOT (x = 3 OR x = 4)": [1, 2, 3, 5],
    "x + 1 NOT IN (2, 3) OR x + 1 NOT IN (4, 5)": [1, 2, 3, 5],
}


@pytest.fixture
def table(new_lake: Callable[[], Any]) -> Any:
    made = new_lake()
    made.write(("t",), ROWS, {"s": pa.scalar("CA")})
    made.write(("t",), ROWS, {"s": pa.scalar("NY")})
    return made


@pytest.fixture(scope="module")
def rows() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    connection.register("given", ROWS)
    connection.execute("CREATE TABLE t AS SELECT *, unnest(['CA', 'NY']) AS s FROM given")
    yield connection
    connection.close()


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("condition", NEEDED)
def test_rows_of_null_stay_out(table: Any, condition: str) -> None:
    found = table.rows(f"SELECT x FROM {T} WHERE s = 'CA' AND ({condition}) ORDER BY x")

    assert [row["x"] for row in found] == NEEDED[condition]


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("condition", NEEDED)
def test_rows_of_null_stay_out_of_subqueries(table: Any, condition: str) -> None:
    inner = f"SELECT count(*) FROM {T} WHERE s = 'CA' AND ({condition})"

    assert (
        len(table.rows(f"SELECT x FROM {T} WHERE x > 5 OR ({inner}) = {len(NEEDED[condition])}")) == 2 * ROWS.num_rows
    )
    assert table.rows(f"SELECT ({inner}) AS n, sum(y) FROM {T} HAVING sum(y) > 0")[0]["n"] == len(NEEDED[condition])


@pytest.mark.parametrize("condition", NEEDED)
def test_datafusion_needs_this(condition: str) -> None:
    """When these fail, DataFusion has its change 24258, and `logical_plan_faults.keep_lists_apart` can go."""
    context = SessionContext()
    context.from_arrow(ROWS, "t")
    found = context.sql(f"SELECT x FROM t WHERE {condition} ORDER BY x").to_pylist()

    assert [row["x"] for row in found] != NEEDED[condition]


VALUES = st.lists(st.sampled_from(["0", "1", "2", "3", "4", "5", "NULL"]), min_size=1, max_size=6).map(", ".join)
LISTS = st.builds(
    "{} {}IN ({})".format, st.sampled_from(["x", "x", "x + 1", "y"]), st.sampled_from(["", "NOT "]), VALUES
)
EQUALS = st.builds("({0} = {1} OR {0} = {2})".format, st.sampled_from("xy"), st.integers(0, 5), st.integers(0, 5))
CONDITIONS = st.recursive(
    st.one_of(
        LISTS, LISTS, EQUALS, st.sampled_from(["y > 0", "s NOT IN ('NY', 'TX')", "s IN ('CA', 'NY')", "x IS NULL"])
    ),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["AND", "OR"]), inner),
        st.builds("NOT ({})".format, inner),
        st.builds("CASE WHEN {} THEN {} ELSE y > 0 END".format, inner, inner),
    ),
    max_leaves=5,
)


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CONDITIONS)
def test_any_lists(table: Any, rows: duckdb.DuckDBPyConnection, condition: str) -> None:
    sql = f"SELECT x, y, s FROM {{}} WHERE {condition}"

    found = [tuple(row.values()) for row in table.rows(sql.format(T))]
    assert sorted(map(repr, found)) == sorted(map(repr, rows.execute(sql.format("t")).fetchall()))


@pytest.mark.parametrize(
    ("condition", "may_merge"),
    [*((condition, True) for condition in NEEDED), ("x NOT IN (1, 2) AND y IS NOT NULL", False)],
)
def test_few_statements_are_looked_into(condition: str, *, may_merge: bool) -> None:
    assert may_negate_lists(f"SELECT x FROM t WHERE {condition}") is may_merge


def test_other_lists_prune_files(table: Any) -> None:
    for condition in (
        "s NOT IN ('NY', 'TX')",
        "s IN ('CA', 'TX') AND x NOT IN (1, 2)",
        "s NOT IN ('NY') AND s NOT IN ('TX')",
    ):
        assert table.files_read(f"SELECT x FROM {T} WHERE {condition}") == [(1, 2)]


@pytest.mark.parametrize(
    "condition",
    [
        "NOT (x IN (1, 2)) OR (y = 1 AND (x > 1 AND (y > 1 OR (x < 0 OR y < 0))))",
        "TRUE NOT IN (SELECT TRUE FROM t b WHERE 7 IN (0)) OR EXISTS (SELECT 1 FROM t c WHERE c.x = a.y)",
    ],
)
def test_a_statement_without_such_lists_is_left_alone(tmp_path: Path, condition: str) -> None:
    """DataFusion cannot optimize each plan that it decoded."""
    context = SessionContext()
    pq.write_table(ROWS, tmp_path / "t.parquet")
    context.register_parquet("t", str(tmp_path / "t.parquet"))
    sql = f"SELECT x FROM t a WHERE {condition}"
    frame = context.sql(sql)

    assert may_negate_lists(sql)
    assert read_in_context(frame, context, sql) is frame

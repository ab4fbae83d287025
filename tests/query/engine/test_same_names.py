"""Columns of one name on both sides of a join: no filter reaches the other side's column."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiers import examples

pytestmark = pytest.mark.usefixtures("heavy")
T, U = "local_default.t", "local_default.u"
COUNT = 40_000  # some batches of 8,192 rows
LARGE = pa.table({"id": range(COUNT), "i": range(COUNT - 1, -1, -1), "y": [float(n) for n in range(COUNT)]})
SMALL = LARGE.slice(0, COUNT // 2)
FEW = {  # rows of two tables
    "t": pa.table({"k": [1, 1, 2, None], "x": [1, 5, 0, None], "y": [0, None, 2, 1]}),
    "u": pa.table({"k": [1, 1, 2, 3], "x": [9, 0, None, 4], "y": [1, 0, 0, 5]}),
}
BOTH_SIDES = (
    "SELECT a.x AS c0, b.x AS c1 FROM {t} AS a RIGHT JOIN {u} AS b ON a.k = b.k WHERE b.y < 2 AND (a.x > 2 OR b.k = 9)"
)
RIGHT = [{"c0": 5, "c1": 0}, {"c0": 5, "c1": 9}]
FIRST = [{"a": n, "b": COUNT - 1 - n, "s": COUNT - 1.0} for n in range(3)]


@pytest.fixture
def tables(lake: Any) -> Any:
    """The row groups of `t` have 64 rows in the order of `id`; the rows of `u` join their second half."""
    lake.write(("t",), LARGE, {})
    lake.write(("u",), SMALL, {})
    return lake


@pytest.mark.parametrize("source", [f"{U} a JOIN {T} b ON a.i = b.id", f"{T} b JOIN {U} a ON a.i = b.id"])
def test_the_first_rows_of_an_order(tables: Any, source: str) -> None:
    sql = f"SELECT a.id, b.id, a.y + b.y AS s FROM {source} ORDER BY a.id LIMIT 3"
    answer = tables.sql(sql)

    assert "DynamicFilter" not in tables.prepare(sql).physical.display_indent()
    assert answer.rename_columns(["a", "b", "s"]).to_pylist() == FIRST


@pytest.mark.parametrize("column", ["id", "y"])
def test_rows_without_a_partner(tables: Any, column: str) -> None:
    sql = f"SELECT a.y, b.y AS z, a.id, b.id AS d FROM {T} a RIGHT JOIN {T} b ON a.id = b.i + 900"

    assert len(tables.rows(f"{sql} WHERE a.{column} IS NULL")) == 900


def test_the_first_rows_inside_a_scalar_subquery(tables: Any) -> None:
    inner = f"SELECT a.id AS a, a.y + b.y + b.id AS s FROM {U} a JOIN {T} b ON a.i = b.id ORDER BY a.id LIMIT 3"

    total = sum(row["b"] + row["s"] for row in FIRST)
    assert tables.rows(f"SELECT (SELECT sum(s) FROM ({inner})) AS s") == [{"s": total}]


def test_other_joins_skip_row_groups(tables: Any) -> None:
    plan = tables.prepare(f"SELECT a.y FROM {U} a JOIN {T} b ON a.i = b.id WHERE b.y > 39000").physical.display_indent()

    assert "pruning_predicate=y" in plan
    assert "DynamicFilter" in plan


@pytest.fixture
def few(new_lake: Callable[[], Any]) -> Any:
    made = new_lake()
    for name, rows in FEW.items():
        made.write((name,), rows, {})
    return made


@pytest.mark.parametrize(("limit", "path"), [("", "splice"), (" LIMIT 9999999999", "staged")])
def test_a_filter_of_both_sides_stays_above_the_join(few: Any, limit: str, path: str) -> None:
    sql = BOTH_SIDES.format(t=T, u=U) + limit

    assert few.prepare(sql).path == path
    assert sorted(few.rows(sql), key=lambda row: row["c1"]) == RIGHT


def test_a_filter_inside_a_scalar_subquery_stays_above_the_join(few: Any) -> None:
    assert few.rows(f"SELECT (SELECT sum(c1) FROM ({BOTH_SIDES.format(t=T, u=U)})) AS s") == [{"s": 9}]


EVENTS = {  # rows of two tables, in which a filter of the first one's `x` is derived from the condition of a join
    "t": pa.table({"id": [4, 5], "x": [7.0, 7.0], "b": [False, False], "d": [9, 2], "at": [None, 3]}),
    "u": pa.table({"id": [1, 5, 12], "x": [None, -2.25, 0.0], "b": [False] * 3, "d": [None, None, 0], "at": [3, 3, 3]}),
}
DERIVED = f"""SELECT a.id, b.id AS j, c.id AS k, a.d + b.d AS e FROM {T} AS a RIGHT JOIN {U} AS b ON a.at = b.at
RIGHT JOIN {U} AS c ON a.b = c.b
WHERE CASE WHEN b.x IN (0e0, 7e0, 1e0, 2e0, NULL) THEN a.d >= 8 ELSE a.x IN (7e0, 1.5e0, 0e0, 3e0) END
OR (8 < b.d AND 2 = c.id)
ORDER BY c.id, a.id, b.id DESC"""


@pytest.mark.parametrize(("limit", "path"), [(" LIMIT 1", "splice"), (" LIMIT 9999999999", "staged")])
def test_a_filter_that_is_derived_from_the_condition_of_a_join_stays_above_the_join_below_it(
    new_lake: Callable[[], Any], limit: str, path: str
) -> None:
    made = new_lake()
    for name, rows in EVENTS.items():
        made.write((name,), rows, {})

    assert made.prepare(DERIVED + limit).path == path
    assert made.rows(DERIVED + limit)[0] == {"id": 5, "j": 5, "k": 1, "e": None}


NAMES = st.sampled_from("kxy")
COLUMN = st.sampled_from([f"{side}.{name}" for side in "ab" for name in "kxy"])
COMPARISON = st.one_of(
    st.builds("{} {} {}".format, COLUMN, st.sampled_from(["=", "<", ">="]), st.integers(0, 3)),
    st.builds("{} IS NULL".format, COLUMN),
    st.builds("{} IN (0, 1, 2, 5)".format, COLUMN),
    st.builds("({} IS DISTINCT FROM {})".format, COLUMN, COLUMN),
    st.builds("{} + {} < 3".format, COLUMN, COLUMN),
)
EITHER = st.builds("({} OR {})".format, COMPARISON, COMPARISON)
CONDITION = st.lists(COMPARISON | EITHER, min_size=1, max_size=4).map(" AND ".join)
SHAPES = [
    "SELECT {0} AS c0, {1} AS c1 FROM {source}",
    "SELECT {0} AS c0, {1} AS c1 FROM {source} GROUP BY {0}, {1} HAVING {1} IS NULL OR {0} > 0 OR count(*) > 2",
    """SELECT q.c0, q.n FROM (SELECT {0} AS c0, {1} AS c1, count(*) OVER (PARTITION BY {0}, {1}) AS n
    FROM {source}) AS q WHERE q.c1 > 0 OR q.n = 1""",
]
JOINS = st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
CASE = st.builds("CASE WHEN {} THEN {} ELSE {} END".format, COMPARISON, COMPARISON, COMPARISON)
OF_THIRD = st.builds("({} OR ({} AND c.{} = {}))".format, CASE, COMPARISON, NAMES, st.integers(0, 9))
SOURCES = st.one_of(
    st.builds("{{t}} AS a {} {{u}} AS b ON a.{} = b.{} WHERE {}".format, JOINS, NAMES, NAMES, CONDITION),
    st.builds(
        "{{t}} AS a {} {{u}} AS b ON a.{} = b.{} {} {{v}} AS c ON a.{} = c.{} WHERE {}".format,
        *(JOINS, NAMES, NAMES, JOINS, NAMES, NAMES, OF_THIRD | CONDITION),
    ),
)


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SHAPES), st.lists(COLUMN, min_size=2, max_size=2, unique=True), SOURCES)
def test_names_make_no_difference(few: Any, shape: str, columns: list[str], source: str) -> None:
    """The answer is that of DataFusion over rows in memory whose columns all have other names."""
    sql = shape.format(*columns, source=source)
    plain = SessionContext()
    for name, table, side in (("t", "t", "a"), ("u", "u", "b"), ("v", "u", "c")):
        plain.from_arrow(FEW[table].rename_columns([column + side for column in FEW[table].column_names]), name)
    renamed = re.sub(r"\b([abc])\.([kxy])\b", r"\1.\2\1", sql)
    expected = sorted(map(repr, plain.sql(renamed.format(t="t", u="u", v="v")).to_pylist()))

    for limit in ("", " LIMIT 9999999999"):  # spliced, and staged
        assert sorted(map(repr, few.rows(sql.format(t=T, u=U, v=U) + limit))) == expected


def test_datafusion_needs_filters_to_stay() -> None:
    """When this fails, DataFusion has mended its issue 25296 for filters of statements."""
    context = SessionContext()
    for name, rows in FEW.items():
        context.from_arrow(rows, name)

    assert context.sql(BOTH_SIDES.format(t="t", u="u")).to_pylist() != RIGHT


def test_datafusion_needs_this(tmp_path: Path) -> None:
    """When this fails, DataFusion has mended its issue 25296, and `keep_filters_in_place` can go."""
    context = SessionContext(SessionConfig().with_target_partitions(1).set("datafusion.execution.batch_size", "64"))
    for name, rows in (("t", LARGE), ("u", SMALL)):
        pq.write_table(rows, tmp_path / f"{name}.parquet", row_group_size=64)
        context.register_parquet(name, str(tmp_path / f"{name}.parquet"))
    rows = context.sql("SELECT a.id, b.id, a.y + b.y AS s FROM u a JOIN t b ON a.i = b.id ORDER BY a.id LIMIT 3")

    assert [value.as_py() for batch in rows.collect() for value in batch[0]] != [0, 1, 2]

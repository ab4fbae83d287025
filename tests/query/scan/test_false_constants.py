"""Rows are in order also where DataFusion 55 takes a column with several values for a constant."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionConfig, SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query.peer import duckdb_peer
from tests.tiers import examples

T = "local_default.t"
DAY = "CAST(u AS DATE) = DATE '2024-01-01'"
STATEMENTS = [
    f"SELECT id FROM {T} WHERE {DAY} ORDER BY u, id",
    f"SELECT id FROM {T} WHERE {DAY} ORDER BY u DESC, id LIMIT 2",
    f"SELECT id FROM {T} WHERE DATE '2024-01-01' = u::date AND k > 0 ORDER BY u, id",
    f"SELECT id FROM {T} WHERE CAST(u AS DATE) BETWEEN DATE '2024-01-01' AND DATE '2024-01-01' ORDER BY u, id",
    f"SELECT id FROM {T} WHERE u::date >= DATE '2024-01-01' AND u::date < DATE '2024-01-02' ORDER BY u, id",
    f"SELECT DISTINCT u FROM {T} WHERE {DAY} ORDER BY u LIMIT 2",
    f"SELECT u, count(*) AS n FROM {T} WHERE {DAY} GROUP BY u ORDER BY u DESC LIMIT 1",
    f"SELECT id, row_number() OVER (ORDER BY u, id) AS r FROM {T} WHERE {DAY} ORDER BY id",
    f"SELECT id, rank() OVER (PARTITION BY k ORDER BY u) AS r FROM {T} WHERE {DAY} ORDER BY id",
    f"SELECT a.id FROM {T} a JOIN {T} b ON a.id = b.id WHERE CAST(a.u AS DATE) = DATE '2024-01-01' ORDER BY a.u, a.id",
    f"SELECT id FROM (SELECT * FROM {T} ORDER BY id LIMIT 9) q WHERE {DAY} ORDER BY u, id",
    f"SELECT k, max(u) AS m FROM {T} GROUP BY k HAVING CAST(max(u) AS DATE) = DATE '2024-01-01' ORDER BY m, k",
    f"SELECT id FROM {T} WHERE trunc(x / 2) = 1 AND CAST(trunc(x) AS BIGINT) = 3 ORDER BY x, id LIMIT 3",
    f"SELECT id FROM {T} WHERE x + 1e20 = 1e20 ORDER BY x, id LIMIT 3",
    f"SELECT id, sum(k) FILTER (WHERE k > 1) OVER (ORDER BY u, id) AS s FROM {T} WHERE {DAY} ORDER BY id",  # is staged
    f"SELECT id FROM {T} WHERE {DAY} AND p < 2 ORDER BY u, p DESC, id",
    # Columns that are never NULL.
    f"SELECT id, p FROM (SELECT * FROM {T} ORDER BY id LIMIT 9) q WHERE p + 1e20 = 1e20 ORDER BY p DESC, id LIMIT 7",
    f"SELECT id FROM (SELECT * FROM {T} ORDER BY id LIMIT 9) q WHERE p + 1e20 = 1e20 AND {DAY} ORDER BY p DESC, u, id",
    f"SELECT k, p, count(*) AS n FROM {T} GROUP BY k, p HAVING count(*) + 1e20 = 1e20 ORDER BY n, k, p LIMIT 4",
    f"SELECT k, count(x) AS n FROM {T} GROUP BY k HAVING CAST(count(x) AS DOUBLE) + 1e20 = 1e20 ORDER BY n, k",
    f"SELECT id FROM (SELECT id, rank() OVER (ORDER BY id) AS r FROM {T}) q WHERE r + 1e20 = 1e20 ORDER BY r DESC",
    f"SELECT n FROM (SELECT p, count(*) AS n FROM {T} WHERE id <> 3 GROUP BY p) q WHERE n - 1e20 = -1e20 ORDER BY n",
    "SELECT v FROM (VALUES (2), (3), (1)) AS q(v) WHERE v + 1e20 = 1e20 ORDER BY v",
    "SELECT v FROM generate_series(1, 3) AS q(v) WHERE v + 1e20 = 1e20 ORDER BY v DESC",
    (
        "WITH RECURSIVE q(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM q WHERE v < 4) "
        "SELECT v FROM q WHERE v + 1e20 = 1e20 ORDER BY v DESC"
    ),
    (
        f"SELECT id FROM (SELECT id, w, row_number() OVER (PARTITION BY w ORDER BY id) AS r FROM {T}) q "
        "WHERE r + w + 1e20 <= 1e20 ORDER BY r DESC, id LIMIT 4"
    ),
    # Filters in subqueries, and without a comparison.
    f"SELECT id FROM {T} WHERE id >= (SELECT id FROM {T} WHERE {DAY} ORDER BY u, id LIMIT 1) ORDER BY id",
    (
        f"SELECT k, count(*) AS n FROM {T} GROUP BY k "
        f"HAVING count(*) > (SELECT k FROM {T} WHERE x + 1e20 = 1e20 ORDER BY x, id LIMIT 1) ORDER BY k"
    ),
    f"SELECT id FROM {T} WHERE CAST(k AS BOOLEAN) ORDER BY k DESC, id LIMIT 2",
    f"SELECT id, rank() OVER (PARTITION BY k ORDER BY id) AS r FROM {T} WHERE CAST(k AS BOOLEAN) = true ORDER BY id",
    # Rows that a join fills with NULL.
    f"SELECT a.id, b.k FROM {T} a LEFT JOIN {T} b ON a.id = b.id AND b.k = 2 ORDER BY b.k, a.id",
    (
        f"SELECT a.id, count(*) OVER (PARTITION BY b.k) AS n, sum(a.id) OVER (ORDER BY b.k) AS s "
        f"FROM {T} a LEFT JOIN {T} b ON a.id = b.id AND b.k = 2 ORDER BY a.id"
    ),
    (
        f"SELECT a.id, row_number() OVER (ORDER BY b.k, a.id) AS r "
        f"FROM {T} a LEFT JOIN (SELECT * FROM {T} WHERE k >= 2 AND k < 3) b ON a.id = b.id ORDER BY a.id"
    ),
    f"SELECT a.id, b.id AS other FROM {T} a LEFT JOIN {T} b ON a.id = b.id AND b.id = 13 ORDER BY b.id, a.id LIMIT 3",
    (
        f"SELECT a.id, b.one FROM {T} a LEFT JOIN (SELECT id, 1 AS one FROM {T} WHERE k <> 2 UNION ALL SELECT 1, 1) b "
        "ON a.id = b.id ORDER BY b.one, a.id"
    ),
    f"SELECT a.id, b.n FROM (SELECT 13 AS id, 5 AS n) b RIGHT JOIN {T} a ON a.id = b.id ORDER BY b.n, a.id LIMIT 2",
    (
        f"SELECT a.id, b.id AS other FROM (SELECT * FROM {T} WHERE k = 3) a FULL JOIN (SELECT * FROM {T} WHERE k = 2) b"
        " ON a.id = b.id + 1 ORDER BY a.k, b.k, a.id, b.id"
    ),
    (
        f"SELECT a.id FROM {T} a LEFT JOIN ({T} b LEFT JOIN (SELECT * FROM {T} WHERE k = 3) c ON b.id = c.id + 1) "
        "ON a.id = b.id AND b.k = 2 ORDER BY b.k, c.k, a.id"
    ),
    f"SELECT a.id FROM {T} a LEFT JOIN {T} b ON a.id > b.id + 20 AND b.k = 2 ORDER BY b.k, b.id, a.id",
    (
        f"SELECT a.id, sum(b.k) FILTER (WHERE a.id > 1) OVER (PARTITION BY b.k ORDER BY a.id) AS s "  # is staged
        f"FROM {T} a LEFT JOIN {T} b ON a.id = b.id AND b.k = 2 ORDER BY a.id"
    ),
    # Other constants than those of filters and literals.
    (
        f"SELECT a.id, rank() OVER (PARTITION BY b.n ORDER BY a.id) AS r "
        f"FROM {T} a LEFT JOIN (SELECT max(k) AS m, count(x) AS n FROM {T} WHERE id > 3) b ON a.id = b.m ORDER BY a.id"
    ),
    (
        f"SELECT a.id, b.n FROM {T} a LEFT JOIN (SELECT max(id) AS m, sum(k) AS n FROM {T} WHERE p = 1) b "
        "ON a.id = b.m ORDER BY b.n, a.id LIMIT 3"
    ),
    (
        f"SELECT a.id, b.n FROM {T} a LEFT JOIN (SELECT id, count(*) OVER () AS n FROM {T} WHERE k <> 2) b "
        "ON a.id = b.id ORDER BY b.n, a.id"
    ),
    (
        f"SELECT a.id, b.n FROM {T} a LEFT JOIN (SELECT k AS id, 5 AS n, count(*) AS c FROM {T} WHERE k = 2 "
        "GROUP BY 1, 2) b ON a.id = b.id ORDER BY b.n, a.id"
    ),
    (
        f"SELECT a.id, b.k FROM {T} a LEFT JOIN (SELECT id, k FROM {T} WHERE id >= (SELECT b.id "
        f"FROM {T} a LEFT JOIN {T} b ON a.id = b.id AND b.k = 2 ORDER BY b.k NULLS LAST, a.id LIMIT 1)) b "
        "ON a.id = b.id ORDER BY b.k, a.id"
    ),
    (
        f"SELECT a.id, (SELECT count(*) FROM {T} b WHERE b.id = a.k AND b.k = 3) AS c, b.k IS NULL AS n "
        f"FROM {T} a LEFT JOIN {T} b ON a.id = b.id AND b.k = 2 ORDER BY c, n, a.id"
    ),
    # Rows that groups of several sets fill with NULL.
    (
        f"SELECT k, p, sum(id) FILTER (WHERE id > (SELECT k FROM {T} WHERE k = 2 GROUP BY ROLLUP(k, p) "
        f"ORDER BY k NULLS LAST, p NULLS FIRST LIMIT 1)) AS n FROM {T} WHERE k = 2 "
        "GROUP BY ROLLUP(k, p) ORDER BY k, p, n"
    ),
    f"SELECT k, p, count(*) AS n FROM {T} WHERE k = 2 GROUP BY ROLLUP(k, p) ORDER BY k, p, n",
    f"SELECT k, id, count(*) AS n FROM {T} WHERE k = 2 GROUP BY CUBE(k, id) ORDER BY k, id, n LIMIT 3",
    (
        f"SELECT k, id, rank() OVER (PARTITION BY k ORDER BY id) AS r FROM (SELECT k, id FROM {T} WHERE k = 2 "
        "GROUP BY GROUPING SETS ((k, id), (id), (k), ())) q ORDER BY k, id, r"
    ),
    f"SELECT one, k, count(*) AS n FROM (SELECT 1 AS one, k FROM {T}) q GROUP BY ROLLUP(one, k) ORDER BY one, k, n",
]


@pytest.mark.parametrize("parallelism", [1, 4])
def test_rows_are_in_order(new_lake: Any, parallelism: int) -> None:
    lake, peer = new_lake(settings={"DAGFUSION_PARALLELISM": str(parallelism)}), duckdb_peer()
    times = [dt.datetime(2024, 1, 1, hour) for hour in (10, 1, 0)] + [dt.datetime(2023, 1, 1), None]  # noqa: DTZ001
    parts = []
    for number in range(3):
        columns = {
            "id": [10 * number + row for row in range(5)],
            "k": [3, 2, 3, 1, 2],
            "x": [3.4, 3.1, 3.3, 2.0, None],
            "w": [7, 0, 5, 1, 2],
            "u": pa.array(times, pa.timestamp("us")),
        }
        parts.append(pa.table({**columns, "p": [number] * 5}))
        lake.write(("t",), pa.table(columns), {"p": pa.scalar(number)})
    peer.execute("CREATE SCHEMA local_default")
    peer.register("parts", pa.concat_tables(parts))
    peer.execute(f"CREATE TABLE {T} AS FROM parts")
    for sql in STATEMENTS:
        assert lake.sql(sql).to_pylist() == peer.execute(sql).to_arrow_table().to_pylist(), sql
    peer.close()


def test_integer_division_leaves_several_values(new_lake: Any) -> None:
    lake = new_lake()
    lake.write(("t",), pa.table({"id": [1, 2, 3], "k": [3, 2, 3]}))

    assert lake.sql(f"SELECT id FROM {T} WHERE k / 2 = 1 ORDER BY k, id")["id"].to_pylist() == [2, 1, 3]


ROWS = pa.table(
    {
        "id": range(8),
        "y": pa.array([1, 1, 1, 5, None, None, 2, 3], pa.int64()),
        "z": pa.array([None, 2, None, None, 2, None, 0, 3], pa.int64()),
        "x": [3.1, 3.2, 4.0, 9.0, 3.3, None, None, 2.0],
    }
)
NUMBERS = st.sampled_from(["y", "z", "x", "1", "2", "3"])
VALUES = NUMBERS | st.tuples(NUMBERS, st.sampled_from("+-*"), NUMBERS).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
VALUES |= NUMBERS.map(lambda value: f"CAST({value} AS BIGINT)")
SIGNS = st.sampled_from(["=", "<", ">=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
COMPARED = st.tuples(VALUES, SIGNS, VALUES).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
COMPARED |= st.tuples(VALUES, VALUES, VALUES).map(lambda t: f"({t[0]} BETWEEN {t[1]} AND {t[2]})")
COMPARED |= NUMBERS.map(lambda value: f"({value} IS NULL)")
CONDITIONS = st.recursive(
    COMPARED,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["AND", "OR", "=", "<>", "IS DISTINCT FROM"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        )
        | inner.map(lambda one: f"(NOT {one})")
    ),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("(y = 1 OR z = 2) = (CAST(x AS BIGINT) = 3)", [0, 1, 4, 7]),
        ("(y > 1 AND z > 1) = (x + 1 > 100)", [0, 1, 2]),
        ("(z IS DISTINCT FROM 2) = (CAST(x AS BIGINT) = 3)", [0]),
        ("(z IS NOT DISTINCT FROM 2) = (x * 2 > 100)", [0, 2, 3, 7]),
    ],
)
def test_a_filter_keeps_rows_whose_columns_may_be_null(new_lake: Any, condition: str, ids: list[int]) -> None:
    lake = new_lake()
    lake.write(("t",), ROWS)

    assert sorted(lake.sql(f"SELECT id FROM {T} WHERE {condition}")["id"].to_pylist()) == ids


@pytest.mark.usefixtures("heavy")
@settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conditions=st.lists(CONDITIONS, min_size=5, max_size=20))
def test_no_filter_loses_a_row(new_lake: Any, conditions: list[str]) -> None:
    lake, plain = new_lake(), SessionContext()
    lake.write(("t",), ROWS)
    plain.from_arrow(ROWS, "t")
    for condition in conditions:
        found = lake.sql(f"SELECT id FROM {T} WHERE {condition}")["id"].to_pylist()
        expected = plain.sql(f"SELECT id FROM t WHERE {condition}").to_pydict()["id"]
        assert sorted(found) == sorted(expected), condition


COLUMNS = st.sampled_from(["k", "one", "z", "id"])
INPUTS = st.tuples(
    st.sampled_from([f"{T}", f"(SELECT * FROM {T} ORDER BY id LIMIT 12)", f"(SELECT DISTINCT k, z, id, p FROM {T})"]),
    st.sampled_from(["true", "k = 2", "z = 1 AND k = 2", "k + 1 = 3", "k BETWEEN 2 AND 2", "id = 11", "p = 1"]),
).map(lambda t: f"(SELECT k, z, id, 1 AS one FROM {t[0]} AS i WHERE {t[1]})")
INPUTS |= st.sampled_from(
    [
        f"(SELECT max(k) AS k, max(z) AS z, max(id) AS id, count(z) AS one FROM {T} WHERE k > 1)",
        f"(SELECT k, z, id, count(*) OVER () AS one FROM {T} WHERE z = 1)",
        f"(SELECT k, 1 AS z, max(id) AS id, p AS one FROM {T} WHERE p = 1 GROUP BY k, p)",
        f"(SELECT k, z, id, p AS one FROM {T} WHERE p > (SELECT min(k) - 1 FROM {T} GROUP BY ROLLUP(p) LIMIT 1))",
    ]
)
JOINS = st.tuples(st.sampled_from(["LEFT", "RIGHT", "FULL", "INNER"]), INPUTS, st.sampled_from(["id", "k", "z"]))


@st.composite
def filled_statements(draw: st.DrawFn) -> str:
    """Return a statement over up to two joins, or over groups of several sets, that sorts by what may be filled."""
    joins = draw(st.lists(JOINS, max_size=2))
    sources = [f"{draw(INPUTS)} AS t0"]
    for number, (kind, other, key) in enumerate(joins, 1):
        sources.append(f"{kind} JOIN {other} AS t{number} ON t{number - 1}.{key} = t{number}.{key}")
    order = [f"t{draw(st.integers(0, len(joins)))}.{draw(COLUMNS)}" for _ in range(2)]
    source = " ".join(sources)
    match draw(st.sampled_from(["sort", "window", "sets"])):
        case "sort":
            return (
                f"SELECT {order[0]} AS a, {order[1]} AS b FROM {source} ORDER BY a, b LIMIT {draw(st.integers(1, 30))}"
            )
        case "window":
            rank = f"rank() OVER (PARTITION BY {order[0]} ORDER BY {order[1]})"
            return f"SELECT {order[0]} AS a, {order[1]} AS b, {rank} AS r FROM {source} ORDER BY a, b, r"
    sets = draw(st.sampled_from(["ROLLUP(a, b)", "CUBE(a, b)", "GROUPING SETS ((a), (b), (a, b))"]))
    inner = f"SELECT {order[0]} AS a, {order[1]} AS b FROM {source}"
    return f"SELECT a, b, count(*) AS n FROM ({inner}) q GROUP BY {sets} ORDER BY a, b, n"


@pytest.mark.usefixtures("heavy")
@settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(statements=st.lists(filled_statements(), min_size=5, max_size=15))
def test_filled_rows_are_in_order(new_lake: Any, statements: list[str]) -> None:
    lake, peer, parts = new_lake(settings={"DAGFUSION_PARALLELISM": "4"}), duckdb_peer(), []
    for number in range(3):
        rows = pa.table(
            {
                "id": range(10 * number, 10 * number + 5),
                "k": [3, 2, 3, 1, 2],
                "z": pa.array([1, 1, None, 2, 1], pa.int64()),
            }
        )
        parts.append(rows.append_column("p", pa.array([number] * 5, pa.int64())))
        lake.write(("t",), rows, {"p": pa.scalar(number)})
    with peer:
        peer.execute("CREATE SCHEMA local_default")
        peer.register("parts", pa.concat_tables(parts))
        peer.execute(f"CREATE TABLE {T} AS FROM parts")
        for sql in statements:
            assert lake.sql(sql).to_pylist() == peer.execute(sql).to_arrow_table().to_pylist(), sql


def test_a_filled_column_may_have_an_empty_name(new_lake: Any) -> None:
    lake = new_lake()
    lake.write(("t",), ROWS)
    empty = f'(SELECT id AS i, y AS "", x AS w FROM {T} WHERE y = 1)'
    joined = f"(SELECT id, z FROM {T}) a LEFT JOIN {empty} b ON a.id = b.i"
    sql = f'SELECT * FROM {joined} ORDER BY b."" NULLS FIRST, a.id DESC'
    rows = lake.sql(sql).to_pylist()

    assert [row["id"] for row in rows] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert [(row["i"], row[""], row["w"]) for row in rows[4:6]] == [(None, None, None), (2, 1, 4.0)]


def test_the_filters_of_a_filled_input_reach_its_scan(new_lake: Any) -> None:
    lake = new_lake()
    lake.write(("t",), ROWS)
    sql = f"SELECT a.id, b.x FROM {T} a LEFT JOIN (SELECT z AS i, x FROM {T} WHERE y = 1) b ON a.id = b.i ORDER BY b.x"

    assert "predicate=y@1 = 1" in lake.engine.explain(lake.prepare(sql)).physical


def test_plain_datafusion_removes_the_sort() -> None:
    """If this fails, the fault is mended, and filters need no condition that is not analyzed."""
    context = SessionContext()
    context.from_arrow(pa.table({"x": [3.4, 3.1]}), "t")

    assert context.sql("SELECT x FROM t WHERE CAST(x AS BIGINT) = 3 ORDER BY x").to_pydict() == {"x": [3.4, 3.1]}


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT b.k FROM t a LEFT JOIN t b ON a.x = b.x AND b.k = 2 ORDER BY b.k NULLS FIRST", [None, None, 2, 2]),
        ("SELECT k FROM t WHERE k = 2 GROUP BY CUBE (k, x) ORDER BY k", [2, 2, 2, None, None, None]),
        (
            "SELECT b AS k FROM (SELECT k AS a, k AS b FROM t) q GROUP BY CUBE (a, b) ORDER BY a, b",
            [2, None, 3, None, 2, 3, None],
        ),
    ],
)
def test_plain_datafusion_knows_too_much_of_filled_rows(sql: str, rows: list[int | None]) -> None:
    """If one of these fails, that fault is mended, and `false_constants` need not look at such operators."""
    context = SessionContext(SessionConfig().with_target_partitions(1))
    context.from_arrow(pa.table({"x": [1, 2, 3, 4], "k": [3, 2, 3, 2]}), "t")

    assert context.sql(sql).to_pydict()["k"] != rows

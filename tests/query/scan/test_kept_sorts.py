"""Rows are in order also where a filter leaves values that DataFusion 55 takes for one."""

import datetime as dt
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from datafusion import SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    f"SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS r FROM {T}) q WHERE r + 1e20 = 1e20 ORDER BY r DESC",
    f"SELECT p, n FROM (SELECT p, count(*) AS n FROM {T} WHERE id <> 3 GROUP BY p) q WHERE n - 1e20 = -1e20 ORDER BY n, p",
    "SELECT v FROM (VALUES (2), (3), (1)) AS q(v) WHERE v + 1e20 = 1e20 ORDER BY v",
    "SELECT v FROM generate_series(1, 3) AS q(v) WHERE v + 1e20 = 1e20 ORDER BY v DESC",
    "WITH RECURSIVE q(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM q WHERE v < 4) "
    "SELECT v FROM q WHERE v + 1e20 = 1e20 ORDER BY v DESC",
]


@pytest.mark.parametrize("parallelism", [1, 4])
def test_rows_are_in_order(new_lake: Any, parallelism: int) -> None:
    lake, peer = new_lake(settings={"DAGFUSION_PARALLELISM": str(parallelism)}), duckdb.connect()
    times = [dt.datetime(2024, 1, 1, hour) for hour in (10, 1, 0)] + [dt.datetime(2023, 1, 1), None]  # noqa: DTZ001
    parts = []
    for number in range(3):
        columns = {
            "id": [10 * number + row for row in range(5)],
            "k": [3, 2, 3, 1, 2],
            "x": [3.4, 3.1, 3.3, 2.0, None],
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


def test_plain_datafusion_removes_the_sort() -> None:
    """If this fails, the fault is mended, and `keep_sorts` is not needed."""
    context = SessionContext()
    context.from_arrow(pa.table({"x": [3.4, 3.1]}), "t")

    assert context.sql("SELECT x FROM t WHERE CAST(x AS BIGINT) = 3 ORDER BY x").to_pydict() == {"x": [3.4, 3.1]}

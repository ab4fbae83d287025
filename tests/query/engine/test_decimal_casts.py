"""A comparison of a decimal that is cast to fewer digits is of the cast's value, wherever it stands."""

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from datafusion import SessionContext

from dagfusion_client.sql_text import may_lose_digits

T = "local_default.t"
PRICES = [Decimal(text) for text in ("1.54", "1.50", "1.49", "2.51", "-1.54", "0.99")]
# DuckDB rounds where DataFusion cuts off.
CONDITIONS = {
    "CAST(d AS BIGINT) = 1": "trunc(d) = 1",
    "TRY_CAST(d AS INT) IN (1, 2)": "trunc(d) IN (1, 2)",
    "d::smallint BETWEEN 0 AND 1": "trunc(d) BETWEEN 0 AND 1",
    "1 >= CAST(d AS BIGINT)": "trunc(d) <= 1",
    "NOT (CAST(d AS BIGINT) <> 1) OR k = 1": "trunc(d) = 1 OR k = 1",
    "CAST(d * 2 AS BIGINT) = 3 AND k > 1": "trunc(d * 2) = 3 AND k > 1",
    "CAST(d AS DECIMAL(10, 1)) = 1.5": "CAST(d AS DECIMAL(10, 1)) = 1.5",
    "CAST(d AS DECIMAL(10, 1)) > 1.5": "CAST(d AS DECIMAL(10, 1)) > 1.5",
    "CAST(d AS NUMERIC(10, 1)) IN (1.5, 1.6)": "CAST(d AS DECIMAL(10, 1)) IN (1.5, 1.6)",
    "CAST(d AS DECIMAL(12, 4)) = 1.5": "CAST(d AS DECIMAL(12, 4)) = 1.5",
}
STATEMENTS = [
    f"SELECT id FROM {T} WHERE {{}} ORDER BY id",
    f"SELECT id, ({{}}) AS c FROM {T} ORDER BY id",
    f"SELECT sum(CASE WHEN {{}} THEN 1 ELSE 0 END) AS s, count(*) FILTER (WHERE {{}}) AS n FROM {T}",
    f"SELECT a.id, j FROM {T} a JOIN (SELECT id AS j, d AS e FROM {T}) b ON a.id = b.j + 1 AND ({{}}) ORDER BY a.id, j",
    f"SELECT a.id, j FROM (SELECT id AS j FROM {T}) b LEFT JOIN {T} a ON a.id = b.j + 1 AND ({{}}) ORDER BY j",
    f"SELECT k, count(*) AS n FROM {T} GROUP BY k, d HAVING {{}} ORDER BY k, n",
    f"SELECT id, sum(CASE WHEN {{}} THEN 1 ELSE 0 END) OVER (ORDER BY id) AS s FROM {T} ORDER BY id",
    f"SELECT id, count(*) FILTER (WHERE {{}}) OVER (ORDER BY id) AS s FROM {T} ORDER BY id",
    f"SELECT c, count(*) AS n FROM (SELECT k, d, ({{}}) AS c FROM {T}) q GROUP BY ROLLUP(c) ORDER BY n, c",
    f"SELECT ({{}}) AS c, count(*) AS n FROM {T} GROUP BY ROLLUP({{}}) ORDER BY n, c",
    f"SELECT ({{}}) AS c, k, count(*) AS n FROM {T} GROUP BY GROUPING SETS (({{}}, k), (k), ()) ORDER BY n, k, c",
    f"SELECT o.id FROM {T} o WHERE EXISTS (SELECT 1 FROM {T} WHERE id = o.id + 1 AND (({{}}) OR o.k = 3)) ORDER BY id",
    f"SELECT id FROM {T} WHERE id IN (SELECT id FROM {T} WHERE {{}}) ORDER BY id",
]


@pytest.fixture(scope="module")
def peer() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA local_default")
        connection.register("rows", rows())
        connection.execute(f"CREATE TABLE {T} AS FROM rows")
        yield connection


def rows() -> pa.Table:
    return pa.table({"id": range(6), "k": [1, 2, 3, 2, 2, 1], "d": pa.array(PRICES, pa.decimal128(10, 2))})


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_cast_is_compared(new_lake: Any, peer: duckdb.DuckDBPyConnection, condition: str) -> None:
    lake = new_lake()
    lake.write(("t",), rows())
    for statement in STATEMENTS:
        sql, theirs = (statement.replace("{}", text) for text in (condition, CONDITIONS[condition]))
        assert lake.sql(sql).to_pylist() == peer.execute(theirs).to_arrow_table().to_pylist(), sql


def test_a_cast_of_a_subquery_is_compared(new_lake: Any) -> None:
    lake = new_lake()
    lake.write(("t",), rows())
    cast = f"(SELECT CAST(d AS BIGINT) AS x, id FROM {T})"
    grouped = f"SELECT CAST(d AS BIGINT) AS x, count(*) AS n FROM {T} GROUP BY CAST(d AS BIGINT)"

    assert lake.sql(f"SELECT id FROM {cast} q WHERE x = 1 ORDER BY id")["id"].to_pylist() == [0, 1, 2]
    assert lake.sql(f"{grouped} HAVING CAST(d AS BIGINT) = 1").to_pylist() == [{"x": 1, "n": 3}]
    assert lake.sql(f"SELECT n FROM ({grouped}) q WHERE x = 1").to_pylist() == [{"n": 3}]


@pytest.mark.parametrize(
    ("sql", "may"),
    [
        ("CAST(d AS BIGINT) = 1", True),
        ("d::int = 1", True),
        ("CAST(d AS /* digits */ DECIMAL(3, 1)) = 1", True),
        ("CAST(d AS -- digits\n numeric(3, 1)) = 1", True),
        ("CAST(d AS " + "/**/" * 10_000 + " int)", True),
        ("CAST(d AS " + "/**/" * 10_000 + " x)", False),  # a pattern of comments could take forever
        ("sum(x) AS interest", False),
        ("sum(x) AS int", False),
        ("x AS decimals", False),
        ("CAST(u AS DATE)", False),
    ],
)
def test_the_text_of_a_statement_tells_whether_it_may_lose_digits(sql: str, may: bool) -> None:  # noqa: FBT001
    assert may_lose_digits(sql) == may


def test_the_rest_of_a_statement_with_sets_is_still_read_in_context(new_lake: Any) -> None:
    lake = new_lake()
    moments = pa.array([dt.datetime(2024, 1, 1, hour) for hour in range(6)], pa.timestamp("us"))  # noqa: DTZ001
    lake.write(("t",), rows().append_column("u", moments))
    cast = "CAST(d AS BIGINT)"
    sql = f"SELECT {cast} AS c, count(*) AS n FROM {T} WHERE u > '2024-01-01 03:00' GROUP BY ROLLUP({cast}) ORDER BY c"

    assert lake.sql(sql).to_pylist() == [{"c": -1, "n": 1}, {"c": 0, "n": 1}, {"c": None, "n": 2}]


@pytest.mark.parametrize("condition", ["TRY_CAST(i AS TINYINT) <> 5", "TRY_CAST(i AS TINYINT) < 7"])
def test_a_cast_that_has_no_value_is_null(new_lake: Any, condition: str) -> None:
    lake = new_lake()
    lake.write(("t",), pa.table({"i": [300, 5, -300, 6]}))
    right = [6] if "<>" in condition else [5, 6]

    assert lake.sql(f"SELECT i FROM {T} WHERE {condition} ORDER BY i")["i"].to_pylist() == right


def test_plain_datafusion_drops_the_cast() -> None:
    """If this fails, the fault is mended, and `engine/decimal_casts.py` can go."""
    context = SessionContext()
    context.from_arrow(rows(), "t")

    assert context.sql("SELECT id FROM t WHERE CAST(d AS BIGINT) = 1").to_pydict() == {"id": []}

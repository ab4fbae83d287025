"""A comparison of a decimal that is cast to fewer digits is of the cast's value, wherever it stands."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from datafusion import SessionContext

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


def test_plain_datafusion_drops_the_cast() -> None:
    """If this fails, the fault is mended, and `engine/decimal_casts.py` can go."""
    context = SessionContext()
    context.from_arrow(rows(), "t")

    assert context.sql("SELECT id FROM t WHERE CAST(d AS BIGINT) = 1").to_pydict() == {"id": []}

"""Statements of views for Spark: what has the same rows in any session, and the work that it takes to know that."""

import re
import sys
from collections import Counter
from collections.abc import Callable

import pyarrow as pa
import pytest

from dagfusion_client.errors import EngineChoiceError
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_interop.spark.spark_sql import SparkNames, spark_statement, spark_view

ORGS, PRICES, TOTALS = TableName("uat_a", "orgs"), TableName("uat_a", "prices"), TableName("uat_b", "totals")
ZONED = pa.timestamp("us", "UTC")
COLUMNS = {
    ORGS: pa.schema(
        {"state": pa.string(), "n": pa.int64(), "d": pa.date32(), "ts": pa.timestamp("us"), "at": ZONED, "s": ZONED}
    ),
    PRICES: pa.schema({"id": pa.int64(), "price": pa.decimal128(12, 2)}),
    TOTALS: pa.schema({"n": pa.int64()}),
}
REFUSED = re.compile(r"SELECT `the statement of this view may have other rows [^`$]*`")


def read_by(sql: str) -> dict[TableName, pa.Schema]:
    return {name: schema for name, schema in COLUMNS.items() if str(name) in sql}


def written(sql: str, columns: dict[str, pa.DataType] | None = None, **left_out: str) -> str | None:
    """Return what is published of a view; None for the statement that Spark refuses."""
    sources = read_by(sql)
    text = spark_view(View(sql, [*sources], pa.schema(columns or {})), sources, {ORGS: left_out})
    return None if REFUSED.fullmatch(text) else text


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT state, sum(n) AS n, avg(n) AS a FROM uat_a.orgs GROUP BY state ORDER BY state LIMIT 5", {}),
        ("FROM uat_b.totals WHERE n > -1 AND n BETWEEN 1 AND 7", {}),
        ("SELECT ts, d FROM uat_a.orgs WHERE d >= DATE '2024-01-01' AND d < ts", {}),
        ("SELECT state FROM uat_a.orgs WHERE d = CAST('2024-01-01' AS DATE) OR ts > '2024-01-01'", {}),
        ("SELECT n FROM (SELECT max(n) AS n FROM uat_a.orgs UNION SELECT n FROM uat_b.totals) a WHERE n > 1", {}),
        ("SELECT *, count(*) AS c FROM uat_b.totals, (SELECT id FROM uat_a.prices WHERE price > 5) p", {}),
        ("SELECT max(price) AS p FROM uat_a.prices WHERE price BETWEEN 1 AND 2.5", {}),
        ("SELECT state LIKE 'a%' AS a, lower(state) AS b, coalesce(state, '') AS c FROM uat_a.orgs", {}),
        ("SELECT * FROM uat_a.orgs WHERE n = 1", {"at": ZONED, "s": ZONED, "n": pa.int64()}),
        ("SELECT state, o.at, s AS x FROM uat_a.orgs o ORDER BY at DESC, n", {"at": ZONED, "x": ZONED}),
        ("SELECT at y, count(s) AS c, min(o.s) AS z FROM uat_a.orgs o GROUP BY at", {"y": ZONED, "z": ZONED}),
        ("SELECT DISTINCT at FROM uat_a.orgs LIMIT 3", {"at": ZONED}),
    ],
)
def test_what_has_the_same_rows_in_every_session_is_published(sql: str, columns: dict[str, pa.DataType]) -> None:
    names = SparkNames("", dict.fromkeys(COLUMNS, ""), {}, COLUMNS)
    assert written(sql, columns) == spark_statement(sql, {}, names)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT date_trunc('day', ts) AS t FROM uat_a.orgs",
        "SELECT extract(YEAR FROM d) AS y FROM uat_a.orgs",
        "SELECT n FROM uat_a.orgs WHERE ts >= TIMESTAMP '2024-01-01 00:00:00'",
        "SELECT n FROM uat_a.orgs WHERE ts >= CAST('2024-01-01' AS TIMESTAMP)",
        "SELECT CAST(NULL AS TIMESTAMP) AS x FROM uat_a.orgs",
        "SELECT d + INTERVAL '1 day' AS x FROM uat_a.orgs",
        "SELECT n FROM uat_a.orgs WHERE at >= '2024-01-01'",
        "SELECT n FROM uat_a.orgs WHERE '2024-01-01' <= (SELECT at FROM uat_a.orgs LIMIT 1)",
        "SELECT n FROM uat_a.orgs WHERE at = d",
        "SELECT n FROM uat_a.orgs GROUP BY n HAVING max(at) > '2024-01-01'",
        "SELECT n FROM (SELECT at AS x, n FROM uat_a.orgs) o WHERE x > '2024-01-01'",
        "SELECT n FROM (SELECT * FROM uat_a.orgs) o (a, b, c, d, e, f) WHERE e > '2024-01-01'",
        "SELECT a FROM uat_a.orgs o (a, b, c, d, e, f) WHERE e > '2024-01-01'",
        "SELECT n FROM uat_b.totals WHERE '2024-01-01' IN (SELECT * FROM uat_a.orgs)",
        "SELECT coalesce(at, '2024-01-01') AS n FROM uat_a.orgs",
        "SELECT CASE WHEN n > 1 THEN at ELSE d END AS n FROM uat_a.orgs",
        "SELECT at AS n FROM uat_a.orgs UNION ALL SELECT d FROM uat_a.orgs",
        "SELECT lower(at) AS n FROM uat_a.orgs",
        "SELECT n, min(at) OVER (ORDER BY n) AS x FROM uat_a.orgs",
        "SELECT at AS x FROM uat_a.orgs HAVING x > '2024-01-01'",
        "SELECT n * 2 AS n FROM uat_a.orgs",
        "SELECT n - 1 AS n FROM uat_a.orgs",
        "SELECT n / 2.5 AS n FROM uat_a.orgs",
        "SELECT n % 2 AS n FROM uat_a.orgs",
        "SELECT -n AS n FROM uat_a.orgs",
        "SELECT abs(n) AS n FROM uat_a.orgs",
        "SELECT sum(price) AS p FROM uat_a.prices",
        "SELECT avg(price) AS p FROM uat_a.prices",
        "SELECT state, count(*) AS n FROM uat_a.orgs GROUP BY 1",
        "SELECT state FROM uat_a.orgs ORDER BY state, 1 LIMIT 1",
        "SELECT sum(n) OVER (ORDER BY 1) AS n FROM uat_b.totals",
        "SELECT n FROM uat_a.orgs WHERE state = 'it''s'",
        "SELECT n FROM uat_a.orgs WHERE state = 'a\\b'",
        "SELECT n FROM uat_a.orgs WHERE state = '$'",
        "SELECT n / 2 AS n FROM uat_a.orgs",
    ],
)
def test_what_depends_on_the_settings_of_the_session_is_not_published(sql: str) -> None:
    assert all(written(sql, columns) is None for columns in ({}, {"n": ZONED}, {"x": ZONED}))


def test_a_view_and_its_tables_have_the_same_columns_with_a_time_zone() -> None:
    """Spark casts the columns of a view to the types that it was published with."""
    assert written("SELECT at FROM uat_a.orgs", {"at": ZONED})
    for columns in ({"at": pa.timestamp("us")}, {"at": pa.string()}, {"at": ZONED, "ts": ZONED}):
        assert written("SELECT at, ts FROM uat_a.orgs", columns) is None
    other = {ORGS: COLUMNS[ORGS], TOTALS: pa.schema({"at": pa.timestamp("us")})}
    view = View("SELECT o.at FROM uat_a.orgs o, uat_b.totals", [*other], pa.schema({"at": ZONED}))
    assert REFUSED.fullmatch(spark_view(view, other, {}))


def test_decimals_whose_comparisons_overflow_are_not_published() -> None:
    sql, view = "SELECT id FROM uat_a.prices WHERE price > 5", pa.schema({"id": pa.int64()})
    for kind, is_published in (
        (pa.decimal128(38, 18), True),
        (pa.decimal128(38, 19), False),
        (pa.list_(pa.decimal128(4, 2)), False),
    ):
        columns = {PRICES: pa.schema({"id": pa.int64(), "price": kind, "other": pa.decimal128(18, 2)})}
        text = spark_view(View(sql, [PRICES], view), columns, {})
        assert (REFUSED.fullmatch(text) is None) is is_published


def test_a_table_that_lacks_a_column_in_iceberg_is_not_published() -> None:
    """Without `b.big`, a name that no table of the inner query has is that of the outer one."""
    sql = "SELECT n FROM uat_a.orgs WHERE EXISTS (SELECT 1 FROM uat_b.totals WHERE n > 5)"
    assert written(sql)
    assert written(sql, big="its type is uint64") is None
    unknown = View("SELECT n FROM uat_b.totals", [TOTALS], pa.schema({"n": pa.int64()}))
    assert REFUSED.fullmatch(spark_view(unknown, {}, {}))


SHAPES: dict[str, Callable[[int], str]] = {
    "aliases": lambda count: (
        "WITH a0 AS (SELECT ts AS x0 FROM uat_a.orgs)"
        + "".join(f", a{one} AS (SELECT x{one - 1} AS x{one} FROM a{one - 1})" for one in range(1, count))
        + f" SELECT n - 1 AS y FROM a{count - 1}"
    ),
    "backwards": lambda count: (
        "SELECT " + ", ".join(f"x{one} AS x{one + 1}" for one in range(count, 0, -1)) + ", ts AS x1 FROM uat_a.orgs"
    ),
    "between": lambda count: f"SELECT n FROM uat_a.orgs WHERE {' AND '.join(['n BETWEEN 1 AND 2'] * count)}",
    "distinct": lambda count: f"SELECT n FROM uat_a.orgs WHERE {'n IS DISTINCT FROM ' * count} n",
    "having": lambda count: " UNION ".join(["SELECT n FROM uat_a.orgs GROUP BY n HAVING n > 1"] * count),
    "joins": lambda count: (
        "SELECT n FROM uat_a.orgs " + " ".join(f"JOIN uat_b.totals x{one} ON x{one}.n = 1" for one in range(count))
    ),
    "lists": lambda count: (
        "WITH " + ", ".join(f"c{one} (a, b) AS (SELECT 1, 2)" for one in range(count)) + " SELECT n FROM uat_b.totals"
    ),
    "nested": lambda count: "SELECT " + "(" * count + "n" + " - 1)" * count + " AS n FROM uat_b.totals",
    "sums": lambda count: f"SELECT {' + '.join(['n'] * count)} AS n FROM uat_b.totals",
    "unended": lambda count: f"SELECT n FROM uat_a.orgs WHERE {'n BETWEEN ' * count}",
    "zones": lambda count: f"SELECT {', '.join(f'at AS x{one}' for one in range(count))} FROM uat_a.orgs",
}


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_the_work_grows_as_the_statement_does(shape: str, heavy: None) -> None:  # noqa: ARG001
    def calls(count: int) -> int:
        sql = SHAPES[shape](count)
        view = View(sql, [*COLUMNS], pa.schema({f"x{one}": ZONED for one in range(count)}))
        counted: Counter[str] = Counter()
        sys.setprofile(lambda _frame, event, _argument: counted.update([event]))
        try:
            spark_view(view, COLUMNS, {})
        finally:
            sys.setprofile(None)
        return counted.total()

    calls(10)  # imports, and fills caches
    assert calls(240) < 6 * calls(60)  # four times; with a part that grows with the square seven and more


def test_a_statement_of_names_without_an_end_is_refused() -> None:
    with pytest.raises(EngineChoiceError, match="so many names"):
        spark_statement(f"SELECT {'a ' * 500}", {}, SparkNames("", {}))

"""Sums and distinct counts of constants are computed from rows, in every place that a constant can come from."""

from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionContext

TABLE = "local_default.t"
NO_ROWS = [
    "(SELECT 1 AS x FROM {t} WHERE p = 77)",
    "(SELECT 1 AS x FROM {t} WHERE n = 77)",
    "(SELECT 1 AS x, p FROM {t}) AS a WHERE p = 77",
    "(SELECT 1 AS x FROM {t} WHERE false)",
    "(SELECT 1 AS x) AS a CROSS JOIN (SELECT * FROM {t} WHERE p = 77) AS b",
    "(SELECT 1 AS x, p FROM {t}) AS a JOIN (SELECT * FROM {t} WHERE p = 77) AS b ON a.p = b.p",
    "(SELECT 1 AS x, row_number() OVER () AS r FROM {t} WHERE p = 77)",
    "(SELECT 1 AS x FROM {t} WHERE p = 77 ORDER BY n LIMIT 3)",
    "(SELECT 1 AS x FROM {t} WHERE p = 77 UNION ALL SELECT 1 FROM {t} WHERE p = 78)",
    "(SELECT 1 AS x FROM (VALUES (1), (2)) AS v(a) WHERE a > 5)",
    "(SELECT 1 AS x FROM generate_series(1, 0))",
]
NULLS = [
    "(SELECT CAST(NULL AS INT) AS x FROM {t} WHERE p = 1)",
    "(SELECT CAST(NULL AS INT) AS x)",
    "(SELECT CAST(NULL AS INT) AS x FROM (VALUES (1), (2)) AS v(a))",
    "(SELECT a.n AS x FROM {t} AS a RIGHT JOIN {t} AS b ON a.n = b.n AND false)",
    "(SELECT CAST(NULL AS INT) AS x UNION ALL SELECT CAST(NULL AS INT))",
]


@pytest.fixture
def t(lake: Any) -> Any:
    for p in (1, 2):
        lake.write(("t",), pa.table({"n": [p, p + 1, None]}), {"p": pa.scalar(p)})
    return lake


def _values(lake: Any, sql: str) -> list[Any]:
    (row,) = lake.sql(sql.replace("{t}", TABLE)).to_pylist()
    return list(row.values())


@pytest.mark.parametrize("source", NO_ROWS + NULLS)
def test_no_value_is_counted_or_added(t: Any, source: str) -> None:
    where = f"FROM {source}"

    assert _values(t, f"SELECT count(*) >= 0, count(DISTINCT x) {where}") == [True, 0]
    assert _values(t, f"SELECT count(DISTINCT x), count(x) {where}") == [0, 0]
    assert _values(t, f"SELECT count(DISTINCT x) {where}") == [0]
    assert _values(t, f"SELECT sum(x), count(x) {where}") == [None, 0]
    assert _values(t, f"SELECT sum(x), sum(DISTINCT x), count(DISTINCT x) {where}") == [None, None, 0]
    assert _values(t, f"SELECT sum(x) + 1, count(DISTINCT x) + 1 {where}") == [None, 1]
    assert _values(t, f"SELECT min(x), max(x), count(x) {where}") == [None, None, 0]


def test_values_are_counted_and_added(t: Any) -> None:
    assert _values(t, "SELECT count(*), count(DISTINCT x), sum(x) FROM (SELECT 5 AS x FROM {t})") == [6, 1, 30]
    assert _values(t, "SELECT count(*), count(DISTINCT n), sum(n) FROM {t}") == [6, 3, 8]
    assert _values(t, "SELECT count(DISTINCT n), count(DISTINCT x) FROM (SELECT n, 5 AS x FROM {t})") == [3, 1]


def test_groups_of_no_rows(t: Any) -> None:
    rollup = "(SELECT p, count(*) AS c FROM {t} WHERE p = 77 GROUP BY ROLLUP (p))"

    assert _values(t, f"SELECT count(*) FROM {rollup}") == [1]
    assert _values(t, f"SELECT count(*), count(p), max(p) FROM {rollup}") == [1, 0, None]


def test_columns_keep_their_names(t: Any) -> None:
    prepared = t.prepare(f"SELECT count(*), count(DISTINCT x), sum(x) FROM (SELECT 1 AS x FROM {TABLE})")

    assert prepared.schema.names == ["count(*)", "count(DISTINCT x)", "sum(x)"]


@pytest.mark.parametrize("call", ["count(DISTINCT x)", "sum(x)"])
def test_other_aggregates_keep_their_arguments(t: Any, call: str) -> None:
    for sql in (f"SELECT {call} FROM (SELECT n AS x FROM {TABLE})", f"SELECT {call} FROM (SELECT 1 AS x) GROUP BY x"):
        assert "random" not in t.prepare(sql).physical.display_indent()


TWO = "(SELECT count(*) AS y FROM (VALUES (1), (2)) AS v(b))"
GREATEST = "(SELECT max(x) AS y FROM (SELECT 5 AS x UNION ALL SELECT 6))"
NONE = "(SELECT max(a) AS y FROM (SELECT 1 AS a FROM {t} WHERE p = 77))"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"SELECT sum(z) FROM (SELECT CAST(NULL AS INT) AS z FROM {TWO} WHERE y > 10)", [None]),
        (
            f"SELECT sum(z), count(DISTINCT z) FROM (SELECT CAST(NULL AS INT) AS z FROM {GREATEST} WHERE y > 10)",
            [None, 0],
        ),
        (
            "SELECT sum(z), sum(y) FROM (SELECT CAST(NULL AS INT) AS z, count(*) AS y FROM (VALUES (1), (2)) AS v(a))",
            [None, 2],
        ),
        (f"SELECT count(DISTINCT y), count(*) FROM {NONE}", [0, 1]),
        (f"SELECT count(y) FILTER (WHERE y > 3) FROM {TWO}", [0]),
        (f"SELECT count(y) FILTER (WHERE y > 1), sum(y) FROM {TWO}", [1, 2]),
        (f"SELECT count(DISTINCT y) FILTER (WHERE true) AS d FROM {NONE}", [0]),
        (f"SELECT count(y) FILTER (WHERE y > 3) FROM (SELECT y, count(*) FROM {TWO} GROUP BY y)", [0]),
        (f"SELECT max(y) FILTER (WHERE y > 3) FROM (SELECT sum(y) FILTER (WHERE y > 9) AS y FROM {TWO})", [None]),
    ],
)
def test_aggregates_of_aggregates(t: Any, sql: str, expected: list[Any]) -> None:
    """An aggregate with a FILTER has its own results, not those of one below it."""
    assert _values(t, sql) == expected


@pytest.mark.parametrize("sets", ["(())", "((), ())"])
@pytest.mark.parametrize("source", ["{t}", "(VALUES (1), (2), (3), (4), (5), (6)) AS v(n)"])
def test_an_empty_grouping_set_has_one_row(t: Any, sets: str, source: str) -> None:
    rows = t.rows(f"SELECT count(*) AS c FROM {source} GROUP BY GROUPING SETS {sets}".replace("{t}", TABLE))

    assert rows == [{"c": 6}] * sets.count("()")


def test_datafusion_needs_this() -> None:
    """When one fails, DataFusion is right without this part of `_from_rows` of `scan/aggregate_faults.py`."""
    context = SessionContext()

    (constant,) = context.sql(
        "SELECT count(*), count(DISTINCT x) AS d FROM (SELECT CAST(NULL AS INT) AS x)"
    ).to_pylist()
    nested = context.sql(f"SELECT count(y) FILTER (WHERE y > 3) FROM {TWO}").to_arrow_table()

    assert constant["d"] == 1
    assert nested.column(0).to_pylist() == [2]

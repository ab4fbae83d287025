"""Statements whose physical plan does not serialize: the same answers over staged scans."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dagfusion_client.errors import StaleObjectError
from tests.query.engine.conftest import TABLE

# Recursive CTEs do not serialize.
RECURSIVE = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 1) "
T = "local_default.t"
STATEMENTS = [
    "SELECT t.id FROM {r}{t} t WHERE t.i NOT IN (1, 2, 3, 4) ORDER BY 1",
    "SELECT t.id FROM {r}{t} t WHERE t.x NOT IN (1.0, NULL)",
    "SELECT t.id FROM {r}{t} t WHERE NOT (t.s IN ('a', 'b', 'd', 'e')) ORDER BY 1",
    "SELECT t.id FROM {r}{t} t WHERE t.x > 5 ORDER BY 1",
    "SELECT t.id FROM {r}{t} t WHERE t.x >= t.x ORDER BY 1",
    "SELECT t.id FROM {r}{t} t WHERE t.x = CAST('NaN' AS DOUBLE)",
    "SELECT t.id FROM {r}{t} t WHERE NOT (t.x <= 2) ORDER BY 1",
    "SELECT t.id FROM {r}{t} t WHERE t.b IN (true, NULL) ORDER BY 1",
    "SELECT t.id FROM {r}{t} t WHERE t.p = 'none' ORDER BY t.id LIMIT 1",
    "SELECT t.id FROM {r}{t} t WHERE t.x < 3 AND (t.s > NULL OR t.id = 1)",
    "SELECT count(*) AS n FROM {r}{t} t WHERE t.p = 'none'",
    "SELECT max(t.id) AS n FROM {r}{t} t WHERE t.p = 'none'",
    "SELECT count(*) AS n FROM {r}{t} t",
    "SELECT count(*) AS n FROM {r}local_default.u",
    "SELECT u.p, u.id FROM {r}local_default.u",
    "SELECT t.p, count(*) AS n FROM {r}{t} t WHERE t.p IS NULL GROUP BY 1",
    "SELECT a.id, b.id AS other FROM {r}{t} a JOIN {t} b ON a.id < b.id AND a.p = 'A' AND b.p IS NULL ORDER BY 1, 2",
    """SELECT t.id, (SELECT max(id) FROM {t} WHERE p = 'A') AS a, (SELECT max(id) FROM {t} WHERE p = 'B') AS b
       FROM {r}{t} t ORDER BY 1""",
    "SELECT sum(CASE WHEN t.st['a'] = 1 THEN t.id ELSE 0 END) AS n FROM {r}{t} t",
    "SELECT t.* FROM {r}{t} t ORDER BY t.id",
]


@pytest.fixture
def table(lake: Any) -> Any:
    nan = float("nan")
    columns = {
        "id": pa.array([1, 2, 3, 4]),
        "i": pa.array([1, None, 9, 5]),
        "x": pa.array([1.0, nan, None, 9.0]),
        "b": [True, False, None, True],
        "s": ["a", None, "c", "d"],
        "st": pa.array([{"a": 1}, None, {"a": None}, {"a": 1}], pa.struct({"a": pa.int64()})),
    }
    rows = pa.table(columns)
    for number, value in enumerate(["A", "B", None]):
        shifted = rows.set_column(0, "id", pc.add(rows["id"], 10 * number))
        lake.write(("t",), shifted, {"p": pa.scalar(value, pa.string())})
    lake.write(("u",), pa.table({"id": [1]}), {"p": pa.scalar(2**64 - 1, pa.uint64())})
    return lake


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_staged_statement_has_the_answer_of_a_spliced_one(table: Any, statement: str) -> None:
    spliced, staged = statement.format(r="", t=T), RECURSIVE + statement.format(r="r, ", t=T)

    assert table.prepare(spliced).path in ("splice", "catalog")
    assert table.prepare(staged).path == "staged"
    assert sorted(map(repr, table.rows(staged))) == sorted(map(repr, table.rows(spliced)))  # NaN equals NaN


def test_a_staged_statement_reads_the_files_that_its_filters_keep(orgs: Any) -> None:
    sql = f"{RECURSIVE} SELECT count(*) AS n FROM r JOIN {TABLE} o ON o.id = r.n WHERE o.state = 'CA'"

    assert [(scan.count, len(scan.table.files)) for scan in orgs.prepare(sql).scans] == [(7, 28)]
    assert orgs.rows(sql) == [{"n": 1}]


def test_a_replaced_object_is_an_error_for_a_staged_statement_too(lake: Any) -> None:
    path: Path = lake.write(("t",), pa.table({"i": [1, 2, 3]}), {"p": pa.scalar("A")})
    pq.write_table(pa.table({"i": list(range(1000))}), path)

    with pytest.raises(StaleObjectError, match="has changed since its event"):
        lake.rows(f"{RECURSIVE} SELECT max(i + 0) AS m FROM r, {T}")


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT count(*) AS n FROM generate_series(1, 3) g(x) JOIN {TABLE} o ON o.id = g.x AND o.state = 'CA'",
        f"SELECT count(*) AS n FROM information_schema.tables t JOIN {TABLE} o ON o.id < 3 AND t.table_name = 'orgs'",
        f"SELECT count(*) AS n FROM {TABLE} WHERE id IN (SELECT value FROM range(1, 4))",
    ],
)
def test_series_and_the_information_schema_need_no_staging(orgs: Any, sql: str) -> None:
    assert orgs.prepare(sql).path == "splice"
    assert orgs.rows(sql) == [{"n": 3}]


@pytest.mark.parametrize(
    ("sql", "n"),
    [
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT count(*) AS n FROM r",
            3,
        ),
        ("SELECT count(*) AS n FROM information_schema.tables WHERE table_name = 'orgs'", 1),
    ],
)
def test_statements_without_a_table_need_no_staging(orgs: Any, sql: str, n: int) -> None:
    assert orgs.prepare(sql).path in ("catalog", "splice")
    assert orgs.rows(sql) == [{"n": n}]


def test_equal_subqueries_that_datafusion_merges_are_told_from_those_that_only_look_equal(orgs: Any) -> None:
    def highest(state: str) -> str:
        return f"(SELECT max(id + 0) FROM {TABLE} WHERE state = '{state}')"

    equal = f"SELECT {highest('CA')} AS a, {highest('CA')} + 1 AS b"
    other = f"SELECT {highest('CA')} AS a, {highest('NY')} AS b"

    assert orgs.prepare(equal).path == "splice"
    assert orgs.rows(equal) == [{"a": 69, "b": 70}]
    assert orgs.rows(other) == [{"a": 69, "b": 139}]

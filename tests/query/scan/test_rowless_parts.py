"""Parts of a statement that cannot have a row: DataFusion's plans of them do not survive serialization."""

from typing import Any

import pytest

from tests.query.engine.conftest import TABLE

RECURSIVE = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 1) "
CONDITIONS = [
    ("o.id IN (SELECT id FROM {t} WHERE 1 = 0) OR o.id = 3", 1),
    ("o.id NOT IN (SELECT id FROM {t} WHERE NULL) AND (o.id = 3 OR o.id IN (SELECT id FROM {t} LIMIT 0))", 1),
    ("EXISTS (SELECT 1 FROM {t} u WHERE u.id = o.id AND u.name > NULL) OR o.id IN (SELECT id FROM {t})", 280),
    ("o.id > (SELECT min(id + 0) FROM {t} WHERE 2 < 1) OR o.id < 2", 2),
    ("o.id > (SELECT max(id + 0) FROM {t} WHERE state = 'CA' AND state = 'NY') OR o.id IN (SELECT 7)", 1),
    ("EXISTS (SELECT 1 FROM {t} u JOIN {t} v ON 1 = 0 WHERE u.id = o.id) OR o.state = 'CA'", 70),
]


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(("condition", "expected"), CONDITIONS)
@pytest.mark.parametrize(("before", "beside"), [("", ""), (RECURSIVE, "r, ")])
def test_they_are_answered(orgs: Any, condition: str, expected: int, before: str, beside: str) -> None:
    sql = f"{before}SELECT count(*) AS n FROM {beside}{TABLE} o WHERE {condition}".replace("{t}", TABLE)

    assert orgs.rows(sql) == [{"n": expected}]


@pytest.mark.parametrize("sql", ["SELECT * FROM {t} LIMIT 0", "SELECT id FROM {t} WHERE 1 = 0", "SELECT 1 WHERE false"])
def test_a_statement_without_rows_reads_nothing(orgs: Any, sql: str) -> None:
    prepared = orgs.prepare(sql.replace("{t}", TABLE))

    assert prepared.path == "catalog"
    assert orgs.sql(sql.replace("{t}", TABLE)).num_rows == 0


@pytest.mark.parametrize(("before", "beside"), [("", ""), (RECURSIVE, "r, ")])
def test_an_aggregate_over_no_rows_keeps_its_filter(orgs: Any, before: str, beside: str) -> None:
    extreme = "min(DATE '1969-12-31') FILTER (WHERE CAST(o.id AS DOUBLE) IS NOT DISTINCT FROM 'NaN')"
    sql = f"{before}SELECT {extreme} AS d, count(*) AS n FROM {beside}{TABLE} o WHERE 1 = 0"

    assert orgs.rows(sql) == [{"d": None, "n": 0}]
    assert orgs.rows(f"{sql} HAVING count(*) > 2") == []

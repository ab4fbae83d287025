"""Statements that DataFusion 55 refuses by default, and which a session's settings let it plan."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionContext

from tests.query.engine.conftest import TABLE

STATEMENTS = {
    "an aggregate of a constant, by a column and a cast of it": (
        "SELECT CAST(id AS INT) AS short, id, min('zz') AS z FROM {t} WHERE id < 2 GROUP BY 1, 2 ORDER BY 2",
        [{"short": 0, "id": 0, "z": "zz"}, {"short": 1, "id": 1, "z": "zz"}],
    ),
    "a CASE that cannot be NULL, which the physical plan does not know": (
        """SELECT DISTINCT CASE WHEN d >= CASE WHEN id > 3 THEN d ELSE d END THEN d ELSE date END AS d
        FROM (SELECT id, date, nullif(date, DATE '2024-01-02') AS d FROM {t} WHERE date < '2024-01-03') ORDER BY 1""",
        [{"d": dt.date(2024, 1, 1)}, {"d": dt.date(2024, 1, 2)}],
    ),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_they_are_answered(orgs: Any, name: str) -> None:
    sql, expected = STATEMENTS[name]

    assert orgs.rows(sql.format(t=TABLE)) == expected


@pytest.mark.parametrize("name", STATEMENTS)
def test_they_are_refused_by_default(name: str) -> None:
    """If this fails, DataFusion mended it, and the setting can go."""
    context = SessionContext()
    rows = pa.table({"id": [0, 1], "date": [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]})
    context.register_record_batches(
        "t", [rows.cast(pa.schema([f.with_nullable(nullable=False) for f in rows.schema])).to_batches()]
    )

    with pytest.raises(Exception, match=r"have the same name|Physical input schema"):
        context.sql(STATEMENTS[name][0].format(t="t")).collect()

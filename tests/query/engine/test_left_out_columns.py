"""A column without a common type is not there, and takes nothing else away."""

from typing import Any

import pyarrow as pa
import pytest

from dagfusion_client.errors import PlanError, SchemaConflictError

TABLE = "local_silver_tax_id.orgs"
ORGS = ("Silver", "TaxID", "orgs")


@pytest.fixture
def evolved(lake: Any) -> Any:
    """A table whose column `x` is a number in one partition and a text in the other."""
    for state, x in (("CA", [1, 2]), ("NY", ["a", "b"])):
        lake.write(ORGS, pa.table({"id": [1, 2], "x": x}), {"state": pa.scalar(state)})
    return lake


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        (f"SELECT count(*) AS n FROM {TABLE}", [{"n": 4}]),
        (f"SELECT sum(id) AS n FROM {TABLE} WHERE state = 'CA'", [{"n": 3}]),
        (f"SELECT * FROM {TABLE} WHERE id = 1 ORDER BY state", [{"id": 1, "state": "CA"}, {"id": 1, "state": "NY"}]),
    ],
)
def test_queries_that_do_not_name_it_are_answered(evolved: Any, sql: str, rows: Any) -> None:
    assert evolved.rows(sql) == rows


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT x FROM {TABLE}",
        f"SELECT o.x FROM {TABLE} o",
        f'SELECT count(*) FROM {TABLE.upper()} AS o WHERE "o"."x" IS NULL',
        f"SELECT id FROM {TABLE} ORDER BY X",
    ],
)
def test_a_query_that_names_it_says_why(evolved: Any, sql: str) -> None:
    with pytest.raises(SchemaConflictError, match=r"leaves out column 'x', because no type fits .* int64 in partition"):
        evolved.rows(sql)


def test_another_unknown_column_is_still_unknown(evolved: Any) -> None:
    evolved.write(("Silver", "other"), pa.table({"id": [1]}))
    for sql in (f"SELECT y FROM {TABLE}", "SELECT x FROM local_silver.other"):
        with pytest.raises(PlanError, match="No field named"):
            evolved.rows(sql)


def test_a_table_of_nothing_else_counts(lake: Any) -> None:
    for state, x in (("CA", [1, 2]), ("NY", ["a"])):
        lake.write(ORGS, pa.table({"x": x}), {"state": pa.scalar(state)})
    assert lake.rows(f"SELECT state, count(*) AS n FROM {TABLE} GROUP BY state ORDER BY state") == [
        {"state": "CA", "n": 2},
        {"state": "NY", "n": 1},
    ]

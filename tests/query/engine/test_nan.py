"""NaN in columns whose Parquet statistics leave it out: no row group is skipped by them."""

from typing import Any

import pyarrow as pa
import pytest

NAN = float("nan")
T = "local_default.t"


@pytest.fixture
def table(lake: Any) -> Any:
    """Row groups of 64 rows; the only NaN, and the greatest value, are in the last one, whose bounds leave NaN out."""
    values = [n / 1000 for n in range(200)] + [NAN, 0.15]
    structs = pa.array([{"x": value} for value in values], pa.struct({"x": pa.float64()}))
    columns = {"id": pa.array(range(202)), "x": pa.array(values), "y": pa.array(values, pa.float32()), "st": structs}
    lake.write(("t",), pa.table(columns), {"p": pa.scalar("A")})
    return lake


@pytest.mark.parametrize("column", ["x", "y", "st['x']"])
@pytest.mark.parametrize(
    "condition", ["{} > 5", "{} = CAST('NaN' AS DOUBLE)", "isnan({})", "{} >= 3 OR id = 9999", "NOT ({} <= 1)"]
)
def test_a_condition_that_only_nan_meets(table: Any, column: str, condition: str) -> None:
    assert table.rows(f"SELECT id FROM {T} WHERE {condition.replace('{}', column)}") == [{"id": 200}]


def test_the_first_rows_of_an_order(table: Any) -> None:
    assert table.rows(f"SELECT id FROM {T} ORDER BY x DESC LIMIT 1") == [{"id": 200}]


def test_a_join_on_a_float(table: Any) -> None:
    sql = f"SELECT t.id FROM {T} t JOIN (VALUES (CAST('NaN' AS DOUBLE))) v(x) ON t.x = v.x"

    assert table.rows(sql) == [{"id": 200}]


@pytest.mark.parametrize("order", ["x DESC", "y DESC, id"])
@pytest.mark.parametrize("how", ["LEFT JOIN", "JOIN"])
def test_a_condition_beside_the_filter_of_a_join_or_an_order(table: Any, how: str, order: str) -> None:
    joined = f"SELECT t.id FROM generate_series(198, 201) g(n) {how} {T} t ON t.id = g.n AND (t.x > 5 OR t.y > 5)"

    assert [row for row in table.rows(joined) if row["id"]] == [{"id": 200}]
    assert table.rows(f"SELECT id FROM {T} WHERE x > 5 OR id < 0 ORDER BY {order} LIMIT 1") == [{"id": 200}]


def test_pruning_of_other_columns_stays(table: Any) -> None:
    plan = table.prepare(f"SELECT x FROM {T} WHERE id > 190").physical.display_indent()

    assert "pruning_predicate=id" in plan


def test_pruning_of_floats_without_nan_stays(lake: Any) -> None:
    lake.write(("t",), pa.table({"x": [1.0, 2.0, None]}), {"p": pa.scalar("A")})

    assert (
        "pruning_predicate=x" in lake.prepare(f"SELECT x FROM {T} WHERE x + 0 > 1 AND x > 1").physical.display_indent()
    )

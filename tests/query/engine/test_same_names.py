"""Columns of one name on both sides of a join: no row group is skipped by a filter on the other side's column."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datafusion import SessionConfig, SessionContext

T, U = "local_default.t", "local_default.u"
COUNT = 40_000  # some batches of 8,192 rows
LARGE = pa.table({"id": range(COUNT), "i": range(COUNT - 1, -1, -1), "y": [float(n) for n in range(COUNT)]})
SMALL = LARGE.slice(0, COUNT // 2)
FIRST = [{"a": n, "b": COUNT - 1 - n, "s": COUNT - 1.0} for n in range(3)]


@pytest.fixture
def tables(lake: Any) -> Any:
    """The row groups of `t` have 64 rows in the order of `id`; the rows of `u` join their second half."""
    lake.write(("t",), LARGE, {})
    lake.write(("u",), SMALL, {})
    return lake


@pytest.mark.parametrize("source", [f"{U} a JOIN {T} b ON a.i = b.id", f"{T} b JOIN {U} a ON a.i = b.id"])
def test_the_first_rows_of_an_order(tables: Any, source: str) -> None:
    sql = f"SELECT a.id, b.id, a.y + b.y AS s FROM {source} ORDER BY a.id LIMIT 3"
    answer = tables.sql(sql)

    assert "DynamicFilter" not in tables.prepare(sql).physical.display_indent()
    assert answer.rename_columns(["a", "b", "s"]).to_pylist() == FIRST


@pytest.mark.parametrize("column", ["id", "y"])
def test_rows_without_a_partner(tables: Any, column: str) -> None:
    sql = f"SELECT a.y, b.y AS z, a.id, b.id AS d FROM {T} a RIGHT JOIN {T} b ON a.id = b.i + 900"

    assert len(tables.rows(f"{sql} WHERE a.{column} IS NULL")) == 900


def test_the_first_rows_inside_a_scalar_subquery(tables: Any) -> None:
    inner = f"SELECT a.id AS a, a.y + b.y + b.id AS s FROM {U} a JOIN {T} b ON a.i = b.id ORDER BY a.id LIMIT 3"

    total = sum(row["b"] + row["s"] for row in FIRST)
    assert tables.rows(f"SELECT (SELECT sum(s) FROM ({inner})) AS s") == [{"s": total}]


def test_other_joins_skip_row_groups(tables: Any) -> None:
    plan = tables.prepare(f"SELECT a.y FROM {U} a JOIN {T} b ON a.i = b.id WHERE b.y > 39000").physical.display_indent()

    assert "pruning_predicate=y" in plan
    assert "DynamicFilter" in plan


def test_datafusion_needs_this(tmp_path: Path) -> None:
    """When this fails, DataFusion has mended its issue 25296, and `scan/same_names.py` can go."""
    context = SessionContext(SessionConfig().with_target_partitions(1).set("datafusion.execution.batch_size", "64"))
    for name, rows in (("t", LARGE), ("u", SMALL)):
        pq.write_table(rows, tmp_path / f"{name}.parquet", row_group_size=64)
        context.register_parquet(name, str(tmp_path / f"{name}.parquet"))
    rows = context.sql("SELECT a.id, b.id, a.y + b.y AS s FROM u a JOIN t b ON a.i = b.id ORDER BY a.id LIMIT 3")

    assert [value.as_py() for batch in rows.collect() for value in batch[0]] != [0, 1, 2]

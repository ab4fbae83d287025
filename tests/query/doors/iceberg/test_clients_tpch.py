"""DuckDB over the Iceberg catalog gives DagFusion's answers to the statements of TPC-H."""

import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_query import connect
from tests.query.doors.iceberg.lake import PATIENCE_S, Lake
from tests.query.spark import tpch
from tests.query.spark.answers import key

SCALE = 0.01
PARTITIONED_BY = {"lineitem": "l_returnflag", "orders": "o_orderstatus", "customer": "c_mktsegment"}
_DIGITS = 1e-6  # DuckDB's averages of decimals are doubles


@pytest.mark.usefixtures("long")
def test_tpch(lake: Lake, s3_fields: dict[str, Any]) -> None:
    writer = tpch.Writer.over(lake.instance, {**s3_fields, "prefix": "iceberg"})
    queries = tpch.materialize(writer, SCALE, PARTITIONED_BY)
    lake.environments.refresh(PATIENCE_S)
    assert len(queries) == 22
    with lake.duckdb() as duck, connect(settings=lake.variables) as own:
        for number, sql in queries.items():
            found = ordered(duck.execute(sql.replace("uat_default.", "lake.uat_default.")).to_arrow_table())
            expected = ordered(own.sql(sql).to_arrow())
            assert len(found) == len(expected), number
            for row, wanted in zip(found, expected, strict=True):
                assert all(map(is_close, row, wanted)), (number, row, wanted)


def ordered(table: pa.Table) -> list[tuple[Any, ...]]:
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=key)


def is_close(value: Any, wanted: Any) -> bool:
    numbers = (int, float, Decimal)
    if isinstance(value, numbers) and isinstance(wanted, numbers):
        return math.isclose(value, wanted, rel_tol=_DIGITS, abs_tol=_DIGITS)
    return bool(value == wanted)

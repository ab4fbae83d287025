"""Answers of the two engines, compared."""

import math
from decimal import Decimal
from typing import Any

from dagfusion_query import Connection
from dagfusion_query.as_of import Given


def rows(
    connection: Connection, sql: str, engine: str, params: Any = None, as_of: Given | None = None
) -> list[tuple[Any, ...]]:
    result = connection.sql(sql, params, engine=engine, as_of=as_of)
    table = result.to_arrow()
    assert (result.stats.path == "spark") == (engine == "spark")
    return [tuple(row.values()) for row in table.to_pylist()]


def same(
    connection: Connection, sql: str, params: Any = None, *, is_ordered: bool = False, as_of: Given | None = None
) -> list[tuple[Any, ...]]:
    here, there = (rows(connection, sql, engine, params, as_of) for engine in ("local", "spark"))
    if not is_ordered:
        here, there = sorted(here, key=key), sorted(there, key=key)
    for row, other in zip(here, there, strict=True):
        for value, wanted in zip(row, other, strict=True):
            if isinstance(value, Decimal | float) and wanted is not None:
                assert math.isclose(value, wanted, rel_tol=1e-9, abs_tol=2e-6), (row, other)
            else:
                assert value == wanted, (row, other)
    return here


def key(row: tuple[Any, ...]) -> str:
    return repr([round(float(value), 3) if isinstance(value, Decimal | float) else value for value in row])

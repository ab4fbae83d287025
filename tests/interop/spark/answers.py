"""Answers of the two engines, compared."""

import math
from decimal import Decimal
from typing import Any

from dagfusion_client.as_of import Given
from dagfusion_query import Connection

_LAST_DIGIT = Decimal("0.000001")  # of an average of decimals


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
            assert _is_close(value, wanted), (row, other)
    return here


def _is_close(value: Any, wanted: Any) -> bool:
    """Return True if values are equal, but for the last digits that each engine has of its own."""
    if isinstance(value, Decimal) and isinstance(wanted, Decimal):
        # In floats, the difference of the last of six digits would be more than this.
        return abs(value - wanted) <= _LAST_DIGIT or math.isclose(value, wanted, rel_tol=1e-9)
    if isinstance(value, float) and isinstance(wanted, float):
        return math.isclose(value, wanted, rel_tol=1e-9, abs_tol=1e-6)
    return bool(value == wanted)


def key(row: tuple[Any, ...]) -> str:
    return repr([round(float(value), 3) if isinstance(value, Decimal | float) else value for value in row])

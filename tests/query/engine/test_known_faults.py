"""Faults of DataFusion 55 that the documents state. If a test here fails, one was mended: change the documents."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionContext

LARGEST = 2**64 - 1


@pytest.fixture(scope="module")
def context() -> SessionContext:
    """A table of plain DataFusion with a timestamp of a time zone, a large number and a decimal."""
    at = dt.datetime(2024, 7, 1, 6, tzinfo=dt.UTC)
    made = SessionContext()
    made.from_arrow(
        pa.table(
            {
                "at": pa.array([at], pa.timestamp("us", "America/New_York")),
                "n": pa.array([LARGEST], pa.uint64()),
                "amount": pa.array([Decimal("12345678.90")], pa.decimal128(12, 2)),
            }
        ),
        "t",
    )
    return made


def _value(context: SessionContext, sql: str) -> Any:
    (row,) = context.sql(sql).to_pylist()
    return row["a"]


@pytest.mark.parametrize("form", ["TIMESTAMPTZ {}", "to_timestamp({})", "CAST({} AS TIMESTAMPTZ)"])
def test_timestamptz_loses_its_zone(context: SessionContext, form: str) -> None:
    """Issue 19023."""
    instant = "'2024-07-01T06:00:00Z'"
    zoned = f"arrow_cast({instant}, 'Timestamp(Microsecond, Some(\"UTC\"))')"

    assert _value(context, f"SELECT count(*) AS a FROM t WHERE at = {form.format(instant)}") == 0
    assert _value(context, f"SELECT count(*) AS a FROM t WHERE at = {instant}") == 1, "what the documents advise"
    assert _value(context, f"SELECT count(*) AS a FROM t WHERE at = {zoned}") == 1, "what the documents advise"


def test_sums_of_integers_wrap(context: SessionContext) -> None:
    """Issue 17539."""
    twice = "(SELECT n FROM t UNION ALL SELECT n FROM t)"

    assert _value(context, f"SELECT sum(n) AS a FROM {twice}") == 2 * LARGEST - 2**64
    assert _value(context, f"SELECT sum(CAST(n AS DECIMAL(38, 0))) AS a FROM {twice}") == 2 * LARGEST


def test_integers_beyond_64_bits_are_doubles(context: SessionContext) -> None:
    exact = "CAST('18446744073709551616' AS DECIMAL(20, 0))"

    assert _value(context, "SELECT count(*) AS a FROM t WHERE n = 18446744073709551616") == 1
    assert _value(context, f"SELECT count(*) AS a FROM t WHERE n = {exact}") == 0


def test_numbers_that_are_computed_are_doubles(context: SessionContext) -> None:
    for number in ("12345678.90 + 0", "round(12345678.90, 2)", "coalesce(NULL, 12345678.90)", "-(-12345678.90)"):
        assert _value(context, f"SELECT count(*) AS a FROM t WHERE amount = {number}") == 0
    with pytest.raises(Exception, match="too large to store in a Decimal128"):
        _value(context, "SELECT count(*) AS a FROM t WHERE amount < 1e20")
    large = "CAST('100000000000000000000' AS DECIMAL(38, 2))"
    assert _value(context, f"SELECT count(*) AS a FROM t WHERE amount < {large}") == 1


@pytest.mark.parametrize("value", ["n IN (1, 2) AND n IN (3, 4)", "n NOT IN (1, 2) OR n NOT IN (3, 4)"])
def test_lists_of_one_value_outside_of_filters(context: SessionContext, value: str) -> None:
    """Change 24258. `engine/logical_plan_faults.py` has the filters of WHERE and HAVING."""
    nulls = "(SELECT nullif(n, n) AS n FROM t)"

    assert _value(context, f"SELECT {value} AS a FROM {nulls}") is not None
    assert _value(context, f"SELECT n = 1 OR n NOT IN (1, 2) AS a FROM {nulls}") is None


def test_a_constant_null_is_a_distinct_value_of_rows_in_memory(context: SessionContext) -> None:
    """The statistics of a constant column say that it has one value. Scans of files have no statistics."""
    counted = "SELECT count(*), count(DISTINCT x) AS a FROM (SELECT CAST(NULL AS DOUBLE) AS x FROM t)"

    assert _value(context, counted) == 1
    assert _value(context, counted.replace("count(*), ", "")) == 0

"""`generate_series` and `range`: DataFusion's own values, in plans that serialize."""

import datetime as dt

import pyarrow as pa
import pytest
from datafusion import LogicalPlan, SessionContext
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_query.engine.datafusion_errors import series_error
from dagfusion_query.engine.generate_series import SHORT, SeriesFunctions

BUILTIN, OURS = SessionContext(), SessionContext()
SeriesFunctions().register(OURS)

functions = st.sampled_from(["generate_series", "range"])
steps = st.integers(-2000, 2000).filter(bool)
days = st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))
intervals = st.sampled_from(
    ["1 day", "-1 day", "7 hours", "1 month", "-1 month 3 days", "1 year", "90 minutes", "1 day 1 nanosecond"]
)


def values(context: SessionContext, call: str) -> pa.Array:
    return context.sql(f"SELECT value FROM {call}").to_arrow_table()["value"].combine_chunks()


def assert_equal(call: str) -> None:
    plan = OURS.sql(f"SELECT * FROM {call}").optimized_logical_plan()
    assert LogicalPlan.from_bytes(OURS, plan.to_bytes()).display_indent()
    assert values(OURS, call).sort().equals(values(BUILTIN, call).sort())


@given(functions, st.integers(-10_000, 10_000), st.integers(-10_000, 10_000), steps)
def test_integers(function: str, start: int, stop: int, step: int) -> None:
    assert_equal(f"{function}({start}, {stop}, {step})")


@pytest.mark.usefixtures("heavy")
@given(functions, days, days, intervals)
def test_dates(function: str, start: dt.date, stop: dt.date, interval: str) -> None:
    assert_equal(f"{function}(DATE '{start}', DATE '{stop}', INTERVAL '{interval}')")


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("count", [SHORT, SHORT + 1, 1_000_000, 1_000_001])
def test_long_series(count: int) -> None:
    assert_equal(f"generate_series(1, {count})")
    assert_equal(f"range({count})")


@pytest.mark.parametrize(
    "call",
    [
        "generate_series(1, NULL)",
        "generate_series(TIMESTAMP '2024-01-01', TIMESTAMP '2024-01-02', INTERVAL '7 seconds')",
        "generate_series(DATE '1700-01-01', DATE '2200-01-01', INTERVAL '1 month')",
        """generate_series(arrow_cast('2024-01-01T00:00:00Z', 'Timestamp(Nanosecond, Some("Europe/Berlin"))'),
                           arrow_cast('2026-11-01T00:00:00Z', 'Timestamp(Nanosecond, Some("Europe/Berlin"))'),
                           INTERVAL '12 hours')""",
    ],
)
def test_other_series(call: str) -> None:
    assert_equal(call)


@pytest.mark.parametrize(
    "call",
    [
        "generate_series()",
        "generate_series(1, 2, 3, 4)",
        "generate_series(1, 5, 0)",
        "generate_series('1', 3)",
        "generate_series(1.5, 3)",
        "generate_series(CAST(1 AS INT), 3)",
        "generate_series(DATE '2024-01-01', DATE '2024-01-03')",
        "generate_series(arrow_cast('2024-01-01', 'Timestamp(Millisecond, None)'), 3, INTERVAL '1 day')",
        "generate_series(random(), 3)",
    ],
)
def test_refused_arguments_are_refused_as_datafusion_does(call: str) -> None:
    with pytest.raises(Exception, match="Error during planning: ") as builtin:
        values(BUILTIN, call)
    with pytest.raises(Exception, match="series: ") as ours:
        values(OURS, call)

    assert series_error(str(ours.value)) == str(builtin.value).rpartition("Error during planning: ")[2]

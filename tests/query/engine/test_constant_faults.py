"""Constants are read in the type of what they are compared with, in every form of comparison."""

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import PlanError
from dagfusion_query.engine.logical_plan_faults import _RULES, may_change, timestamp_text
from tests.query.engine.expressions import COMPARISONS
from tests.tiers import examples

TABLE = "local_default.t"
HOURS = [dt.datetime(2024, 3, 9 + day, hour, tzinfo=dt.UTC) for day in (0, 1) for hour in (0, 3, 23)]
AMOUNTS = [Decimal(text) for text in ("12345678.90", "0.10", "0.30", "-0.10", "9999999999.99", "1.00")]
EXACT = settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def t(lake: Any) -> Any:
    """One file for each hour; file i has `i`, its hour without a zone, its hour as text, an amount, also as a float."""
    for i, (hour, amount) in enumerate(zip(HOURS, AMOUNTS, strict=True)):
        rows = pa.table(
            {
                "i": [i],
                "at": pa.array([hour.replace(tzinfo=None)], pa.timestamp("us")),
                "text": [f"{hour:%Y-%m-%d %H:%M}"],
                "amount": pa.array([amount], pa.decimal128(12, 2)),
                "x": [float(amount)],
            }
        )
        price = pa.scalar(amount, pa.decimal128(14, 4))
        lake.write(("t",), rows, {"hour": pa.scalar(hour, pa.timestamp("us", "UTC")), "price": price})
    return lake


def _found(lake: Any, where: str, params: Any = None) -> set[int]:
    return {row["i"] for row in lake.rows(f"SELECT i FROM {TABLE} WHERE {where}", params)}


def _those(values: list[Any], op: str, value: Any) -> set[int]:
    return {i for i, one in enumerate(values) if COMPARISONS[op](one, value)}


TIMES = st.builds(
    lambda hour, minute, form: (hour.replace(minute=minute), form.format(hour.replace(minute=minute))),
    st.sampled_from(HOURS),
    st.sampled_from([0, 30]),
    st.sampled_from(
        [
            "{:%Y-%m-%d %H:%M}",
            "{:%Y-%m-%d-%H:%M}",
            "{:%Y-%m-%dT%H:%M}",
            "{:%Y-%m-%d-%H:%M:%S}",
            "{:%Y-%m-%d-%H:%M}+0000",
            "{:%Y-%m-%d %H:%M}Z",
            "{:%Y-%m-%d %H:%M:%S}",
        ]
    ),
)


@pytest.mark.usefixtures("heavy")
@EXACT
@given(TIMES, TIMES, st.sampled_from(["hour", "at"]), st.sampled_from(sorted(COMPARISONS)))
def test_timestamps_without_seconds_compare(
    t: Any, time: tuple[dt.datetime, str], other: tuple[dt.datetime, str], column: str, op: str
) -> None:
    value, text = time

    assert _found(t, f"{column} {op} '{text}'") == _those(HOURS, op, value)
    assert _found(t, f"{column} {op} $1", [text]) == _those(HOURS, op, value)
    assert _found(t, f"{column} IN ('{text}', '{other[1]}')") == _those(HOURS, "=", value) | _those(
        HOURS, "=", other[0]
    )
    assert _found(t, f"{column} BETWEEN '{text}' AND '{other[1]}'") == _those(HOURS, ">=", value) & _those(
        HOURS, "<=", other[0]
    )


NUMBERS = st.sampled_from(AMOUNTS) | st.decimals(-2, 2, places=4) | st.decimals(12345678, 12345679, places=3)


@pytest.mark.usefixtures("heavy")
@EXACT
@given(NUMBERS, NUMBERS, st.sampled_from(["amount", "price"]), st.sampled_from(sorted(COMPARISONS)))
def test_decimals_compare_with_the_number_that_is_written(
    t: Any, number: Decimal, other: Decimal, column: str, op: str
) -> None:
    assert _found(t, f"{column} {op} {number:f}") == _those(AMOUNTS, op, number)
    assert _found(t, f"{column} {op} $1", [float(number)]) == _those(AMOUNTS, op, number)
    assert _found(t, f"{column} IN ({number:f}, {other:f})") == _those(AMOUNTS, "=", number) | _those(
        AMOUNTS, "=", other
    )
    assert _found(t, f"{column} NOT BETWEEN {number:f} AND {other:f}") == _those(AMOUNTS, "<", number) | _those(
        AMOUNTS, ">", other
    )


@EXACT
@given(st.sampled_from(AMOUNTS), st.sampled_from(sorted(COMPARISONS)))
def test_doubles_compare_as_doubles(t: Any, number: Decimal, op: str) -> None:
    assert _found(t, f"x {op} {number:f}") == _those([float(amount) for amount in AMOUNTS], op, float(number))


@pytest.mark.parametrize(
    ("where", "files"),
    [
        ("hour = '2024-03-10-03:00'", 1),
        ("at = '2024-03-10 03:00'", 1),
        ("amount = 12345678.90", 1),
        ("price = 0.1", 1),
        ("hour > '2024-03-10-03:00' AND amount > 0.5", 1),
        ("i IN (SELECT i FROM local_default.t WHERE price = 0.1)", 7),
    ],
)
def test_such_filters_prune(t: Any, where: str, files: int) -> None:
    assert sum(read for read, _ in t.files_read(f"SELECT i FROM {TABLE} WHERE {where}")) == files
    assert len(_found(t, where)) == 1


def test_text_is_compared_as_it_is(t: Any) -> None:
    both = "text = '2024-03-10 03:00' AND at = '2024-03-10 03:00'"

    assert _found(t, both) == {4}
    assert _found(t, "text = '2024-03-10-03:00' OR text || '' = '2024-03-10 03:00:00'") == set()


def test_columns_keep_their_names_and_types(t: Any) -> None:
    sql = "SELECT price = 0.1, at = '2024-03-10 03:00', i * 0.1, 1 / 3.0, amount + 0.1, 1e300 FROM local_default.t"

    answer = t.sql(f"{sql} WHERE i = 1")

    assert answer.column_names[:5] == [
        f"{TABLE}.price = Float64(0.1)",
        f'{TABLE}.at = Utf8("2024-03-10 03:00")',
        f"{TABLE}.i * Float64(0.1)",
        "Int64(1) / Float64(3)",
        f"{TABLE}.amount + Float64(0.1)",
    ]
    assert answer.schema.types == [pa.bool_(), pa.bool_(), *[pa.float64()] * 4]
    assert answer.to_pylist()[0][answer.column_names[3]] == 1 / 3


@pytest.mark.parametrize("number", [1e300, 1e-300, math.inf, -math.inf, math.nan, -0.0, 1e22, 5e-324])
def test_doubles_that_no_decimal_has_are_left_to_the_engine(t: Any, number: float) -> None:
    plain = SessionContext()
    plain.from_arrow(pa.table({"amount": pa.array(AMOUNTS, pa.decimal128(12, 2))}), "t")

    def answer(rows: Any) -> Any:
        try:
            return len(rows())
        except Exception as error:  # noqa: BLE001  # which of the two it is, is compared
            return "error" if "verflow" in str(error) or "too large" in str(error) else str(error)

    expected = answer(lambda: plain.sql("SELECT 1 FROM t WHERE amount < $1", param_values={"1": number}).to_pylist())

    assert answer(lambda: _found(t, "amount < $1", [number])) == expected


@pytest.mark.parametrize("text", ["10/3/2024", "2024-03-10 3:00", "2024-03-10 03", "x 2024-03-10 03:00"])
def test_other_text_is_an_error_that_shows_the_form(t: Any, text: str) -> None:
    with pytest.raises(PlanError, match="Write a timestamp as '2024-03-10 03:00:00'"):
        t.prepare(f"SELECT i FROM {TABLE} WHERE at = '{text}'")


@given(st.text(max_size=20) | st.datetimes().map(str))
def test_a_timestamp_stays_as_it_is(text: str) -> None:
    if timestamp_text(text) is not None:
        assert timestamp_text(timestamp_text(text) or "") is None


def test_the_rules_that_analysis_needs_are_the_engines() -> None:
    steps = {row["plan_type"] for row in SessionContext().sql("EXPLAIN VERBOSE SELECT 1").to_pylist()}

    assert {f"logical_plan after {rule}" for rule in _RULES} <= steps


@pytest.mark.parametrize("sql", ["SELECT 0.1", "SELECT .5", "SELECT 1e3", "SELECT 2.", "x = '2024-03-10-03:00'"])
def test_statements_with_such_constants_are_seen(sql: str) -> None:
    assert may_change(sql, {})
    assert not may_change("SELECT t1.a, x2e FROM local_default.t WHERE d = '2024-03-10' AND n = 5", {})


def test_a_subquery_that_may_hold_null_keeps_its_meaning(t: Any) -> None:
    """Subqueries become joins before the statement is simplified, where a constant is read as a decimal."""
    holds_null = f"(SELECT nullif(i, 1) FROM {TABLE} WHERE i < 2)"

    assert _found(t, f"NOT (i IN {holds_null} OR 1 > 2) AND amount <> 0.10") == set()

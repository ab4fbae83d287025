"""Comparisons that begin with a constant, beside others of the same column, in filters and conditions of joins."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.query.engine.expressions import COMPARISONS
from tests.tiers import examples

TABLE = "local_default.t"
ROWS = [0, 1, 2, 3, 4, None]
Condition = tuple[str, Callable[[int], bool]]
"""The text of a condition on `{x}`, and whether it holds for a value that is not NULL."""


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    number = draw(st.integers(1, 3))
    text = draw(st.sampled_from([str(number), f"{number - 1} + 1", f"CAST('{number}' AS INT)", f"abs(-{number})"]))
    op = draw(st.sampled_from([*COMPARISONS]))
    compare = COMPARISONS[op]
    forms: list[Condition] = [
        (f"{text} {op} {{x}}", lambda x: compare(number, x)),
        (f"{{x}} {op} {text}", lambda x: compare(x, number)),
        (f"NOT ({text} {op} {{x}})", lambda x: not compare(number, x)),
        (f"{text} IN ({{x}})", lambda x: x == number),
        (f"{text} NOT IN ({{x}})", lambda x: x != number),
        (f"{text} BETWEEN {{x}} AND {{x}}", lambda x: x == number),
        (f"{text} NOT BETWEEN {{x}} AND {{x}}", lambda x: x != number),
    ]
    return draw(st.sampled_from(forms))


@pytest.fixture
def t(lake: Any) -> Any:
    """One file for each value of the partition column `p`, whose row has the same value in `i`; NULL is one."""
    for value in ROWS:
        rows = pa.table({"i": pa.array([value], pa.int32()), "one": [1]})
        lake.write(("t",), rows, {"p": pa.scalar(value, pa.int32())})
    return lake


@pytest.mark.usefixtures("heavy")
@given(st.lists(conditions(), min_size=2, max_size=3), st.sampled_from("ip"), st.booleans())
@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_they_hold_together(t: Any, found: list[Condition], column: str, joined: bool) -> None:  # noqa: FBT001
    texts = [text.format(x=f"b.{column}") for text, _ in found]
    if joined:
        sql = f"SELECT b.i FROM {TABLE} a JOIN {TABLE} b ON a.one = b.one AND a.i = 0 AND {texts[0]} WHERE {texts[1]}"
        sql = " AND ".join([sql, *texts[2:]])
    else:
        sql = f"SELECT b.i FROM {TABLE} b WHERE {' AND '.join(texts)}"

    expected = [x for x in ROWS if x is not None and all(holds(x) for _, holds in found)]
    assert sorted(row["i"] for row in t.rows(sql)) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT b.i FROM {t} a LEFT JOIN {t} b ON a.one = b.one AND a.i = 0 AND 2 = b.i WHERE b.i = 2",
        "SELECT b.i FROM {t} a, {t} b WHERE a.one = b.one AND a.i = 0 AND 1 + 1 = b.i AND b.i = 2",
        "SELECT b.i FROM {t} b WHERE EXISTS (SELECT 1 FROM {t} a WHERE a.i = b.i AND abs(2) = a.p AND a.p = 2)",
        "SELECT b.i FROM {t} b WHERE b.i IN (SELECT a.i FROM {t} a WHERE 1 + 1 = a.i AND a.i = 2)",
        "SELECT b.i FROM (SELECT i, count(*) FROM {t} GROUP BY i HAVING 1 + 1 = i) b WHERE b.i = 2",
        "SELECT b.i FROM {t} b WHERE CASE WHEN 1 + 1 = b.p THEN 1 + 1 = b.i AND b.i = 2 END",
    ],
)
def test_they_hold_in_every_place(t: Any, sql: str) -> None:
    assert t.rows(sql.format(t=TABLE)) == [{"i": 2}]


def test_parameters_are_constants(t: Any) -> None:
    assert t.rows(f"SELECT i FROM {TABLE} WHERE $1 + 1 = i AND i = $2", [1, 2]) == [{"i": 2}]


@pytest.mark.parametrize("today", ["current_date()", "CURRENT_DATE", "CAST(now() AS DATE)"])
def test_the_time_of_a_statement_is_a_constant(lake: Any, today: str) -> None:
    now = dt.datetime.now(dt.UTC).date()
    rows = pa.table({"d": [now - dt.timedelta(1), now, now + dt.timedelta(1)]})
    lake.write(("t",), rows)

    def found(where: str) -> list[dt.date]:
        return [row["d"] for row in lake.rows(f"SELECT d FROM {TABLE} WHERE {where}")]

    assert found(f"{today} > d AND d <= {today}") == rows["d"].to_pylist()[:1]
    assert found(f"{today} = d AND d = {today}") == rows["d"].to_pylist()[1:2]


def test_names_of_results_stay(t: Any) -> None:
    assert t.sql(f"SELECT 2 = i FROM {TABLE} WHERE 2 = p AND p = 2").column_names == [f"Int64(2) = {TABLE}.i"]


def test_it_is_a_fault_of_datafusion() -> None:
    """Change 24763. If this fails, it was mended, and `put_constants_last` can go."""
    context = SessionContext()
    context.from_pydict({"x": [1, 2, 3]}, "t")

    assert context.sql("SELECT x FROM t WHERE 1 + 1 = x AND x = 2").to_pylist() == []

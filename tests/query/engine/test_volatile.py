"""Volatile expressions are evaluated for each row: the catalog, which knows files, answers and prunes none of them."""

from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_query.engine.reuse import is_repeatable
from dagfusion_query.scan.prune import scalar_functions
from tests.tiers import examples

TABLE = "local_default.t"
FILES, ROWS = 4, 800
FORMS = ["concat({}, '')", "{} || p", "upper({})", "coalesce({}, '')", "CASE WHEN p >= 0 THEN {} END", "{}::VARCHAR"]
UNIQUE = st.recursive(
    st.sampled_from(["uuid()", "CAST(uuid() AS VARCHAR)"]),
    lambda inner: st.builds(str.format, st.sampled_from(FORMS), inner),
    max_leaves=4,
)
DISTINCT = [
    "SELECT count(DISTINCT {}) AS n FROM {}",
    "SELECT count(*) AS n FROM (SELECT DISTINCT {} FROM {})",
    "SELECT count(*) AS n FROM (SELECT {} AS u, count(*) FROM {} GROUP BY 1)",
    "SELECT count(*) AS n FROM (SELECT {} AS u, p, count(*) FROM {} GROUP BY u, p)",
    "SELECT count(*) AS n FROM (SELECT {} AS u, max(p) FROM {} AS a WHERE p >= 0 GROUP BY u)",
]
CHANCE = ["random() < 0.5", "rand() < 0.5", "random() + 0 * p >= 0.5", "p >= 0 AND random() < 0.5", "uuid() < '8'"]


@pytest.fixture
def t(lake: Any) -> Any:
    for p in range(FILES):
        lake.write(("t",), pa.table({"id": range(ROWS // FILES)}), {"p": pa.scalar(p)})
    return lake


def test_every_function_is_declared_immutable_or_not() -> None:
    declared = scalar_functions()

    assert declared.keys() >= set(SessionContext().udfs())
    assert not any(declared[name] for name in ("random", "rand", "uuid", "now", "current_date", "input_file_name"))
    assert all(declared[name] for name in ("upper", "date_trunc", "coalesce", "range"))


@pytest.mark.parametrize("call", ["now()", "RAND()", "random()", "uuid()", "today()", "current_date", 'x + "now"()'])
def test_plans_of_functions_that_are_not_immutable_are_not_kept(call: str) -> None:
    assert not is_repeatable(f"SELECT {call}")
    assert is_repeatable("SELECT known, upper(random_state) FROM t")


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(UNIQUE, st.sampled_from(DISTINCT))
def test_each_row_has_its_own_value(t: Any, unique: str, statement: str) -> None:
    sql = statement.format(unique, TABLE)

    assert t.rows(sql) == [{"n": ROWS}]
    assert not any(scan.answered for scan in t.prepare(sql).scans)


@pytest.mark.parametrize("chance", CHANCE)
def test_each_row_is_filtered_by_its_own_chance(t: Any, chance: str) -> None:
    (row,) = t.rows(f"SELECT count(*) AS n FROM {TABLE} WHERE {chance}")
    halves = t.rows(f"SELECT {chance} AS head, count(*) AS n FROM {TABLE} GROUP BY 1")

    # A draw of 800 lies 10 standard deviations from 400 once in 10^23 runs.
    assert 260 < row["n"] < 540
    assert len(halves) == 2
    assert all(260 < half["n"] < 540 for half in halves)


@pytest.mark.parametrize("chance", CHANCE)
def test_no_file_is_pruned_by_chance(t: Any, chance: str) -> None:
    (scan,) = t.prepare(f"SELECT id FROM {TABLE} WHERE {chance}").scans

    assert scan.count == FILES
    assert not any(applied.decided for applied in scan.filters if "p >=" not in applied.text)

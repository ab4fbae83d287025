"""Minima and maxima of floats in groups are those of DataFusion without groups: NaN is greater than infinity."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from datafusion import SessionContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiers import examples

TABLE = "local_default.t"
INF, NAN = math.inf, math.nan
LARGEST = 1.7976931348623157e308
VALUES = st.sampled_from([INF, -INF, NAN, -NAN, 0.0, -0.0, 1.5, -1.5, LARGEST, -LARGEST, 5e-324]) | st.none()
GROUPS = st.lists(st.lists(VALUES, min_size=1, max_size=5), min_size=1, max_size=3)
KINDS = st.sampled_from([pa.float64(), pa.float32()])


def _lake(new_lake: Callable[[], Any], groups: Sequence[Sequence[float | None]], kind: pa.DataType) -> Any:
    lake = new_lake()
    for p, values in enumerate(groups):
        array = pa.array(values, pa.float64()).cast(kind, safe=False)
        lake.write(
            ("t",), pa.table({"x": array, "n": range(len(values)), "g": [p % 2] * len(values)}), {"p": pa.scalar(p)}
        )
    return lake


def _bits(value: float | None) -> str:
    """Return a value with the sign of a NaN; either of equal zeros may be a bound, with groups and without."""
    return "NULL" if value is None else "0.0" if value == 0 else f"{math.copysign(1, value)} {value!r}"


def _each(lake: Any, bound: str, keys: Sequence[int], key: str) -> dict[int, str]:
    """Return a bound of each group, computed without GROUP BY."""
    return {k: _bits(lake.rows(f"SELECT {bound} AS b FROM {TABLE} WHERE {key} = {k}")[0]["b"]) for k in keys}


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(GROUPS, KINDS, st.sampled_from(["min", "max"]), st.sampled_from(["p", "g"]))
def test_groups_have_the_bounds_of_their_rows(
    new_lake: Callable[[], Any], groups: list[list[float | None]], kind: pa.DataType, name: str, key: str
) -> None:
    lake = _lake(new_lake, groups, kind)
    rows = lake.rows(
        f"SELECT {key} AS k, {name}(x) AS b, {name}(DISTINCT x) AS d, min(n) AS n FROM {TABLE} GROUP BY {key}"
    )
    expected = _each(lake, f"{name}(x)", [row["k"] for row in rows], key)

    assert {row["k"]: _bits(row["b"]) for row in rows} == expected
    assert {row["k"]: _bits(row["d"]) for row in rows} == expected
    assert {row["n"] for row in rows} == {0}


@pytest.fixture
def t(new_lake: Callable[[], Any]) -> Any:
    return _lake(new_lake, [[INF, INF], [NAN, 1.0, INF], [-INF], [None, 2.0], [1.0, NAN]], pa.float64())


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT p, min(x) FROM {} GROUP BY p", [[0, INF], [1, 1.0], [2, -INF], [3, 2.0], [4, 1.0]]),
        (
            "SELECT p, max(x) FILTER (WHERE n > 0) FROM {} GROUP BY p",
            [[0, INF], [1, INF], [2, None], [3, 2.0], [4, NAN]],
        ),
        ("SELECT g, count(DISTINCT n), max(x), min(p) FROM {} GROUP BY g", [[0, 2, NAN, 0], [1, 3, NAN, 1]]),
        ("SELECT p FROM {} GROUP BY p HAVING min(x) > 1e308", [[0]]),
        ("SELECT m, max(p) FROM (SELECT p, min(x) AS m FROM {} GROUP BY p) GROUP BY m HAVING m > 9", [[INF, 0]]),
        ("SELECT max(m), g FROM (SELECT p, g, min(x) AS m FROM {} GROUP BY p, g) GROUP BY g", [[2.0, 1], [INF, 0]]),
        ("SELECT p, max(x) FROM {} GROUP BY ROLLUP (p) HAVING p = 0 OR p IS NULL", [[0, INF], [None, NAN]]),
        (
            "SELECT a.p, lo FROM {} a JOIN (SELECT p, min(x) lo FROM {} GROUP BY p) b ON a.p = b.p WHERE a.n = 2",
            [[1, 1.0]],
        ),
        ("SELECT p, min(x + 0), min(CAST(x AS FLOAT)) FROM {} WHERE p = 0 GROUP BY p", [[0, INF, INF]]),
        ("SELECT p, min(x) AS lo FROM {} GROUP BY p ORDER BY lo DESC LIMIT 1", [[0, INF]]),
        (
            """WITH RECURSIVE r AS (SELECT 0 AS k UNION ALL SELECT k + 1 FROM r WHERE k < 1)
               SELECT k, min(x) FROM r JOIN {} t ON k = p GROUP BY k""",
            [[0, INF], [1, 1.0]],
        ),
        ("SELECT g, min(x) FROM (VALUES (1, CAST('inf' AS DOUBLE))) v(g, x) GROUP BY g", [[1, INF]]),
    ],
)
def test_wherever_an_aggregate_stands(t: Any, sql: str, expected: list[list[Any]]) -> None:
    rows = [list(row.values()) for row in t.rows(sql.replace("{}", TABLE))]

    assert sorted(map(repr, rows)) == sorted(map(repr, expected))


def test_columns_keep_their_names_and_other_types_their_functions(t: Any) -> None:
    prepared = t.prepare(f"SELECT p, min(x), max(n), max(DISTINCT x) FROM {TABLE} GROUP BY p")

    assert prepared.schema.names == ["p", f"min({TABLE}.x)", f"max({TABLE}.n)", f"max(DISTINCT {TABLE}.x)"]
    assert f"max({TABLE}.n)" in prepared.physical.display_indent()


def test_datafusion_needs_this() -> None:
    """When this fails, DataFusion is right without `scan/aggregate_faults.py`: remove it there."""
    values = "(VALUES (1, CAST('inf' AS DOUBLE))) AS v(g, x)"

    (row,) = SessionContext().sql(f"SELECT g, min(x) AS lo FROM {values} GROUP BY g").to_pylist()

    assert row["lo"] == LARGEST

"""Window functions with FILTER and IGNORE NULLS, which the encoding of physical plans loses."""

from typing import Any

import pyarrow as pa
import pytest

T = "local_default.t"
FRAME = "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW"


@pytest.fixture
def table(lake: Any) -> Any:
    rows = pa.table({"id": [1, 2, 3, 4], "v": pa.array([5, None, 7, None])})
    lake.write(("t",), rows, {"p": pa.scalar("A")})
    return lake


@pytest.mark.parametrize(
    ("window", "answer"),
    [
        ("count(*) FILTER (WHERE v > 6) OVER (ORDER BY id)", [0, 0, 1, 1]),
        ("sum(v) FILTER (WHERE id > 1) OVER ()", [7, 7, 7, 7]),
        ("lag(v) IGNORE NULLS OVER (ORDER BY id)", [None, 5, 5, 7]),
        ("lead(v) IGNORE NULLS OVER (ORDER BY id)", [7, 7, None, None]),
        ("first_value(v) IGNORE NULLS OVER (ORDER BY id DESC)", [7, 7, 7, None]),
        ("last_value(v) IGNORE NULLS OVER (ORDER BY id)", [5, 5, 7, 7]),
        (f"last_value(v) IGNORE NULLS OVER (ORDER BY id {FRAME})", [5, 5, 7, 7]),
        ("nth_value(v, 2) IGNORE NULLS OVER (ORDER BY id)", [None, None, 7, 7]),
        ("lag(v) RESPECT NULLS OVER (ORDER BY id)", [None, 5, None, 7]),
        ("count(DISTINCT v) OVER (ORDER BY id)", [1, 1, 2, 2]),
    ],
)
def test_windows(table: Any, window: str, answer: list[int | None]) -> None:
    assert table.sql(f"SELECT id, {window} AS w FROM {T} ORDER BY id")["w"].to_pylist() == answer


def test_windows_without_them_are_spliced(table: Any) -> None:
    assert table.prepare(f"SELECT sum(v) OVER (ORDER BY id) AS w FROM {T}").path == "splice"

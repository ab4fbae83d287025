"""LIMIT and OFFSET without an order: every row at most once, and as many as asked for."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

T = "local_default.t"
FILES, ROWS = 40, 10
R = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 1)"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, lake_class: Any) -> Iterator[Any]:
    lake = lake_class(tmp_path_factory.mktemp("lake"))
    for number in range(FILES):
        ids = pa.array(range(number * ROWS, (number + 1) * ROWS))
        lake.write(("t",), pa.table({"id": ids}), {"p": pa.scalar(f"p{number:02}")})
    yield lake
    lake.engine.close()


@pytest.mark.parametrize("limit", [1, 5, 10, 11, 15, 20, 25, 35, 399, 400, 500, 5_000_000_000, (1 << 63) - 1])
@pytest.mark.parametrize("offset", [0, 3, 395])
def test_no_row_comes_twice(table: Any, limit: int, offset: int) -> None:
    ids = table.sql(f"SELECT id FROM {T} LIMIT {limit} OFFSET {offset}")["id"].to_pylist()

    assert len(ids) == min(limit, FILES * ROWS - offset)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("limit", ["", "LIMIT ALL ", "LIMIT 5000000000 "])
@pytest.mark.parametrize(
    ("source", "rows"),
    [
        (f"SELECT id FROM {T}", 400),
        (f"SELECT id FROM {T} WHERE id >= 40", 360),
        (f"SELECT DISTINCT p FROM {T}", 40),
        (f"SELECT id FROM {T} UNION ALL SELECT id FROM {T}", 800),
        (f"SELECT id FROM {T} ORDER BY id", 400),
        (f"SELECT id FROM (SELECT id FROM {T} OFFSET 5)", 395),
        (f"SELECT id FROM (SELECT id FROM {T} LIMIT 50)", 50),
        (f"{R} SELECT t.id FROM {T} t, r", 400),
    ],
)
def test_an_offset_without_a_limit(table: Any, source: str, rows: int, limit: str) -> None:
    assert table.sql(f"{source} {limit}OFFSET 7").num_rows == rows - 7


@pytest.mark.parametrize(
    ("where", "limit"),
    [
        ("a.m < 2.5 OR a.id IS NULL OR b.id IS NULL", "OFFSET 0"),
        ("TRUE", "LIMIT 9223372036854775807"),
        ("TRUE", "LIMIT 9223372036854775807 OFFSET 0"),
    ],
)
def test_an_order_of_all_rows_is_kept(table: Any, where: str, limit: str) -> None:
    """A comparison with a decimal has the statement encoded before it is planned."""
    lines = pa.table({"id": range(100), "m": pa.array([None, 1] * 50, pa.decimal128(5, 2))})
    table.write(("u",), lines, {"p": pa.scalar("a")})
    joined = "local_default.u AS a FULL JOIN local_default.u AS b ON a.m = b.m"
    query = f"SELECT a.id AS i, b.id AS j FROM {joined} WHERE {where}"
    found = table.sql(f"{query} ORDER BY a.id NULLS FIRST, b.id NULLS FIRST {limit}").to_pylist()

    ranks = [(row["i"] is not None, row["i"], row["j"] is not None, row["j"]) for row in found]
    assert len(ranks) == 50 * 50 + 100
    assert ranks == sorted(ranks, key=lambda rank: tuple(value or 0 for value in rank))


def test_a_large_offset(table: Any) -> None:
    assert table.sql(f"SELECT id FROM {T} LIMIT 5 OFFSET 4294967296").num_rows == 0


def test_as_many_files_are_read_as_the_rows_need(table: Any) -> None:
    prepared = table.prepare(f"SELECT id FROM {T} LIMIT 15")
    run = table.engine.run(prepared)

    assert sum(batch.num_rows for batch in iter(run.next, None)) == 15
    assert run.files_read == 2

"""The rows of some partitions of a row group: which filters may keep them, and that they cost no answer."""

import datetime as dt
from collections.abc import Iterator
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_client.errors import PlanError
from tests.query.engine.consolidating import consolidate

PARTITIONS = 40
LAST_DAY = dt.date(9999, 12, 31)  # no timestamp in nanoseconds has it

FOR_ROWS = [
    "p >= 5",
    "p BETWEEN 3 AND 50",
    "p NOT IN (1, 2, 3, 4, 5)",
    "NOT (p = 3 OR p = 7)",
    "(p < 30) IS NOT FALSE",
    "p IS DISTINCT FROM 3",
    "day > DATE '2024-01-02' AND p <> 4",
]
FOR_PARTITIONS_ONLY = [
    "p % 7 <> 1",
    "p + 1 > 4",
    "1000 / (third + 1) > 500 OR p > 8",
    "CAST(day AS VARCHAR) <> '2024-01-03'",
    "to_char(day, '%d') <> '03'",
    "state LIKE '%a%' OR state LIKE '%b'",
    " OR ".join(f"(p = {number} AND third = {number % 3})" for number in range(30)),
]


@pytest.fixture(scope="module")
def lakes(lake_class: type[Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """The same table, consolidated into one row group but for its last file, and not consolidated."""
    consolidated, small = (lake_class(tmp_path_factory.mktemp("lake")) for _ in range(2))
    for lake in (consolidated, small):
        for number in range(PARTITIONS):
            if number == PARTITIONS - 1 and lake is consolidated:
                [table] = lake.snapshot.tables.values()
                consolidate(lake, table, Random(0), share=1.0, group_rows=1_000_000)  # noqa: S311
            first, rows = 1000 * number, 300 if number % 7 == 0 else 10
            values = {
                "p": pa.scalar(number, pa.int64()),
                "third": pa.scalar(number % 3, pa.int64()),
                "day": pa.scalar(LAST_DAY if number == 20 else dt.date(2024, 1, 1 + number % 28), pa.date32()),
                "state": pa.scalar("ab"[number % 2]),
            }
            lake.write(("t",), pa.table({"n": pa.array(range(first, first + rows), pa.int64())}), values)
    yield consolidated, small
    consolidated.engine.close()
    small.engine.close()


@pytest.mark.parametrize("where", [*FOR_ROWS, *FOR_PARTITIONS_ONLY])
def test_filters_of_rows_are_a_few_comparisons(lakes: tuple[Any, Any], where: str) -> None:
    sql = f"SELECT p, count(*) AS c, sum(n) AS s FROM local_default.t WHERE {where} GROUP BY p ORDER BY p"
    consolidated, small = lakes
    [scan] = consolidated.prepare(sql).scans
    assert (scan.row_filter is not None) == (where in FOR_ROWS)
    assert consolidated.sql(sql) == small.sql(sql)


def test_only_rows_of_large_objects_are_filtered(lakes: tuple[Any, Any]) -> None:
    [scan] = lakes[0].prepare("SELECT n FROM local_default.t WHERE p >= 5").scans
    assert [(part.is_large, part.row_filter is not None) for part in scan.parts] == [(False, False), (True, True)]


def test_a_filter_is_not_evaluated_for_the_files_that_statistics_leave_out(lakes: tuple[Any, Any]) -> None:
    sql = "SELECT n FROM local_default.t WHERE n < 5000 AND day < TIMESTAMP '2024-01-20 12:00:00' ORDER BY n"
    consolidated, small = lakes
    assert consolidated.sql(sql) == small.sql(sql)


@pytest.mark.usefixtures("heavy")
def test_a_plan_that_is_too_deep_to_be_decoded_is_staged(lakes: tuple[Any, Any]) -> None:
    consolidated, small = lakes
    paths = set()
    for depth in range(8, 15):
        sql = "SELECT n, p FROM local_default.t WHERE p >= 5"
        for _ in range(depth):
            sql = f"SELECT p AS n, sum(n) AS p FROM ({sql}) GROUP BY 1"
        assert consolidated.sql(sql).sort_by("n") == small.sql(sql).sort_by("n")
        [scan] = consolidated.prepare(sql).scans
        assert scan.row_filter is not None
        paths.add(consolidated.prepare(sql).path)
    assert paths == {"splice", "staged"}


@pytest.mark.parametrize("sql", ["SELECT sum({}) FROM local_default.t", "SELECT n FROM local_default.t WHERE {} > 3"])
def test_an_expression_that_is_too_deep_to_be_decoded_is_an_error(lakes: tuple[Any, Any], sql: str) -> None:
    deep = "n"
    for number in range(30):
        deep = f"abs({deep} + {number})"
    with pytest.raises(PlanError, match="does not serialize"):
        lakes[0].prepare(sql.format(deep))

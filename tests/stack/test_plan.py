"""What the demo has to materialize, and how it tells a wrong answer: functions of values."""

from collections.abc import Collection, Mapping
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_stack.answers import difference
from dagfusion_stack.documented_queries import EXPORT, ORDERS, ORG_AGGREGATES, ORGANIZATIONS, REGISTER, SALES_AGGREGATES
from dagfusion_stack.lake import partition_values
from dagfusion_stack.materialize import Extent, Run, plan

EXTENT = Extent(days=3, states=4)
PAIRS = [f"{date}|{code}" for date in EXTENT.dates() for code in EXTENT.codes()]
ALL: Mapping[str, Collection[str | None]] = {
    REGISTER: {None},
    ORGANIZATIONS: set(PAIRS),
    ORG_AGGREGATES: set(EXTENT.dates()),
    EXPORT: {None},
    ORDERS: set(PAIRS),
    SALES_AGGREGATES: set(EXTENT.dates()),
}


def test_from_nothing_everything_is_made_upstream_first() -> None:
    assert plan({}, EXTENT) == [
        Run(REGISTER, 1),
        Run(ORGANIZATIONS, 12, "2024-01-01|AL", "2024-01-03|AR"),
        Run(ORG_AGGREGATES, 3, "2024-01-01", "2024-01-03"),
        Run(EXPORT, 1),
        Run(ORDERS, 12, "2024-01-01|AL", "2024-01-03|AR"),
        Run(SALES_AGGREGATES, 3, "2024-01-01", "2024-01-03"),
    ]


def test_from_everything_nothing_is_made() -> None:
    assert plan(ALL, EXTENT) == []


@given(st.sets(st.sampled_from(PAIRS), min_size=1))
def test_missing_partitions_are_made_and_their_aggregates_again(missing: set[str]) -> None:
    partitions, aggregates = plan({**ALL, ORDERS: set(PAIRS) - missing}, EXTENT)
    assert (partitions.table, aggregates.table) == (ORDERS, SALES_AGGREGATES)
    (first_date, first_code), (last_date, last_code) = (
        str(key).split("|") for key in (partitions.first, partitions.last)
    )
    dates, codes = EXTENT.dates(), list(EXTENT.codes())
    made = {
        f"{date}|{code}"
        for date in dates[dates.index(first_date) : dates.index(last_date) + 1]
        for code in codes[codes.index(first_code) : codes.index(last_code) + 1]
    }
    assert missing <= made
    assert len(made) == partitions.partitions
    assert {pair.split("|")[0] for pair in missing} <= {
        date for date in EXTENT.dates() if str(aggregates.first) <= date <= str(aggregates.last)
    }


@pytest.mark.parametrize(
    ("given_rows", "expected", "said"),
    [
        ([], [(1,)], "it has 0 rows and should have 1"),
        ([("CA", 1.0)], [("CA", 1.1)], "row 1 is ('CA', 1.0) and should be ('CA', 1.1)"),
        ([(None,)], [(0,)], "row 1 is (None,) and should be (0,)"),
        ([(1, 2)], [(1,)], "row 1 is (1, 2) and should be (1,)"),
    ],
)
def test_a_wrong_answer_is_told(given_rows: list[tuple[object]], expected: list[tuple[object]], said: str) -> None:
    assert difference(given_rows, expected) == said


def test_equal_values_of_other_widths_are_no_difference() -> None:
    one, other = (Decimal("1.50"), 0.1 + 0.2, float("nan")), (Decimal("1.5"), 0.3, float("nan"))
    assert difference([one], [other]) is None


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("state=CA/date=2024-01-05/data.parquet", "CA 2024-01-05"),
        ("2024-01-05.parquet", "None 2024-01-05"),
        ("city=a%2Fb/data.parquet", "a/b None"),
    ],
)
def test_partition_values_come_from_the_path(path: str, values: str) -> None:
    row = pl.DataFrame({"x": [1]}).with_columns(**partition_values(path)).row(0, named=True)
    assert f"{row.get('state', row.get('city'))} {row.get('date')}" == values

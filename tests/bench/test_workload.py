"""The documented queries know how many files they need."""

import pyarrow as pa
import pytest

from benchmarks.workload import DATE_QUERY, FULL_SCAN, IN_AND_RANGE, POINT, STATE_QUERY, Query, rows


@pytest.mark.parametrize(
    ("query", "files"),
    [(POINT, 1), (STATE_QUERY, 365), (DATE_QUERY, 50), (IN_AND_RANGE, 21), (FULL_SCAN, 18_250)],
    ids=lambda value: getattr(value, "name", None),
)
def test_files_of_the_full_data_set(query: Query, files: int) -> None:
    assert query.files(days=365, states=50) == files


def test_files_of_a_short_data_set() -> None:
    assert POINT.files(days=4, states=50) == 0
    assert IN_AND_RANGE.files(days=3, states=50) == 6


def test_rows_compare_whatever_integer_type_counts() -> None:
    narrow = pa.table({"state": ["CA"], "n": pa.array([3], pa.uint32())})
    wide = pa.table({"state": ["CA"], "n": pa.array([3], pa.decimal128(38, 0))})
    assert rows(narrow) == rows(wide)

"""File groups hold every file once, in order, and none is empty while there are files for it."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_query.scan.parquet_scan import _file_groups


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40), st.integers(1, 40))
def test_groups_cut_the_files_in_order(sizes: list[int], groups: int) -> None:
    entries = [bytes([i]) * (i + 1) for i in range(len(sizes))]
    chunks = pa.chunked_array([pa.array(entries[:3], pa.binary()), pa.array(entries[3:], pa.binary())])

    cut = _file_groups(chunks, pa.chunked_array([pa.array(sizes, pa.int64())]), groups)

    assert len(cut) == groups
    assert all(cut[: len(sizes)])
    assert b"".join(cut) == b"".join(entries)


@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT sum(x + 0) AS n FROM {t}", [{"n": 1770}]),
        ("SELECT count(*) AS n FROM {t} AS a JOIN {t} AS b ON a.x + 0 = b.x + 0", [{"n": 60}]),
        ("SELECT x FROM {t} WHERE x IN (SELECT x + 1 FROM {t}) ORDER BY x LIMIT 2", [{"x": 1}, {"x": 2}]),
        ("SELECT count(*) AS n FROM (SELECT x FROM {t} LIMIT 35)", [{"n": 35}]),
    ],
)
def test_a_plan_of_one_partition_reads_every_file(
    new_lake: Callable[..., Any], partitions: int, sql: str, expected: list[dict[str, int]]
) -> None:
    lake = new_lake(settings={"DAGFUSION_PARALLELISM": str(partitions)})
    for number in range(6):
        lake.write(("t",), pa.table({"x": range(10 * number, 10 * number + 10)}), {"p": pa.scalar(number)})
    assert lake.rows(sql.format(t="local_default.t")) == expected

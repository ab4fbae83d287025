"""File groups hold every file once, in order, and none is empty while there are files for it."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_query.scan.parquet_scan import Breadth, FilesToRead, _file_groups

MB = 1 << 20
PARTS = st.tuples(st.lists(st.integers(0, 10**9), min_size=1, max_size=90), st.booleans())


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40), st.integers(1, 40))
def test_groups_cut_the_files_in_order(sizes: list[int], groups: int) -> None:
    entries = [bytes([i]) * (i + 1) for i in range(len(sizes))]
    chunks = pa.chunked_array([pa.array(entries[:3], pa.binary()), pa.array(entries[3:], pa.binary())])

    cut = _file_groups(chunks, pa.chunked_array([pa.array(sizes, pa.int64())]), groups)

    assert len(cut) == groups
    assert all(cut[: len(sizes)])
    assert b"".join(cut) == b"".join(entries)


def part(sizes: list[int], *, is_copied: bool) -> FilesToRead:
    scan: Any = None
    copied: Any = object() if is_copied else None
    entries = pa.chunked_array([pa.array([b""] * len(sizes), pa.binary())])
    return FilesToRead(scan, entries, pa.chunked_array([pa.array(sizes, pa.int64())]), max(sizes), "s3://b/", copied)


@pytest.mark.parametrize(
    ("copied", "in_place", "shares"),
    [
        ([MB] * 50, [1024 * MB], [11, 1]),
        ([10_000] * 2000, [100 * MB], [63, 1]),
        ([2 * MB] * 300, [4 * MB] * 2, [62, 2]),
        ([10_000] * 2000, [4 * MB] * 500, [4, 60]),
        ([MB] * 3, [4 * MB], [3, 1]),
    ],
)
def test_parts_share_the_groups_of_a_scan(copied: list[int], in_place: list[int], shares: list[int]) -> None:
    breadth = Breadth(4, 64, 256 * MB)
    parts = [part(copied, is_copied=True), part(in_place, is_copied=False)]
    assert [*breadth.shared(breadth.planned(len(copied + in_place)), parts)] == shares


@given(
    st.lists(PARTS, min_size=1, max_size=4),
    st.integers(1, 8),
    st.integers(1, 8),
)
def test_no_part_has_more_groups_than_files(drawn: list[tuple[list[int], bool]], partitions: int, planned: int) -> None:
    breadth, planned = Breadth(partitions, 64, 256 * MB), min(partitions, planned)
    counts, every = [len(sizes) for sizes, _ in drawn], [size for sizes, _ in drawn for size in sizes]
    shares = breadth.shared(planned, [part(sizes, is_copied=is_copied) for sizes, is_copied in drawn])
    assert sum(shares) == max(breadth.spliced(planned, len(every), sum(every)), len(drawn))
    assert min(shares) > 0
    if planned <= len(every):
        assert all(share <= count for share, count in zip(shares, counts, strict=True))


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

"""File groups hold every file once, in order, and none is empty while there are files for it."""

import pyarrow as pa
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

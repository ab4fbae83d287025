"""Page indexes of small files are not asked for: that is one request a file and query, and saves less than it costs."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_query.scan import parquet_scan

QUERY = "SELECT count(*) AS n, min(b) AS b FROM local_default.t WHERE a BETWEEN 5000 AND 5003 AND b >= 0"


@pytest.fixture
def paged_lake(lake: Any, tmp_path: Path) -> Any:
    """One row group of ten pages, with their bounds."""
    rows = pa.table({"a": range(10_000), "b": range(10_000)})
    path = tmp_path / "paged.parquet"
    pq.write_table(rows, path, write_page_index=True, max_rows_per_page=1000, use_dictionary=False)
    lake.fold([lake.event(("t",), rows, {}, path, 1)])
    return lake


def bytes_read(lake: Any, monkeypatch: pytest.MonkeyPatch, *, small_bytes: int) -> int:
    monkeypatch.setattr(parquet_scan, "SMALL_BYTES", small_bytes)
    run = lake.engine.run(lake.prepare(f"{QUERY} -- planned for {small_bytes}"))
    (row,) = [row for batch in iter(run.next, None) for row in batch.to_pylist()]
    assert row == {"n": 4, "b": 5000}
    return int(run.bytes_read)


def test_pages_are_skipped_in_files_that_are_not_small(paged_lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bytes_read(paged_lake, monkeypatch, small_bytes=parquet_scan.SMALL_BYTES)
    paged = bytes_read(paged_lake, monkeypatch, small_bytes=0)
    assert paged < whole / 2

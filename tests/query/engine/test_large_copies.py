"""Large objects: local copies of them, whole or by block, or reads in place."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dagfusion_query.engine.plan_execution import Execution
from dagfusion_query.engine.plan_metrics import file_openings
from dagfusion_query.scan import parquet_scan, row_filter
from tests.e2e.wire import Recorded
from tests.query.engine.large_lake import (
    EXPECTED,
    EXPECTED_FEW,
    FEW,
    OBJECT_BYTES,
    PARTITIONS,
    ROWS,
    by_block,
    consolidated,
    copies,
    explained,
)
from tests.query.engine.stored_lake import BUCKET, SUM, StoredLake, T, server, stored, wire

__all__ = ["by_block", "server", "stored", "wire"]


@pytest.mark.parametrize(
    ("object_bytes", "expected"),
    [(1, (2 + 8, 8)), (2_000, (2 + 8, 8)), (10_000, (1, 0)), (1 << 20, (1, 0))],
    ids=["in place", "many bytes a request", "few bytes a request", "small enough"],
)
def test_a_large_object_takes_a_request_a_row_group_or_one(
    stored: Callable[..., StoredLake], wire: Recorded, tmp_path: Path, object_bytes: int, expected: tuple[int, int]
) -> None:
    lake = stored(object_cache_object_bytes=object_bytes)
    large = consolidated(lake, tmp_path)
    assert 10 * 2_000 < large.size < 10 * 10_000
    is_copied = expected[1] == 0
    for requests, source in zip(expected, ("1 object to fetch", "1 local copy"), strict=True):  # cold, and warm
        wire.requests.clear()
        assert explained(lake) == f"from {source if is_copied else '1 object in place'}"
        assert wire.requests == []
        assert lake.rows(SUM) == EXPECTED
        assert wire.requests == [large.request] * requests


@pytest.mark.parametrize("object_bytes", [1 << 20, 1], ids=["copied", "in place"])
def test_a_scan_of_most_partitions_reads_the_large_object(
    stored: Callable[..., StoredLake], wire: Recorded, tmp_path: Path, object_bytes: int
) -> None:
    lake = stored(object_cache_object_bytes=object_bytes)
    large = consolidated(lake, tmp_path)
    kept = [*range(3, 16), *range(20, PARTITIONS)]  # five of the first row group, and four of the third
    where = "WHERE p > '02' AND p NOT BETWEEN '16' AND '19'"
    wire.requests.clear()
    assert lake.rows(f"SELECT sum(x + 0) AS n, count(DISTINCT p) AS p FROM {T} {where}") == [
        {"n": sum(sum(range(n, n + ROWS)) for n in kept), "p": len(kept)}
    ]
    assert wire.requests == [large.request] * (1 if object_bytes > 1 else 2 + 8)
    rows = lake.rows(f"SELECT DISTINCT p FROM {T} {where} AND x >= 0 ORDER BY p")
    assert [row["p"] for row in rows] == [f"{n:02}" for n in kept]
    (scan,) = lake.engine.explain(lake.prepare(f"SELECT x FROM {T} {where}")).scans
    assert (scan.files_read, scan.consolidated) == (len(kept), len(kept))
    assert {*scan.uris} == {f"s3://{BUCKET}/{large.key}"}
    assert scan.partitions == [f"{n:02}" for n in kept]


def test_expressions_see_only_the_partitions_that_are_asked_for(stored: Callable[..., StoredLake]) -> None:
    lake = stored()
    consolidated(lake, Path(lake.settings.state_dir or ""))
    lake.rows(f"SELECT x FROM {T} WHERE p > '00'")
    for sql in (f"SELECT 10 / x AS n FROM {T} WHERE p > '00'", f"SELECT x FROM {T} WHERE p > '00' AND 10 / x >= 0"):
        assert len(lake.rows(sql)) == (PARTITIONS - 1) * ROWS  # the partition 00 has a zero


def test_a_filter_of_rows_that_cannot_be_made_costs_speed_only(
    stored: Callable[..., StoredLake], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = stored()
    consolidated(lake, Path(lake.settings.state_dir or ""))
    monkeypatch.setattr(row_filter, "column_names", broken)
    sql = f"SELECT x FROM {T} WHERE p > '00'"
    assert len(lake.rows(sql)) == (PARTITIONS - 1) * ROWS
    assert [scan.row_filter for scan in lake.prepare(sql).scans] == [None]


def broken(_: object) -> Iterator[str]:
    raise RuntimeError("no filter")


@pytest.mark.usefixtures("by_block")
class TestBlocks:
    """Of an object that is larger than those that are copied whole."""

    def test_a_block_takes_one_request_and_a_warm_one_none(
        self, by_block: Callable[[], StoredLake], wire: Recorded, tmp_path: Path
    ) -> None:
        lake = by_block()
        large = consolidated(lake, tmp_path)
        assert 2 < large.blocks < 8
        for requests in (2 + large.blocks, 0):  # those of the footer are first
            wire.requests.clear()
            assert lake.rows(SUM) == EXPECTED
            assert wire.requests == [large.request] * requests
        assert len(copies(lake)) == large.blocks
        other = by_block()  # as another process
        other.snapshot = lake.snapshot
        assert other.rows(SUM) == EXPECTED
        assert wire.requests == []

    def test_only_the_blocks_that_are_read_are_fetched(
        self, by_block: Callable[[], StoredLake], wire: Recorded, tmp_path: Path
    ) -> None:
        lake = by_block()
        large = consolidated(lake, tmp_path)
        wire.requests.clear()
        assert lake.rows(FEW) == EXPECTED_FEW
        few = len(wire.requests) - 2
        assert 0 < few < large.blocks
        found = "1 local copy" if few == 1 else f"{few} local copies"
        left = large.blocks - few
        assert explained(lake) == f"from {found}, {left} block{'s' * (left > 1)} to fetch"
        assert lake.rows(SUM) == EXPECTED
        assert wire.requests == [large.request] * (2 + large.blocks), "the footer is fetched once, and compared"

    def test_blocks_of_one_object_are_one_file(self, by_block: Callable[[], StoredLake], tmp_path: Path) -> None:
        lake = by_block()
        large = consolidated(lake, tmp_path)
        prepared = lake.prepare(SUM)
        run = lake.engine.run(prepared)
        while run.next() is not None:
            pass
        assert run.files_read == 1
        shown = prepared.shown(prepared.physical.display_indent())
        assert large.key in shown
        assert "/objects/" not in shown

    def test_the_plan_opens_what_its_scans_say(self, by_block: Callable[[], StoredLake], tmp_path: Path) -> None:
        """Ranges that a block has in common are one."""
        lake = by_block()
        consolidated(lake, tmp_path)
        run = lake.engine.run(lake.prepare(SUM))
        while run.next() is not None:
            pass
        assert isinstance(run, Execution)
        [(spliced, plan)] = run._execution_context.unchecked
        assert sum(scan.most_opened for scan in spliced.scans) == file_openings([plan])

    def test_pages_of_blocks_are_skipped(
        self, stored: Callable[..., StoredLake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By the page index that was copied with them."""
        paged = partial(pq.ParquetWriter, max_rows_per_page=100, use_dictionary=False)
        lake = stored(object_cache_object_bytes=4 * OBJECT_BYTES)
        with monkeypatch.context() as patch:
            patch.setattr(pq, "ParquetWriter", lambda *args, **options: paged(*args, **{**options, **paged.keywords}))
            large = consolidated(lake, tmp_path)

        def rows_read(small_bytes: int) -> int:
            monkeypatch.setattr(parquet_scan, "SMALL_BYTES", small_bytes)
            counted = f"SELECT count(*) AS n, sum(x) AS x FROM {T} WHERE x BETWEEN 380 AND 383 -- {small_bytes}"
            run = lake.engine.run(lake.prepare(counted))
            (row,) = [row for batch in iter(run.next, None) for row in batch.to_pylist()]
            assert row == {"n": 4 * PARTITIONS, "x": (380 + 381 + 382 + 383) * PARTITIONS}
            assert isinstance(run, Execution)
            metrics = [found for plan in run._execution_context.plans for _, found in plan.collect_metrics()]
            return sum(found.output_rows or 0 for found in metrics if found.sum_by_name("bytes_scanned") is not None)

        assert rows_read(parquet_scan.SMALL_BYTES) == PARTITIONS * ROWS
        assert len(copies(lake)) == large.blocks
        assert 4 * PARTITIONS <= rows_read(0) <= 2 * 100 * PARTITIONS, "one or two pages of each partition"

    def test_blocks_of_large_row_groups_are_read_in_place(
        self, stored: Callable[..., StoredLake], wire: Recorded, tmp_path: Path
    ) -> None:
        """Each has more bytes than are sent in the time of a request."""
        request_bytes = 3_000
        lake = stored(object_cache_object_bytes=request_bytes)
        large = consolidated(lake, tmp_path, groups=2)
        assert large.size > max(OBJECT_BYTES, (2 + 2 - 1) * request_bytes)
        for requests in (2 + 2, 2):
            wire.requests.clear()
            assert lake.rows(SUM) == EXPECTED
            assert wire.requests == [large.request] * requests

    def test_executions_share_blocks(self, by_block: Callable[[], StoredLake], tmp_path: Path) -> None:
        lakes = [by_block(), by_block()]
        large = consolidated(lakes[0], tmp_path)
        lakes[1].snapshot = lakes[0].snapshot

        def answers(number: int) -> list[list[dict[str, Any]]]:
            return [lakes[number % 2].rows(sql) for sql in (FEW, SUM)]

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(answers, range(6))) == [[EXPECTED_FEW, EXPECTED]] * 6
        assert len(copies(lakes[0])) == large.blocks

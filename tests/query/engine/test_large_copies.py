"""Large objects: local copies of them, whole or by block, or reads in place."""

import errno
import hashlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_contract.consolidation import LargeObject, consolidated_entry, read_consolidated, utc_text
from dagfusion_contract.record import schema_entry
from dagfusion_pipeline.large_files import LargeFile, PartitionRows, with_partition
from dagfusion_query.engine.object_requests import ObjectRequests
from dagfusion_query.engine.plan_execution import Execution
from dagfusion_query.engine.plan_metrics import file_openings
from dagfusion_query.errors import ExecutionError
from dagfusion_query.event_log.event_log_interface import Consolidation
from dagfusion_query.object_cache import parquet_blocks
from dagfusion_query.object_cache.copies import Copies, CopyUse
from dagfusion_query.object_cache.parquet_blocks import ParquetTail
from dagfusion_query.scan import copied_objects, large_objects, parquet_scan, row_filter
from tests.e2e.wire import Recorded
from tests.query.engine.stored_lake import BUCKET, SUM, StoredLake, T, flipped, numbers, server, stored, wire

__all__ = ["server", "stored", "wire"]

PARTITIONS, ROWS = 64, 400
OBJECT_BYTES, BLOCK_BYTES = 10_000, 5_000  # of a large object of about 40 KB
EXPECTED = [{"n": sum(sum(range(n, n + ROWS)) for n in range(PARTITIONS))}]
FEW = f"{SUM} WHERE p < '16'"
EXPECTED_FEW = [{"n": sum(sum(range(n, n + ROWS)) for n in range(16))}]


class Large(NamedTuple):
    """A large object in the bucket."""

    key: str
    size: int
    blocks: int

    @property
    def request(self) -> str:
        return f"GET /{BUCKET}/{self.key}"


def consolidated(
    lake: StoredLake, folder: Path, groups: int = 8, change: Callable[[bytes], bytes] = lambda content: content
) -> Large:
    """Write 64 partitions, and a large object of all of them with so many row groups; `change` damages it."""
    partition = pa.schema({"p": pa.string()})
    large = LargeFile(folder / "large.parquet", "zstd", group_rows=PARTITIONS * ROWS // groups)
    for number in range(PARTITIONS):
        event = lake.put(f"{number:02}", numbers(number, ROWS))
        one = with_partition(numbers(number, ROWS), partition, [pa.scalar(f"{number:02}")])
        large.add(PartitionRows(event.event_id, event.at_us, one))
    held = tuple(large.finish())
    assert len(held) == groups
    content, key = change((folder / "large.parquet").read_bytes()), f"{folder.name}/_consolidated/large.parquet"
    etag = obstore.put(lake._store, key, content)["e_tag"]
    checksum, now = f"sha256:{hashlib.sha256(content).hexdigest()}", datetime.now(UTC)
    logged = schema_entry(large.schema or pa.schema([]))
    entry = LargeObject(f"s3://{BUCKET}/{key}", len(content), etag, checksum, utc_text(now), [], logged, held)
    read = read_consolidated(consolidated_entry([entry]))
    lake.fold([Consolidation(("t",), next(lake._ids), int(now.timestamp() * 1e6), "", read)])
    return Large(key, len(content), len({group.offset // BLOCK_BYTES for group in held}))


def with_damaged_header(content: bytes) -> bytes:
    at = content.index(b"\x3c\x15") + 2  # the number of values of the first dictionary
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


def explained(lake: StoredLake, sql: str = SUM) -> str:
    """Return the places that a statement would read its objects from."""
    (scan,) = lake.engine.explain(lake.prepare(sql)).scans
    return scan.sources


def copies(lake: StoredLake) -> list[Path]:
    return list(Path(lake.settings.state_dir or "", "objects").glob("objects/*/*"))


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


class TestBlocks:
    """Of an object that is larger than those that are copied whole."""

    @pytest.fixture(autouse=True)
    def bounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(copied_objects, "COPIED_BYTES", OBJECT_BYTES)
        monkeypatch.setattr(large_objects, "BLOCK_BYTES", BLOCK_BYTES)

    @pytest.fixture
    def by_block(self, stored: Callable[..., StoredLake]) -> Callable[[], StoredLake]:
        return lambda: stored(object_cache_object_bytes=OBJECT_BYTES)

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

    def test_a_byte_that_is_damaged_on_the_way_is_read_again(
        self, by_block: Callable[[], StoredLake], wire: Recorded, tmp_path: Path
    ) -> None:
        lake = by_block()
        large = consolidated(lake, tmp_path)
        content = (tmp_path / "large.parquet").read_bytes()
        tail = ParquetTail(content, large.size)
        ends = [tail.block(n * BLOCK_BYTES, (n + 1) * BLOCK_BYTES).pages[1] for n in range(large.blocks)]

        def damage(body: bytes) -> bytes:
            """Damage the last byte of a block, after the footer has come."""
            places = [body.find(content[end - 16 : end]) for end in ends if len(wire.requests) > 2]
            return flipped(body, max(places) + 15) if max(places, default=-1) >= 0 else body

        wire.requests.clear()
        wire.damage = damage
        assert lake.rows(SUM) == EXPECTED
        assert wire.requests == [large.request] * (2 + large.blocks + 2 + 1)
        assert wire.damage is None, "nothing was damaged"

    @pytest.mark.parametrize("share", [0, 0.2, 0.4, 0.6, 0.8, 0.9, "length"])
    def test_a_tail_that_is_damaged_on_the_way_is_read_again(
        self,
        by_block: Callable[[], StoredLake],
        wire: Recorded,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        share: float | str,
    ) -> None:
        """Wherever it is: no block is made with it, although the checksums of its pages would be right."""
        lake = by_block()
        large = consolidated(lake, tmp_path)
        content = (tmp_path / "large.parquet").read_bytes()
        start = ParquetTail(content, large.size).start
        at = large.size - 6 if isinstance(share, str) else start + int(share * (large.size - start))
        places, get = iter([at]), ObjectRequests._get

        async def damaged(*args: Any) -> obstore.Bytes:
            body = await get(*args)
            place = next(places, None) if len(body) == large.size else None
            return body if place is None else obstore.Bytes(flipped(body.to_bytes(), place))

        monkeypatch.setattr(ObjectRequests, "_get", damaged)
        wire.requests.clear()
        assert lake.rows(SUM) == EXPECTED
        assert next(places, None) is None, "nothing was damaged"
        assert wire.requests == [large.request] * (2 + 2 + large.blocks)
        tail = ParquetTail(content, large.size)
        others = [
            (place, part)
            for n in range(large.blocks)
            for place, part in tail.block(n * BLOCK_BYTES, (n + 1) * BLOCK_BYTES).others
        ]
        kept = [copy.read_bytes() for copy in copies(lake)]
        assert all(any(part == copy[place : place + len(part)] for copy in kept) for place, part in others)

    def test_a_block_with_a_damaged_header_is_removed(self, by_block: Callable[[], StoredLake], tmp_path: Path) -> None:
        """The header of a page has no checksum."""
        lake = by_block()
        large = consolidated(lake, tmp_path, change=with_damaged_header)
        lake.put("other", numbers(0, 0))
        batches = lake.engine.run(lake.prepare(SUM))
        while (batch := batches.next()) is not None:
            assert batch.to_pylist() == EXPECTED
        assert batches.copies == CopyUse(0, large.blocks + PARTITIONS + 1), "also that of both attempts is counted once"
        assert len(copies(lake)) == PARTITIONS + 1, "of small objects"

    def test_a_block_that_cannot_be_removed_costs_time_only(
        self,
        by_block: Callable[[], StoredLake],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def read_only(*_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        lake = by_block()
        large = consolidated(lake, tmp_path, change=with_damaged_header)
        monkeypatch.setattr(Copies, "discard", read_only)
        assert lake.rows(SUM) == EXPECTED
        assert "are not removed: [Errno 30] Read-only file system" in caplog.text
        assert len(copies(lake)) == PARTITIONS + large.blocks

    @pytest.mark.parametrize("sql", ["CAST(concat('an object ', p) AS INT)", "regexp_like(p, concat('Parquet(', p))"])
    def test_a_statement_that_fails_removes_no_block(
        self, by_block: Callable[[], StoredLake], tmp_path: Path, sql: str
    ) -> None:
        lake = by_block()
        large = consolidated(lake, tmp_path)
        assert lake.rows(SUM) == EXPECTED
        before = copies(lake)
        assert len(before) == large.blocks
        with pytest.raises(ExecutionError):
            lake.rows(f"SELECT {sql} FROM {T}")
        assert {*before} <= {*copies(lake)}

    @pytest.mark.parametrize("place", ["page", "footer"])
    def test_what_is_damaged_in_the_store_is_not_kept(
        self,
        by_block: Callable[[], StoredLake],
        wire: Recorded,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        place: str,
    ) -> None:
        def damage(content: bytes) -> bytes:
            return flipped(content, 1_000) if place == "page" else content[:-8] + b"\xff\xff\xff\x7fPAR1"

        lake = by_block()
        large = consolidated(lake, tmp_path, change=damage)
        wire.requests.clear()
        with caplog.at_level(logging.WARNING):
            assert lake.rows(SUM) == EXPECTED
        expected = {"page": "that do not have the checksum", "footer": "whose footer cannot be read"}
        assert expected[place] in caplog.text
        assert sum(request != large.request for request in wire.requests) == PARTITIONS, "from small objects"

    def test_an_object_with_a_bloom_filter_is_read_in_place(
        self,
        by_block: Callable[[], StoredLake],
        wire: Recorded,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is not damaged."""
        lake = by_block()
        large = consolidated(lake, tmp_path)
        monkeypatch.setattr(parquet_blocks, "_BLOOM_FILTER", 9)  # a field that each column has
        wire.requests.clear()
        assert lake.rows(SUM) == EXPECTED
        assert {*wire.requests} == {large.request}, "not from small objects"
        assert copies(lake) == []
        assert f"cannot be made: s3://{BUCKET}/{large.key} has a bloom filter" in caplog.text
        assert "damaged" not in caplog.text

    @pytest.mark.parametrize("what", ["gone", "replaced"])
    def test_an_object_that_is_not_the_event_s_costs_time_only(
        self, by_block: Callable[[], StoredLake], tmp_path: Path, what: str
    ) -> None:
        lake = by_block()
        large = consolidated(lake, tmp_path)
        assert lake.rows(FEW) == EXPECTED_FEW
        if what == "gone":
            obstore.delete(lake._store, large.key)
        else:
            content = obstore.get(lake._store, large.key).bytes().to_bytes()
            obstore.put(lake._store, large.key, flipped(content, 9))

        assert lake.rows(FEW) == EXPECTED_FEW, "its blocks are there"
        assert lake.rows(SUM) == EXPECTED

    def test_an_altered_block_is_fetched_again(
        self, by_block: Callable[[], StoredLake], wire: Recorded, tmp_path: Path
    ) -> None:
        lake = by_block()
        large = consolidated(lake, tmp_path)
        assert lake.rows(SUM) == EXPECTED
        block = copies(lake)[0]
        content = block.read_bytes()
        block.write_bytes(flipped(content, large.size - 20))  # in its footer
        wire.requests.clear()
        assert lake.rows(SUM) == EXPECTED
        assert wire.requests == [large.request]
        assert len(copies(lake)) == large.blocks

    def test_executions_share_blocks(self, by_block: Callable[[], StoredLake], tmp_path: Path) -> None:
        lakes = [by_block(), by_block()]
        large = consolidated(lakes[0], tmp_path)
        lakes[1].snapshot = lakes[0].snapshot

        def answers(number: int) -> list[list[dict[str, Any]]]:
            return [lakes[number % 2].rows(sql) for sql in (FEW, SUM)]

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(answers, range(6))) == [[EXPECTED_FEW, EXPECTED]] * 6
        assert len(copies(lakes[0])) == large.blocks

"""Blocks of large objects that are damaged, altered or of another version."""

import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest

from dagfusion_client.errors import ExecutionError
from dagfusion_query.engine.copy_requests import CopyRequests
from dagfusion_query.object_cache import parquet_blocks
from dagfusion_query.object_cache.copies import Copies, CopyUse
from dagfusion_query.object_cache.parquet_blocks import ParquetTail
from tests.e2e.wire import Recorded
from tests.query.engine.large_lake import (
    BLOCK_BYTES,
    EXPECTED,
    EXPECTED_FEW,
    FEW,
    PARTITIONS,
    by_block,
    consolidated,
    copies,
)
from tests.query.engine.stored_lake import BUCKET, SUM, StoredLake, T, flipped, numbers, server, stored, wire

__all__ = ["by_block", "server", "stored", "wire"]


def with_damaged_header(content: bytes) -> bytes:
    at = content.index(b"\x3c\x15") + 2  # the number of values of the first dictionary
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


def test_a_byte_that_is_damaged_on_the_way_is_read_again(
    by_block: Callable[[], StoredLake], wire: Recorded, tmp_path: Path
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
    places, get = iter([at]), CopyRequests._get

    async def damaged(*args: Any) -> obstore.Bytes:
        body = await get(*args)
        place = next(places, None) if len(body) == large.size else None
        return body if place is None else obstore.Bytes(flipped(body.to_bytes(), place))

    monkeypatch.setattr(CopyRequests, "_get", damaged)
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


def test_a_block_with_a_damaged_header_is_removed(by_block: Callable[[], StoredLake], tmp_path: Path) -> None:
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
def test_a_statement_that_fails_removes_no_block(by_block: Callable[[], StoredLake], tmp_path: Path, sql: str) -> None:
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
    by_block: Callable[[], StoredLake], tmp_path: Path, what: str
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


def test_an_altered_block_is_fetched_again(by_block: Callable[[], StoredLake], wire: Recorded, tmp_path: Path) -> None:
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

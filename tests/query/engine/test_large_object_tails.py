"""Tails of large objects: each byte is fetched twice, and few of them are in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_query.engine import large_object_tails
from dagfusion_query.engine.large_object_tails import RecentTails, Tails, fetch_tail
from dagfusion_query.engine.stored_objects import StoredObject
from dagfusion_query.object_cache.parquet_blocks import ParquetTail, Range
from tests.query.engine.test_object_requests import flipped
from tests.query.object_cache.test_parquet_blocks import FILE
from tests.tiers import examples

SIZE = len(FILE)
TAIL = ParquetTail(FILE, SIZE)


class _Environment:
    environment = "local"


def stored(name: str) -> StoredObject:
    table: Any = _Environment()
    return StoredObject(table, None, f"s3://lake/{name}", SIZE, "etag", None, "", is_large=True)


@settings(max_examples=examples(30), deadline=None)
@given(st.integers(8, SIZE + 10), st.data())
def test_a_tail_needs_two_equal_answers(request_bytes: int, data: st.DataObject) -> None:
    """One of them is damaged anywhere, in the first bytes that are asked for or in the rest."""
    asked: list[Range] = []

    def fetch(damaged: int | None, place: int) -> ParquetTail:
        async def get(part: Range) -> bytes:
            asked.append(part)
            content = FILE[slice(*part)]
            return content if len(asked) - 1 != damaged else flipped(content, place % len(content))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(large_object_tails, "REQUEST_BYTES", request_bytes)
            return asyncio.run(fetch_tail(get, SIZE))

    assert fetch(None, 0).block(4, SIZE) == TAIL.block(4, SIZE)
    assert asked[::2] == asked[1::2]
    requests = len(asked)
    damaged = data.draw(st.integers(0, requests - 1))
    asked.clear()
    with pytest.raises(ValueError, match="differ"):
        fetch(damaged, data.draw(st.integers(0, SIZE)))


class TestInMemory:
    """Tails that are held by an execution, and recent ones."""

    def test_recent_ones_are_bounded_by_bytes(self) -> None:
        recent = RecentTails(3 * TAIL.memory_bytes)
        files = [stored(str(number)) for number in range(5)]
        for file in files:
            recent.add(file, TAIL)
            assert recent.get(files[0]) is TAIL, "it is used"
        assert recent.bytes <= 3 * TAIL.memory_bytes
        assert [recent.get(file) is not None for file in files] == [True, False, False, True, True]
        small = RecentTails(TAIL.memory_bytes - 1)
        small.add(files[0], TAIL)
        assert small.bytes == 0

    @pytest.mark.parametrize("has_room", [True, False])
    def test_one_is_held_from_the_first_block_to_the_last(self, has_room: bool) -> None:  # noqa: FBT001
        fetched: list[str] = []

        async def fetch(file: StoredObject) -> ParquetTail:
            fetched.append(file.uri[-1])
            await asyncio.sleep(0)
            return ParquetTail(FILE, SIZE)

        async def run(files: Sequence[StoredObject]) -> None:
            a, b = files
            tails = Tails(RecentTails(1 << 20 if has_room else 0), fetch, [a, a, b])
            one, other = await asyncio.gather(tails.get(a), tails.get(a))
            assert one is other
            tails.release(a)
            assert await tails.get(a) is one
            assert fetched == ["a"], "that of b is not needed yet"
            tails.release(a)
            assert (await tails.get(a) is one) == has_room, "it is dropped if there is no room"
            tails.forget(a)
            assert await tails.get(a) is not one

        asyncio.run(run([stored("a"), stored("b")]))

"""Tails of large objects: each byte is fetched twice, and few of them are in memory."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_query.engine import large_object_tails
from dagfusion_query.engine.large_object_tails import RecentTails, Tails, fetch_tail
from dagfusion_query.engine.runtime import together
from dagfusion_query.engine.stored_objects import StoredObject
from dagfusion_query.object_cache.parquet_blocks import ParquetTail, Range
from tests.query.engine.stored_lake import flipped
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


class Making:
    """Makes blocks with tails, so many at once, and notes how much memory the tails took."""

    def __init__(self, files: Sequence[StoredObject], limit_tails: float, failing: Sequence[int] = ()) -> None:
        self.tails = Tails(RecentTails(0), self._fetch, files, int(limit_tails * TAIL.memory_bytes))
        self.most, self.made = 0, [False] * len(files)
        self._files, self._failing, self._coming = files, {*failing}, 0

    async def run(self, concurrency: int) -> None:
        async with asyncio.timeout(60):  # or a deadlock would not end
            await together((partial(self._make, number) for number in range(len(self._files))), concurrency)

    async def _make(self, number: int) -> None:
        file = self._files[number]
        while not self.made[number]:
            assert await self.tails.get(file) is TAIL
            await asyncio.sleep(0)
            if number in self._failing:
                self._failing.remove(number)
                self.tails.forget(file)
            else:
                self.tails.release(file)
                self.made[number] = True
            await asyncio.sleep(0)

    async def _fetch(self, _: StoredObject) -> ParquetTail:
        self._coming += 1
        self.most = max(self.most, self.tails.bytes // TAIL.memory_bytes + self._coming)
        await asyncio.sleep(0)
        self._coming -= 1
        return TAIL


@pytest.mark.parametrize(("limit_tails", "most"), [(0, 1), (0.5, 1), (1, 1), (4, 4), (4.5, 4), (100, 8)])
def test_an_execution_holds_few_tails(limit_tails: float, most: int) -> None:
    making = Making([stored(f"{number:02}") for number in range(20) for _ in range(3)], limit_tails)
    asyncio.run(making.run(8))

    assert all(making.made)
    assert 1 < making.most <= most or making.most == most == 1
    assert making.tails.bytes == 0


@settings(max_examples=examples(60), deadline=None)
@given(
    files=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=20),
    is_sorted=st.booleans(),
    limit_tails=st.integers(0, 4),
    concurrency=st.integers(1, 8),
    data=st.data(),
)
def test_all_blocks_are_made_in_any_order(
    files: list[str],
    is_sorted: bool,  # noqa: FBT001  # hypothesis draws it
    limit_tails: int,
    concurrency: int,
    data: st.DataObject,
) -> None:
    failing = data.draw(st.lists(st.integers(0, len(files) - 1), max_size=3))
    making = Making([stored(name) for name in (sorted(files) if is_sorted else files)], limit_tails, failing)
    asyncio.run(making.run(concurrency))

    assert all(making.made)
    assert making.tails.bytes == 0
    assert making.most <= max(limit_tails, 1) or not is_sorted or failing


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

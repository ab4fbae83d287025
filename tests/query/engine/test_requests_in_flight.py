"""Requests for copies while they run: their bytes, and what counts of those that are cancelled."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import obstore
import pytest

from dagfusion_client.errors import StoreUnavailableError
from dagfusion_query.engine.copy_requests import CopyRequests, Missing, RequestTime
from dagfusion_query.engine.runtime import Stores
from dagfusion_query.object_cache.copies import Copies
from dagfusion_query.settings import Settings
from tests.query.engine.conftest import missing


@pytest.mark.parametrize("size_bytes", [1 << 30, 65 << 20, 30 << 20, 1])
@pytest.mark.parametrize("method", [CopyRequests.copy, CopyRequests.fetch])
def test_few_bytes_are_in_flight(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    size_bytes: int,
    method: Callable[..., Coroutine[None, None, object]],
) -> None:
    wanted, in_flight, most, made = missing(*[size_bytes] * 9), 0, 0, list[str]()

    async def whole(_: CopyRequests, one: Missing, __: RequestTime) -> Callable[[], None]:
        nonlocal in_flight, most
        in_flight += one.part.size_bytes
        most = max(most, in_flight)
        await asyncio.sleep(0)
        in_flight -= one.part.size_bytes
        return partial(made.append, one.key)

    monkeypatch.setattr(CopyRequests, "_whole", whole)
    requests = CopyRequests(Stores({}), Copies(tmp_path, 1), 16)
    asyncio.run(method(requests, wanted, RequestTime()))
    assert most <= max(size_bytes, 128 << 20)
    assert sorted(made) == [one.key for one in wanted]


def test_requests_that_are_cancelled_count_with_all_of_their_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spent, begun = RequestTime(), list[str]()

    async def get(_: object, path: str, **__: object) -> None:
        begun.append(path)
        if path == "2":
            raise FileNotFoundError
        await asyncio.Event().wait()

    async def test() -> None:
        requests = CopyRequests(Stores({"local": Settings()}), Copies(tmp_path, 1), 16)
        copying = asyncio.ensure_future(requests.copy(missing(5, 6, 7), spent))
        while len(begun) < 3:  # noqa: ASYNC110  # one step of the loop
            await asyncio.sleep(0)
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        [fetch] = spent.fetches.values()
        assert (fetch.requests, fetch.bytes) == (3, 5 + 6), "what is gone has none"

    monkeypatch.setattr(obstore, "get_async", get)
    asyncio.run(test())


def test_a_store_that_fails_ends_copies_that_have_not_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted, begun, made = missing(*[1] * 9), list[str](), list[str]()

    async def whole(_: object, one: Missing, __: object) -> Callable[[], None]:
        begun.append(one.key)
        if one is wanted[0]:
            raise StoreUnavailableError("it is down")
        for _step in range(9):
            await asyncio.sleep(0)
        return partial(made.append, one.key)

    monkeypatch.setattr(CopyRequests, "_whole", whole)
    requests = CopyRequests(Stores({}), Copies(tmp_path, 1), 3)
    with pytest.raises(StoreUnavailableError, match="it is down"):
        asyncio.run(requests.copy(wanted, RequestTime()))
    assert begun == [one.key for one in wanted[:3]]
    assert sorted(made) == [one.key for one in wanted[1:3]], "cancelled requests would count in full"

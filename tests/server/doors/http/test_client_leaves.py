"""Work for a client that leaves: it is cancelled, and what it gave in that moment is taken back."""

import asyncio

import pytest

from dagfusion_client.errors import QueryCancelledError
from dagfusion_server.doors.http.statement_routes import run_while_connected


async def gives(value: str, *, when_cancelled: bool) -> str:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        if not when_cancelled:
            raise
    return value


@pytest.mark.parametrize(("when_cancelled", "expected"), [(True, ["result"]), (False, [])])
def test_a_result_that_comes_while_its_client_leaves_is_undone(when_cancelled: bool, expected: list[str]) -> None:  # noqa: FBT001
    undone: list[str] = []

    async def undo(value: str) -> None:
        undone.append(value)

    async def test() -> None:
        leaving = asyncio.create_task(asyncio.sleep(0))
        with pytest.raises(QueryCancelledError, match="the client disconnected"):
            await run_while_connected(leaving, gives("result", when_cancelled=when_cancelled), undo)

    asyncio.run(test())
    assert undone == expected


def test_a_request_that_is_cancelled_undoes_its_result_too() -> None:
    undone: list[str] = []

    async def undo(value: str) -> None:
        undone.append(value)

    async def test() -> None:
        leaving = asyncio.create_task(asyncio.sleep(60))
        request = asyncio.create_task(run_while_connected(leaving, gives("result", when_cancelled=True), undo))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        leaving.cancel()

    asyncio.run(test())
    assert undone == ["result"]


def test_work_that_is_done_in_time_is_not_undone() -> None:
    async def undo(_: str) -> None:
        raise AssertionError

    async def test() -> None:
        leaving = asyncio.create_task(asyncio.sleep(60))
        assert await run_while_connected(leaving, asyncio.sleep(0, "result"), undo) == "result"
        leaving.cancel()

    asyncio.run(test())

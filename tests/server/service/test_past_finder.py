"""The past of tables that the event log has none of."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from dagfusion_client.as_of import AsOf
from dagfusion_client.errors import ServiceUnavailableError, UnknownTableError
from dagfusion_client.returned_values import TableGeneration
from dagfusion_contract.naming import TableName
from dagfusion_query.access.grants import ALL
from dagfusion_query.catalog.past_tables import PastTable
from dagfusion_server.service.past_finder import _HISTORY_THREADS, PastFinder
from tests.waiting import PATIENCE_S

STOPPING = (ServiceUnavailableError, "the service is stopping")


class Forgetful:
    """Catalogs that have no table."""

    @contextmanager
    def past(self, *_: object) -> Iterator[list[tuple[str, PastTable]]]:
        yield []


def test_a_table_whose_asset_is_gone_is_unknown() -> None:
    finder = PastFinder(Forgetful())  # type: ignore[arg-type]
    try:
        with pytest.raises(UnknownTableError, match="as of event 7"):
            asyncio.run(finder.table(TableName("uat_a", "b"), 7, ALL))
    finally:
        finder.close()


class Waiting(Forgetful):
    """Catalogs that answer when they are told to."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()

    def revisions(self, *_: object) -> Sequence[TableGeneration]:
        self.began.set()
        assert self.may_end.wait(PATIENCE_S)
        return []


def test_requests_beside_the_end_of_the_service_are_refused() -> None:
    """A history that is being read is read to its end; one that waits, and one that comes later, are refused."""
    waiting = Waiting()
    finder, name = PastFinder(waiting), TableName("uat_a", "b")  # type: ignore[arg-type]

    async def ask() -> None:
        begun = [asyncio.create_task(finder.revisions(name, 1, ALL)) for _ in range(_HISTORY_THREADS + 2)]
        await asyncio.to_thread(waiting.began.wait, PATIENCE_S)
        left = asyncio.create_task(finder.revisions(name, 1, ALL))
        await asyncio.sleep(0)
        left.cancel()
        finder.close()
        waiting.may_end.set()
        ended = await asyncio.gather(*begun, return_exceptions=True)
        assert ended == [[]] * _HISTORY_THREADS + ended[_HISTORY_THREADS:]
        assert {(type(error), str(error)) for error in ended[_HISTORY_THREADS:]} == {STOPPING}
        with pytest.raises(asyncio.CancelledError):
            await left
        for late in (finder.revisions(name, 1, ALL), finder.find("SELECT 1", AsOf(7), ALL)):
            with pytest.raises(ServiceUnavailableError, match="the service is stopping"):
                await late

    asyncio.run(ask())

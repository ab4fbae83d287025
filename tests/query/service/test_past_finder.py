"""The past of tables that the event log has none of."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dagfusion_contract.naming import TableName
from dagfusion_query.access.grants import ALL
from dagfusion_query.catalog.past_tables import PastTable
from dagfusion_query.errors import UnknownTableError
from dagfusion_query.service.past_finder import PastFinder


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

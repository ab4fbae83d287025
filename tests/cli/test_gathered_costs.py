"""The requests of a month, from the history of queries."""

from datetime import UTC, datetime, timedelta

import pytest

from dagfusion_cli.gathered_costs import counted_requests
from dagfusion_client.documents.query_documents import QueryInfo, State, Stats
from dagfusion_client.errors import SettingsError
from dagfusion_query.cost.estimate import MONTH_DAYS


def query(at: datetime, requests: int | None) -> QueryInfo:
    return QueryInfo("q", "ann", "http", "select 1", State.finished, at, Stats(requests=requests))


def test_counted_requests_are_those_of_a_month() -> None:
    now = datetime(2024, 1, 2, tzinfo=UTC)
    history = [query(now - timedelta(days=1), 100), query(now - timedelta(hours=1), 50), query(now, None)]
    assert counted_requests(history, now) == (round(150 * MONTH_DAYS), 2)


@pytest.mark.parametrize("ages_s", [[], [59.0]])
def test_a_history_that_says_nothing_is_told(ages_s: list[float]) -> None:
    now = datetime(2024, 1, 2, tzinfo=UTC)
    with pytest.raises(SettingsError, match="give --requests instead"):
        counted_requests([query(now - timedelta(seconds=age), 1) for age in ages_s], now)

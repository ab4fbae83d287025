"""The physical limit beside the queries: GET of exactly their objects, and the decode of exactly their columns."""

import datetime as dt

import pytest

from benchmarks.conftest import Clock
from benchmarks.dataset import Dataset
from benchmarks.engines.limit import Limit
from benchmarks.workload import DATE_QUERY, FULL_SCAN, POINT, STATE_QUERY, Query, Row
from dagfusion_reference.defs.states import CODES

_COLUMNS = {
    POINT.name: ["npi", "organization_name", "specialty", "provider_count"],
    STATE_QUERY.name: ["provider_count"],
    DATE_QUERY.name: ["provider_count"],
    FULL_SCAN.name: ["specialty", "provider_count"],
}


@pytest.mark.parametrize("query", [POINT, DATE_QUERY, STATE_QUERY, FULL_SCAN], ids=lambda query: query.name)
def test_limit(query: Query, data: Dataset, answers: dict[str, list[Row]], clock: Clock) -> None:
    limit = Limit(data.place)
    partitions = _partitions(query, data)
    assert len(partitions) == data.files(query)
    answer = answers[query.name]
    expected = len(answer) if query is POINT else sum(int(str(organizations)) for _, organizations, _ in answer)
    clock.time(
        lambda: limit.read(partitions, _COLUMNS[query.name]),
        lambda read: read == expected,
        kind="limit",
        engine="GET + decode",
        query=query.name,
    )


def _partitions(query: Query, data: Dataset) -> list[tuple[str, str]]:
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=day) for day in range(data.days)]
    first, last = query.days or (days[0], days[-1])
    return [(state, f"{day}") for state in query.states or CODES for day in days if first <= day <= last]

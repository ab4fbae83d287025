"""The time of checking all partitions of the table, beside the time in which Dagster reads their events."""

import pytest

from benchmarks import checks
from benchmarks.conftest import Clock
from benchmarks.dataset import Dataset


@pytest.mark.parametrize("reader", [checks.OURS, checks.DAGSTERS])
def test_checks(data: Dataset, clock: Clock, reader: str) -> None:
    query = f"{data.partitions:,} partitions"
    if reader == checks.DAGSTERS:
        clock.time(
            lambda: checks.read_by_dagster(data),
            lambda found: found >= data.partitions,  # and partitions that were wiped since
            kind="checks",
            engine=reader,
            query=query,
        )
        return
    with checks.checks(data) as check:
        clock.time(
            check, lambda found: checks.are_right(found, data.partitions), kind="checks", engine=reader, query=query
        )

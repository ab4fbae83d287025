"""The benchmark of checks: its answers, and that checking costs less than what Dagster needs to read the events."""

import time
from collections.abc import Callable

import pytest

from benchmarks import checks
from benchmarks.dataset import Dataset

TURNS = 3


def cpu_s(function: Callable[[], object]) -> float:
    """Return the CPU time of this process in a call."""
    started = time.process_time()
    function()
    return time.process_time() - started


@pytest.mark.embedded
def test_checking_all_partitions_costs_less_than_reading_their_events_with_dagster(data: Dataset) -> None:
    """Of 1,500 partitions it costs a quarter of that, and the more partitions, the less."""
    with checks.checks(data) as check:
        assert checks.are_right(check(), data.partitions)
        ours = min(cpu_s(check) for _ in range(TURNS))
    assert checks.read_by_dagster(data) >= data.partitions
    theirs = min(cpu_s(lambda: checks.read_by_dagster(data)) for _ in range(TURNS))
    assert ours < theirs

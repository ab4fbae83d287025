"""Which engines see, in a session that they had already, a partition that was written a second ago."""

import contextlib
import time

import pytest

from benchmarks.conftest import Findings
from benchmarks.dataset import Dataset
from benchmarks.engines import dagfusion
from benchmarks.engines.registry import ENGINES
from benchmarks.workload import COUNT, rows


@pytest.mark.usefixtures("ducklake")
def test_freshness(data: Dataset, findings: Findings) -> None:
    with contextlib.ExitStack() as stack:
        sessions = {engine.name: stack.enter_context(contextlib.closing(engine.open(data.place))) for engine in ENGINES}
        before = {name: rows(session.run(COUNT)) for name, session in sessions.items()}
        assert len({str(answer) for answer in before.values()}) == 1
        with data.one_more_day():
            time.sleep(1)
            # DagFusion first: the others may take seconds each, and its time is the one that is claimed.
            fresh = {name: rows(session.run(COUNT)) != before[name] for name, session in sessions.items()}
    findings["fresh"] = fresh
    assert fresh[dagfusion.ENGINE.name]

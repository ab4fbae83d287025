"""Which engines see, in a session that they had already, a partition that was written a second ago."""

import contextlib
import time

import pytest

from benchmarks.conftest import Findings
from benchmarks.dataset import Dataset
from benchmarks.engines import dagfusion
from benchmarks.engines.registry import ENGINES
from benchmarks.workload import point


@pytest.mark.usefixtures("ducklake")
def test_freshness(data: Dataset, findings: Findings) -> None:
    query = point(*data.missing_partition())
    with contextlib.ExitStack() as stack:
        sessions = {engine.name: stack.enter_context(contextlib.closing(engine.open(data.place))) for engine in ENGINES}
        assert [len(session.run(query)) for session in sessions.values()] == [0] * len(ENGINES)
        with data.one_more_partition():
            time.sleep(1)
            # In the order of ENGINES, DagFusion first: the others may take seconds, and its second is the claim.
            fresh = {name: len(session.run(query)) > 0 for name, session in sessions.items()}
    findings["fresh"] = fresh
    assert fresh[dagfusion.ENGINE.name]

"""Tests that share servers run in one process, and all others file by file."""

import pytest

from tests.workers import work_of


@pytest.mark.parametrize(
    ("nodeid", "work"),
    [
        ("tests/e2e/test_flow.py::test_join[embedded]", "filled-embedded"),
        ("tests/e2e/test_service.py::test_documented[containers-point-http]", "filled-containers"),
        ("tests/e2e/test_flow.py::test_aggregates[select 1-embedded]", "filled-embedded"),
        ("tests/e2e/test_changes.py::test_deleted[containers]", "own-containers"),
        ("tests/e2e/test_doctor.py::test_fault[containers-clock]", "tests/e2e/test_doctor.py"),
        ("tests/e2e/test_consolidation.py::test_damage[sqlite-none-gone]", "tests/e2e/test_consolidation.py"),
        ("tests/doctest/test_blocks.py::test_blocks_run[docs/how-to/cost.md]", "documents"),
        ("tests/doctest/test_examples.py::test_cells", "documents"),
        (
            "tests/doctest/test_troubleshooting.py::test_every_error_is_named[a]",
            "tests/doctest/test_troubleshooting.py",
        ),
        ("tests/server/doors/test_behaviour.py::test_rows[embedded-SELECT 1]", "tests/server/doors/test_behaviour.py"),
    ],
)
def test_what_one_worker_gets(nodeid: str, work: str) -> None:
    assert work_of(nodeid) == work

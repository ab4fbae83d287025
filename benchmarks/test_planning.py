"""Planning time against the number of partitions, from the statement's text to the plan over its files."""

from collections.abc import Iterator

import pytest

from benchmarks.conftest import Clock
from benchmarks.planning import STATEMENTS, Planner, planner
from dagfusion_reference.defs.states import CODES

SIZES = (100, 1_000, 10_000, 18_250, 100_000, 1_000_000)


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"{size:_}")
def planning(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Planner]:
    size: int = request.param
    if size == max(SIZES) and not pytestconfig.getoption("--million"):
        pytest.skip("asked for by --million")
    with planner(size) as made:
        yield made


@pytest.mark.parametrize("statement", STATEMENTS)
def test_planning(planning: Planner, statement: str, clock: Clock) -> None:
    total = len(next(iter(planning.snapshot.tables.values())).files)
    kept = {"point": 1, "state": total // len(CODES), "everything": total}[statement]
    clock.time(
        lambda: planning.plan(statement),
        lambda planned: [scan.count for scan in planned.scans] == [kept],
        kind="planning",
        query=statement,
        partitions=total,
    )

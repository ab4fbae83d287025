"""Measure what the gate compares.

    python -m benchmarks.regression             compare with benchmarks/baseline.json; exit code 1 when it is worse
    python -m benchmarks.regression --update    make this run the baseline

DAGFUSION_BENCH_HOME names the folder that keeps the data from one run to the next.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import dataset, gate, synthetic
from benchmarks.counters import count
from benchmarks.dataset import Dataset
from benchmarks.planning import best_s, calls, planner, yardstick
from benchmarks.wire import metered
from benchmarks.workload import QUERIES

DAYS = 30
WORK_TOLERANCE, TIME_TOLERANCE = 1.25, 2.5
PLANNED_PARTITIONS = 18_250
_PLANS = {"plan of 1 file": "point", "plan of 365 files": "state", "plan of 18,250 files": "everything"}
_YARDSTICK = "yardstick"
_TURNS, _TURN_S = 6, 0.25


def measure(data: Dataset) -> gate.Measured:
    """Count what every query reads, and measure planning, which reads nothing."""
    with metered(data.place.endpoint) as meter:
        counters = {query.name: count(data, meter, query) for query in QUERIES}
    return gate.Measured(data.days, counters, planning_work(), planning_ratios())


def planning_work() -> Mapping[str, int]:
    """Count the Python calls of plans over 18,250 partitions."""
    snapshot = synthetic.snapshot(PLANNED_PARTITIONS)
    return {plan: calls(snapshot, statement) for plan, statement in _PLANS.items()}


def planning_ratios() -> Mapping[str, float]:
    """Time plans over 18,250 partitions, by the time that DataFusion takes to plan over a table in memory."""
    with planner(PLANNED_PARTITIONS) as over:
        plans: dict[str, Callable[[], object]] = {
            plan: partial(over.plan, statement) for plan, statement in _PLANS.items()
        }
        plans[_YARDSTICK] = yardstick()
        times: dict[str, list[float]] = {name: [] for name in plans}
        for _ in range(_TURNS):  # in turns, so that a busy moment of the machine is nobody's alone
            for name, plan in plans.items():
                times[name].append(best_s(plan, _TURN_S))
    best = {name: min(measured) for name, measured in times.items()}
    return {plan: best[plan] / best[_YARDSTICK] for plan in _PLANS}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regression", description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="make this run the baseline")
    update = parser.parse_args().update
    with tempfile.TemporaryDirectory() as folder:
        home = Path(os.environ.get("DAGFUSION_BENCH_HOME", folder))
        with dataset.running(home / f"{DAYS}x50", DAYS, print) as data:
            measured = measure(data)
    if update:
        gate.save(gate.Baseline(measured, WORK_TOLERANCE, TIME_TOLERANCE))
        return 0
    worse = gate.compare(measured, gate.load())
    print("\n".join(worse) or "no counter differs, and no ratio is worse than the baseline")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure what the gate compares.

    python -m benchmarks.regression             compare with benchmarks/baseline.json; exit code 1 when it is worse
    python -m benchmarks.regression --update    make this run the baseline

The data is made each time, so that what the pipeline writes now is what is counted.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks import dataset, gate, planning
from benchmarks.counters import count
from benchmarks.dataset import Dataset
from benchmarks.wire import metered
from benchmarks.workload import QUERIES

DAYS = 30
WORK_TOLERANCE, TIME_TOLERANCE = 1.25, 2.5


def measure(data: Dataset) -> gate.Measured:
    """Count what every query reads, and measure planning, which reads nothing."""
    with metered(data.place.endpoint) as meter:
        counters = {query.name: count(data, meter, query) for query in QUERIES}
    # In a new process: what this one has allocated before decides whether a plan's buffers are new pages.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        ratios = process.submit(planning.ratios).result()
    return gate.Measured(data.days, counters, planning.work(), ratios)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regression", description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="make this run the baseline")
    update = parser.parse_args().update
    with (
        tempfile.TemporaryDirectory(prefix="dagfusion-bench-", ignore_cleanup_errors=True) as folder,
        dataset.running(Path(folder), DAYS, print) as data,
    ):
        measured = measure(data)
    if update:
        gate.save(gate.Baseline(measured, WORK_TOLERANCE, TIME_TOLERANCE))
        return 0
    worse = gate.compare(measured, gate.load())
    print("\n".join(worse) or "no counter differs, and no ratio is worse than the baseline")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())

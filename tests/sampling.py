"""CI runs a sample of what is slow: of each test that starts processes, a quarter of its parameter sets, and a quarter
of the tests that ask for the fixture `long`.

The tests of a file whose servers cost more than its tests are run together: a quarter of the commits draw the file, and
for the others it is skipped. No commit draws two such files, which would make its run much longer than others.
`DAGFUSION_SAMPLE`, which is the commit in CI, decides what is drawn: each commit draws other sets, and the variable of
a run that failed repeats it. A session without the variable runs everything.
"""

import math
import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from random import Random

import pytest

from tests.tiers import ALONE, FAST, LONG

SAMPLE = "DAGFUSION_SAMPLE"
SHARE = 4
WHOLE = "tests/doctest/"  # each document is a parameter set, and the cost is that of the servers that all of them use
TOGETHER = ("tests/deploy/test_compose_up.py", "tests/query/spark/test_sail.py")  # fewer than `SHARE`


def sampled(nodeids: Iterable[str], sample: str, long: Collection[str] = ()) -> set[str]:
    """Return a quarter of the parameter sets of each test, and at least one; long tests count as sets of one test."""
    sets: defaultdict[str, list[str]] = defaultdict(list)
    for nodeid in nodeids:
        sets[LONG if nodeid in long else nodeid.partition("[")[0]].append(nodeid)
    return {
        nodeid
        for test, of_test in sets.items()
        for nodeid in Random(f"{sample} {test}").sample(sorted(of_test), math.ceil(len(of_test) / SHARE))  # noqa: S311
    }


def is_drawn(file: str, sample: str) -> bool:
    """Return True if the tests of a file in `TOGETHER` are run for this commit, as for a quarter of all commits."""
    return Random(sample).randrange(SHARE) == TOGETHER.index(file)  # noqa: S311


def file_of(nodeid: str) -> str:
    """Return the file that a test is in."""
    return nodeid.partition("::")[0]


def is_slow(item: pytest.Item) -> bool:
    """Return True for a test that starts processes; those that run alone measure, and are few."""
    marks = {mark.name for mark in item.iter_markers()}
    is_whole = item.nodeid.startswith(WHOLE) or file_of(item.nodeid) in TOGETHER
    return not marks & {FAST, ALONE} and not is_whole


def pytest_report_header() -> list[str]:
    sample = os.environ.get(SAMPLE)
    return [f"sample: {SAMPLE}={sample}"] if sample else []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    sample = os.environ.get(SAMPLE)
    if not sample:
        return
    for item in items:
        file = file_of(item.nodeid)
        if file in TOGETHER and not is_drawn(file, sample):
            item.add_marker(pytest.mark.skip(f"{SAMPLE}={sample} does not draw {file}: a quarter of the commits do"))
    slow = {item.nodeid for item in items if is_slow(item)}
    long = {item.nodeid for item in items if LONG in getattr(item, "fixturenames", ())}
    left_out = slow - sampled(slow, sample, long)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]

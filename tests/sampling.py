"""CI runs a sample of what is slow.

Of each test that starts processes it runs a quarter of the parameter sets, and of the tests that ask for the fixture
`long` a quarter. Of what is so drawn it runs half of the tests of each file that open a browser.

The slow tests of a file are run together if what they prepare, such as servers, images or environments, costs more than
the tests do: a quarter of the commits draw the file, and for the others they are skipped. Commits draw such files by
turns, so that no run is much longer than others.

`DAGFUSION_SAMPLE`, which is the commit in CI, decides what is drawn: each commit draws other sets, and the variable of
a run that failed repeats it. A session without the variable runs everything.
"""

import math
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from random import Random

import pytest

from tests.tiers import ALONE, BROWSER, FAST, LONG

SAMPLE = "DAGFUSION_SAMPLE"
SHARE = 4
BROWSER_SHARE = 2
WHOLE = "tests/doctest/"  # each document is a parameter set, and the cost is that of the servers that all of them use
# The files whose slow tests are run together, with the turn of each: commits have turns from 0 to `SHARE` - 1. Files of
# one turn cost together about as much as those of another.
TOGETHER = {
    "tests/deploy/test_compose_up.py": 0,
    "tests/interop/spark/test_sail.py": 1,
    "tests/server/doors/console/test_build.py": 2,
    "tests/wheels/test_wheels.py": 2,
}


def sampled(nodeids: Iterable[str], sample: str, long: Collection[str] = (), browser: Collection[str] = ()) -> set[str]:
    """Return the sample of some tests.

    Args:
        nodeids: Of slow tests.
        sample: What decides.
        long: Those that count as parameter sets of one test.
        browser: Those of which half is left out, after the parameter sets are drawn.
    """
    drawn = draw(nodeids, lambda nodeid: LONG if nodeid in long else nodeid.partition("[")[0], SHARE, sample)
    pages = drawn.intersection(browser)
    return drawn - pages | draw(pages, file_of, BROWSER_SHARE, sample)


def draw(nodeids: Iterable[str], set_of: Callable[[str], str], share: int, sample: str) -> set[str]:
    """Return one of so many tests of each set, and at least one of each."""
    sets: defaultdict[str, list[str]] = defaultdict(list)
    for nodeid in nodeids:
        sets[set_of(nodeid)].append(nodeid)
    return {
        nodeid
        for name, tests in sets.items()
        for nodeid in Random(f"{sample} {name}").sample(sorted(tests), math.ceil(len(tests) / share))  # noqa: S311
    }


def is_drawn(file: str, sample: str) -> bool:
    """Return True if this commit draws a file of `TOGETHER`, as a quarter of all commits do."""
    return Random(sample).randrange(SHARE) == TOGETHER[file]  # noqa: S311


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
        if file in TOGETHER and not item.get_closest_marker(FAST) and not is_drawn(file, sample):
            item.add_marker(pytest.mark.skip(f"{SAMPLE}={sample} does not draw {file}: a quarter of the commits do"))
    slow = {item.nodeid for item in items if is_slow(item)}
    long = {item.nodeid for item in items if LONG in getattr(item, "fixturenames", ())}
    browser = {item.nodeid for item in items if item.get_closest_marker(BROWSER)}
    left_out = slow - sampled(slow, sample, long, browser)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]

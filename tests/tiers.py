"""The tier of a test follows from its fixtures: `pytest -m fast` selects one tier, and no test is marked by hand.

    browser   the test uses a browser, or Node
    e2e       the test uses the fixture `end_to_end`, as all of tests/e2e do
    unit      the test starts processes, or uses the fixture `heavy`, `long` or `alone`
    fast      the rest

A test that needs more than a tenth of a second of CPU asks for `heavy`. One that needs more than 12 seconds, and shares
nothing costly with other tests, asks for `long`: CI draws a sample of these. A session of fast tests alone, as of `tox
-e fast`, draws a tenth of the examples of properties (`examples`), CI three tenths, and every other session all. It
imports no file that asks for these fixtures by `pytestmark`, because none of its tests is fast.

A test or fixture that starts a process asks for the fixture `processes`. A session of fast tests alone fails where a
test starts a process and does not ask. A test that asks for `alone` decides by time or by work, so nothing else may run
beside it: such tests run without pytest-xdist, by `tox -e alone`.
"""

import gc
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ALONE, BROWSER, FAST, LONG = "alone", "browser", "fast", "long"
TIERS = {BROWSER: {"browser", "node"}, "e2e": {"end_to_end"}, "unit": {"processes", "heavy", LONG, "alone"}}
STARTS = {"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"}
PLATFORM = "file"  # the program that `platform.architecture` runs, which the first import of Dagster calls
WHOLE = 100  # the examples of a property that names no number
FOLDER = Path(__file__).parent
SLOWER = "|".join(sorted(set().union(*TIERS.values())))
NONE_FAST = re.compile(rf'^pytestmark = .*usefixtures\(.*"({SLOWER})"', re.MULTILINE)
END_TO_END = FOLDER / "e2e"  # all of its tests use the fixture `end_to_end`


def examples(count: int) -> int:
    """Return how many examples a property draws, of those that it draws outside of the tier `fast`."""
    return max(1, count * hypothesis.settings().max_examples // WHOLE)


def tier_of(fixtures: Iterable[str]) -> str:
    """Return the tier of a test that uses these fixtures."""
    used = set(fixtures)
    return next((tier for tier, names in TIERS.items() if used & names), FAST)


class Guard:
    """An audit hook that lets a session of fast tests start no process; Python has no way to remove such a hook."""

    def __init__(self) -> None:
        self.is_closed = False
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTS and self.is_closed and arguments[:1] != (PLATFORM,):
            pytest.fail(f"a fast test starts a process, {event}{arguments[:2]}: let it ask for the fixture `processes`")


GUARD = Guard()


@pytest.fixture(scope="session")
def processes() -> None:
    """Asked for by whatever starts a process."""
    if GUARD.is_closed:
        pytest.fail("a fast test gets `processes` by `getfixturevalue`: let it ask for it by an argument")


@pytest.fixture(scope="session")
def heavy() -> None:
    """Asked for by tests that need more than a tenth of a second of CPU."""


@pytest.fixture(scope="session")
def long() -> None:
    """Asked for by tests that need more than 12 seconds of CPU for themselves."""


@pytest.fixture(scope="session")
def alone() -> None:
    """Asked for by tests beside which nothing else may run."""


def pytest_configure(config: pytest.Config) -> None:
    for tier in (FAST, *TIERS):
        config.addinivalue_line("markers", f"{tier}: a tier of tests, which follows from fixtures: see tests/tiers.py")
    config.addinivalue_line("markers", f"{ALONE}: nothing else may run beside it; follows from the fixture `{ALONE}`")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what a session of fast tests would import in vain, which can take longer than its tests."""
    if config.option.markexpr != FAST:
        return None
    is_slow = collection_path.match("test_*.py") and NONE_FAST.search(collection_path.read_text())
    return True if is_slow or collection_path == END_TO_END else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    gc.disable()  # what is imported and collected stays to the end: to look for garbage in it takes a fifth of the time


@pytest.hookimpl(tryfirst=True)  # before pytest selects by mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER not in item.path.parents:
            continue  # a benchmark
        fixtures = getattr(item, "fixturenames", ())
        item.add_marker(tier_of(fixtures))
        if ALONE in fixtures:
            item.add_marker(ALONE)


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    gc.enable()
    GUARD.is_closed = bool(session.items) and all(item.get_closest_marker(FAST) for item in session.items)


def pytest_sessionfinish() -> None:
    GUARD.is_closed = False

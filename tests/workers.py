"""What each worker of pytest-xdist gets, with `--dist loadgroup`: whole files, and groups that share servers."""

import re
from collections import Counter
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

from tests.tiers import FAST

SLOW = "slow"
COSTS = {SLOW: 200, FAST: 1}  # roughly, where any other test costs 20
COST = 20
# What shares servers, by the name of its group: the documents, and tests of tests/e2e that read one filled deployment
# or fill their own. pytest-xdist 3.8 has marks for groups, which pytest 9.2 does not let it use: it changes
# `_nodeid` of an item, and the name comes from elsewhere now.
GROUPS = {
    "documents": re.compile(r"tests/doctest/test_(blocks|examples)\.py::"),
    "filled": re.compile(r"tests/e2e/test_(flow|service|service_secrets)\.py::.*(?P<provider>embedded|containers)\b"),
    "own": re.compile(
        r"tests/e2e/test_(changes|checkpoint|secrets|sql_asset)\.py::.*(?P<provider>embedded|containers)\b"
    ),
}


class FilesAndGroups(LoadGroupScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps files and groups together."""

    def _split_scope(self, nodeid: str) -> str:
        return work_of(nodeid)


@pytest.hookimpl(optionalhook=True)  # for sessions with `-p no:xdist`
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    return FilesAndGroups(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files and groups that take longest, because they are handed out in order."""
    if not hasattr(config, "workerinput"):
        return
    costs: Counter[object] = Counter()
    for item in items:
        costs[work_of(item.nodeid)] += next(
            (cost for mark, cost in COSTS.items() if item.get_closest_marker(mark)), COST
        )
    items.sort(key=lambda item: -costs[work_of(item.nodeid)])


def work_of(nodeid: str) -> str:
    """Return the group or the file of a test, all of which one worker gets."""
    for name, group in GROUPS.items():
        if found := group.match(nodeid):
            return "-".join([name, *filter(None, [found.groupdict().get("provider")])])
    return nodeid.partition("::")[0]

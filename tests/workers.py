"""What each worker of pytest-xdist gets, with `--dist loadgroup`: whole files, and the tests of one `xdist_group`."""

from collections import Counter
from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling

from tests.tiers import FAST

SLOW = "slow"
COSTS = {SLOW: 200, FAST: 1}  # roughly, where any other test costs 20
COST = 20


class FilesAndGroups(LoadGroupScheduling):  # type: ignore[misc]  # xdist has no types
    """Keeps files together, which xdist's own scheduler of groups does not."""

    def _split_scope(self, nodeid: str) -> str:
        group: str = super()._split_scope(nodeid)
        return nodeid.partition("::")[0] if group == nodeid else group


@pytest.hookimpl(optionalhook=True)  # for sessions with `-p no:xdist`
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    return FilesAndGroups(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files and groups that take longest, because they are handed out in order."""
    if not hasattr(config, "workerinput"):
        return
    costs: Counter[object] = Counter()
    for item in items:
        costs[_work_of(item)] += next((cost for mark, cost in COSTS.items() if item.get_closest_marker(mark)), COST)
    items.sort(key=lambda item: -costs[_work_of(item)])


def _work_of(item: pytest.Item) -> object:
    group = item.get_closest_marker("xdist_group")
    return group.args[0] if group else item.path

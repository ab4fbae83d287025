"""CI runs a quarter of the parameter sets of slow tests, a quarter of long tests, and half of those in a browser."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests import sampling
from tests.sampling import SAMPLE, SHARE, TOGETHER, is_drawn, sampled

TESTS = [
    *(f"tests/e2e/test_doctor.py::test_fault[{number}]" for number in range(16)),
    "tests/e2e/test_flow.py::test_join[embedded]",
    "tests/e2e/test_flow.py::test_join[containers]",
    "tests/e2e/test_flow.py::test_once",
]


def test_a_quarter_of_each_test_is_drawn_and_at_least_one_set() -> None:
    drawn = sampled(TESTS, "commit")
    assert sum("test_fault" in nodeid for nodeid in drawn) == 4
    assert sum("test_join" in nodeid for nodeid in drawn) == 1
    assert TESTS[-1] in drawn
    assert drawn <= set(TESTS)


def test_a_quarter_of_the_long_tests_is_drawn() -> None:
    long = [f"tests/e2e/test_long_{number}.py::test_once" for number in range(12)]
    drawn = sampled([*TESTS, *long], "commit", long)
    assert len(drawn & set(long)) == 3
    assert drawn - set(long) == sampled(TESTS, "commit")


def test_half_of_the_tests_of_a_browser_are_drawn_from_each_file() -> None:
    files = {f"tests/server/doors/console/test_{name}.py": count for name, count in [("rows", 8), ("frame", 3)]}
    browser = [f"{file}::test_{number}" for file, count in files.items() for number in range(count)]
    drawn = sampled([*TESTS, *browser], "commit", browser=browser)
    assert [sum(nodeid.startswith(file) for nodeid in drawn) for file in files] == [4, 2]
    assert drawn - set(browser) == sampled(TESTS, "commit")


def test_a_commit_always_draws_the_same() -> None:
    assert sampled(TESTS, "commit") == sampled(reversed(TESTS), "commit")


def test_every_set_has_its_turn() -> None:
    assert set().union(*(sampled(TESTS, str(commit)) for commit in range(30))) == set(TESTS)


@pytest.mark.parametrize("file", TOGETHER)
def test_every_fourth_commit_draws_a_file(root: Path, file: str) -> None:
    assert (root / file).is_file()
    assert 55 <= sum(is_drawn(file, f"commit {number}") for number in range(300)) <= 95


def test_each_commit_has_one_turn() -> None:
    for number in range(100):
        drawn = {file for file in TOGETHER if is_drawn(file, f"commit {number}")}
        turns = {TOGETHER[file] for file in drawn}
        assert len(turns) <= 1
        assert drawn == {file for file, turn in TOGETHER.items() if turn in turns}
    assert set(TOGETHER.values()) <= set(range(SHARE))


@pytest.mark.parametrize("file", TOGETHER)
@pytest.mark.parametrize("drawn", [True, False, None])
def test_the_tests_of_a_file_run_together_or_are_skipped(
    monkeypatch: pytest.MonkeyPatch, file: str, *, drawn: bool | None
) -> None:
    commit = next((str(n) for n in range(100) if is_drawn(file, str(n)) == drawn), "")
    monkeypatch.setenv(SAMPLE, commit)
    items = [Item(f"{file}::test_query[{number}]") for number in range(9)]
    fast = Item(f"{file}::test_fast")
    fast.add_marker(pytest.mark.fast)
    kept = cast("list[pytest.Item]", [*items, fast])
    hook = SimpleNamespace(pytest_deselected=lambda items: None)  # noqa: ARG005
    sampling.pytest_collection_modifyitems(cast("Any", SimpleNamespace(hook=hook)), kept)
    assert [item.nodeid for item in kept] == [item.nodeid for item in (*items, fast)]
    assert [mark.name for mark in fast.marks] == ["fast"]
    reasons = [mark.args[0] for item in items for mark in item.marks]
    assert len(reasons) == (9 if drawn is False else 0)
    assert all(f"{SAMPLE}={commit}" in reason and file in reason for reason in reasons)


class Item:
    """A test that starts processes."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid
        self.marks = list[pytest.Mark]()

    def iter_markers(self) -> list[pytest.Mark]:
        return self.marks

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self.marks if mark.name == name), None)

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.marks.append(marker.mark)

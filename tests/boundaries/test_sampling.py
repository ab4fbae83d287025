"""Of each slow test, CI runs a quarter of the parameter sets, and of long tests a quarter; each commit draws others."""

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


def test_a_commit_always_draws_the_same() -> None:
    assert sampled(TESTS, "commit") == sampled(reversed(TESTS), "commit")


def test_every_set_has_its_turn() -> None:
    assert set().union(*(sampled(TESTS, str(commit)) for commit in range(30))) == set(TESTS)


@pytest.mark.parametrize("file", TOGETHER)
def test_every_fourth_commit_draws_a_file(root: Path, file: str) -> None:
    assert (root / file).is_file()
    assert 55 <= sum(is_drawn(file, f"commit {number}") for number in range(300)) <= 95


def test_no_commit_draws_two_files() -> None:
    drawn = [sum(is_drawn(file, f"commit {number}") for file in TOGETHER) for number in range(100)]
    assert set(drawn) == {0, 1}
    assert len(TOGETHER) < SHARE


@pytest.mark.parametrize("file", TOGETHER)
@pytest.mark.parametrize("drawn", [True, False, None])
def test_the_tests_of_a_file_run_together_or_are_skipped(
    monkeypatch: pytest.MonkeyPatch, file: str, *, drawn: bool | None
) -> None:
    commit = next((str(n) for n in range(100) if is_drawn(file, str(n)) == drawn), "")
    monkeypatch.setenv(SAMPLE, commit)
    items = [Item(f"{file}::test_query[{number}]") for number in range(9)]
    kept = cast("list[pytest.Item]", list(items))
    hook = SimpleNamespace(pytest_deselected=lambda items: None)  # noqa: ARG005
    sampling.pytest_collection_modifyitems(cast("Any", SimpleNamespace(hook=hook)), kept)
    assert [item.nodeid for item in kept] == [item.nodeid for item in items]
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

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.marks.append(marker.mark)

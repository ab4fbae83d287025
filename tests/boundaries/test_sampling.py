"""Of each slow test, CI runs a third of the parameter sets, and of long tests a third; each commit draws others."""

from tests.sampling import sampled

TESTS = [
    *(f"tests/e2e/test_doctor.py::test_fault[{number}]" for number in range(15)),
    "tests/e2e/test_flow.py::test_join[embedded]",
    "tests/e2e/test_flow.py::test_join[containers]",
    "tests/e2e/test_flow.py::test_once",
]


def test_a_third_of_each_test_is_drawn_and_at_least_one_set() -> None:
    drawn = sampled(TESTS, "commit")
    assert sum("test_fault" in nodeid for nodeid in drawn) == 5
    assert sum("test_join" in nodeid for nodeid in drawn) == 1
    assert TESTS[-1] in drawn
    assert drawn <= set(TESTS)


def test_a_third_of_the_long_tests_is_drawn() -> None:
    long = [f"tests/e2e/test_long_{number}.py::test_once" for number in range(12)]
    drawn = sampled([*TESTS, *long], "commit", long)
    assert len(drawn & set(long)) == 4
    assert drawn - set(long) == sampled(TESTS, "commit")


def test_a_commit_always_draws_the_same() -> None:
    assert sampled(TESTS, "commit") == sampled(reversed(TESTS), "commit")


def test_every_set_has_its_turn() -> None:
    assert set().union(*(sampled(TESTS, str(commit)) for commit in range(30))) == set(TESTS)

"""The table of times of the two engines."""

from benchmarks.distributed import Pair, report


def test_ratios_are_to_the_times_that_were_taken_in_turns() -> None:
    times = {1: {1: Pair(1.0, 2.0), 3: Pair(0.5, 4.0)}, 2: {1: Pair(3.0, 3.0), 3: Pair(0.5, 2.0), 4: Pair(1.0, 2.0)}}
    lines = report(times).splitlines()
    assert lines[0] == "| statement | local | Sail, 1 worker | Sail, 2 workers |"
    assert lines[2:] == [
        "| Q1 | 2.0 s | 2.0 s | 3.0 s |",
        "| Q3 | 500 ms | 4.0 s | 2.0 s |",
        "| Q4 | 1.0 s | failed | 2.0 s |",
        "| sum of 2 | 2.5 s | 6.0 s | 5.0 s |",
        "| ratio to local | 1.0 | 4.0 | 2.0 |",
    ]

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_reference.defs.draws import Draws, rows_of, seed_of, seeds_of

ROWS = 100_000


def many() -> Draws:
    return Draws(rows_of(seeds_of([(7, "test")]), np.array([ROWS]))[0])


def test_a_seed_is_the_same_on_every_machine() -> None:
    assert seed_of(7, "partitioned_orders", "2024-01-15", "CA") == 2713836576796740816


def test_keys_are_those_of_splitmix64() -> None:
    keys, place = rows_of(np.array([0, 0], dtype=np.uint64), np.array([3, 1]))
    assert place.tolist() == [0, 1, 2, 0]
    assert [hex(key) for key in keys[:3]] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


@given(st.lists(st.tuples(st.text(), st.integers(0, 20)), min_size=1, max_size=20))
def test_a_partition_draws_the_same_beside_any_others(partitions: list[tuple[str, int]]) -> None:
    seeds, counts = seeds_of([(name,) for name, _ in partitions]), np.array([rows for _, rows in partitions])
    together = Draws(rows_of(seeds, counts)[0]).uniform("column")
    alone = [Draws(rows_of(seeds[i : i + 1], counts[i : i + 1])[0]).uniform("column") for i in range(len(counts))]
    assert np.array_equal(together, np.concatenate(alone))


def test_draws_are_uniform_and_columns_are_independent() -> None:
    first, second = many().uniform("first"), many().uniform("second")
    assert 0 <= first.min() < first.max() < 1
    assert abs(np.histogram(first, 20, (0, 1))[0] / ROWS - 0.05).max() < 0.004
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.01


def test_normal_draws_are_normal() -> None:
    drawn = many().normal("n")
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.02
    assert np.isfinite(drawn).all()


def test_choices_follow_their_weights() -> None:
    shares = np.bincount(many().choice("c", (1, 0, 2, 7)), minlength=4) / ROWS
    assert shares[1] == 0
    assert abs(shares - np.array([0.1, 0, 0.2, 0.7])).max() < 0.01


def test_integers_stay_in_their_range() -> None:
    assert set(many().integers("i", 3, 6)) == {3, 4, 5}

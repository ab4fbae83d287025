import threading
from collections.abc import Generator

import pytest

from dagfusion_query.event_log.postgres_connection import prefetched


def test_items_come_in_order() -> None:
    assert list(prefetched((n for n in range(100)), 7)) == list(range(100))


def test_items_are_fetched_while_one_is_worked_on() -> None:
    fetched = threading.Semaphore(0)

    def items() -> Generator[int]:
        for number in range(4):
            fetched.release()
            yield number

    taken = prefetched(items(), 3)
    assert next(taken) == 0
    for _ in range(4):
        assert fetched.acquire(timeout=30)
    assert list(taken) == [1, 2, 3]


def test_an_error_comes_after_what_was_fetched_before_it() -> None:
    def items() -> Generator[int]:
        yield 1
        raise OSError("gone")

    taken = prefetched(items(), 5)
    assert next(taken) == 1
    with pytest.raises(OSError, match="gone"):
        next(taken)


def test_who_wants_no_more_ends_the_fetching() -> None:
    closed = threading.Event()

    def items() -> Generator[int]:
        try:
            yield from range(1_000_000)
        finally:
            closed.set()

    taken = prefetched(items(), 2)
    assert next(taken) == 0
    before = threading.active_count()
    taken.close()
    assert closed.is_set()
    assert threading.active_count() < before

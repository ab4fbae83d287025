"""Fetch ahead: what comes next is waited for while what came last is worked on."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T], count: int) -> Generator[T]:
    """Yield items, up to `count` of which a thread fetches in advance.

    Args:
        items: Runs in that thread, and is closed when the last item was taken or no more are wanted.
        count: At least 1.
    """
    with closing(items), ThreadPoolExecutor(1, "dagfusion-fetch") as thread:
        pending = deque(thread.submit(next, items, None) for _ in range(count))
        try:
            while (item := pending.popleft().result()) is not None:
                pending.append(thread.submit(next, items, None))
                yield item
        finally:
            for fetch in pending:
                fetch.cancel()

"""Statements inside one transaction of PostgreSQL, whose rows are prefetched."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any, TypeVar

import psycopg

_ROWS_AT_ONCE = 512
_CHUNKS_AHEAD = 16  # a socket holds a hundred rows or so, and beyond that the server would wait for their reader


class Transaction:
    """Runs statements inside one transaction."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def __call__(self, query: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Return all rows of a statement."""
        cursor = self._connection.execute(query.encode(), params)
        return cursor.fetchall() if cursor.description else []

    def stream(self, query: str, params: Any) -> Iterator[tuple[Any, ...]]:
        """Yield rows while the server still finds them, so that both work at once and neither holds them all."""
        for rows in prefetched(self._chunks(query, params), _CHUNKS_AHEAD):
            yield from rows

    def _chunks(self, query: str, params: Any) -> Generator[list[tuple[Any, ...]]]:
        with self._connection.cursor() as cursor:
            rows = cursor.stream(query.encode(), params, size=_ROWS_AT_ONCE)
            while chunk := list(islice(rows, _ROWS_AT_ONCE)):
                yield chunk


T = TypeVar("T")


def prefetched(items: Generator[T], count: int) -> Generator[T]:
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

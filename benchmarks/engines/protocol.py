"""What an engine is to a benchmark: something that is set up over a place and answers the documented queries."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from benchmarks.dataset import Place
from benchmarks.workload import Query


class Session(Protocol):
    """One connection, dataset object or context of an engine: what its user would keep between two queries."""

    def run(self, query: Query) -> pa.Table:
        """Return the query's answer."""

    def close(self) -> None:
        """Let go of it."""


@dataclass(frozen=True)
class Engine:
    """An engine in one way of setting it up.

    Attributes:
        name: What the report calls it.
        setup: How it is set up, in a line.
        open: Starts a session over a place.
    """

    name: str
    setup: str
    open: Callable[[Place], Session]

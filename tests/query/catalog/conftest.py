"""Event logs and services of the tests of checkpoints, all in memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from obstore.store import MemoryStore

from tests.query.catalog.checkpointing import Service
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog


@pytest.fixture
def log() -> PurgeableLog:
    return PurgeableLog()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def now() -> Clock:
    return Clock()


@pytest.fixture
def service(log: PurgeableLog, store: MemoryStore, now: Clock) -> Iterator[Callable[..., Service]]:
    with ExitStack() as stack:

        def start(**options: Any) -> Service:
            made = Service(options.pop("log", log), store, now, **options)
            stack.callback(made.catalog.close)
            return made

        yield start

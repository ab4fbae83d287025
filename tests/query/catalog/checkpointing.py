"""A service that keeps a checkpoint of its catalog, over an event log that can be purged."""

from typing import Any

from obstore.store import MemoryStore

from dagfusion_query.catalog.checkpoint import CheckpointStore
from dagfusion_query.catalog.checkpointer import Checkpointer
from dagfusion_query.catalog.live_catalog import LiveCatalog
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog
from tests.query.catalog.test_checkpoint_sequences import ASSETS, PREFIX, materialization, shown

A, B = ASSETS


class Service:
    """A catalog without a state folder, and the writer of its checkpoint."""

    def __init__(self, log: Any, store: MemoryStore, now: Clock, **options: Any) -> None:
        self.clock = Clock()
        checkpoint = CheckpointStore(lambda: store, PREFIX, now)
        options = {"verify_interval_s": 0.0, "poll_interval_s": 3600.0, "clock": self.clock, **options}
        self.catalog = LiveCatalog(log, "uat", checkpoint=checkpoint, **options)
        self.writer = Checkpointer(self.catalog, checkpoint, now=now)

    def look(self) -> bool:
        self.catalog.refresh()
        return self.writer.look()

    def events(self) -> set[int]:
        self.catalog.refresh()
        return set(shown(self.catalog.current()).values())


def add(log: PurgeableLog, *partitions: str, asset: Any = A) -> list[int]:
    return [log.add(materialization(asset, partition)).event_id for partition in partitions]


def purge(log: PurgeableLog) -> None:
    log.purge({event.event_id for event in log.tables.events})

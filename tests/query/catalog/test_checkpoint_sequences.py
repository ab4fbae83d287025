"""Two services share a checkpoint while the event log is written, wiped and purged, and state folders are lost."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from obstore.store import MemoryStore

from dagfusion_query.catalog.checkpoint import CheckpointStore
from dagfusion_query.catalog.checkpointer import INTERVAL_S, Checkpointer
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import AssetKey, Materialization
from tests.contract.records import file_record
from tests.query.catalog.folding import READER
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog
from tests.tiers import examples

ASSETS: tuple[AssetKey, ...] = (("a", "x"), ("a", "y"))
PARTITIONS = ("CA", "NY", "TX")
REPLICAS = st.sampled_from([0, 1])
PREFIX = "s3://bucket/_catalog"


class ProcessKilled(Exception):  # noqa: N818
    """Takes the place of a signal that ends a process."""


def materialization(asset_key: AssetKey, partition: str) -> Materialization:
    return Materialization(asset_key, 0, partition, 0, "", READER.read(file_record(partition)))


def shown(snapshot: Snapshot) -> dict[tuple[AssetKey, str], int]:
    """Return the event of each partition that can be queried."""
    return {
        (table.asset_key, row["partition_key"]): row["event_id"]
        for table in snapshot.tables.values()
        for row in table.files.select(["partition_key", "event_id"]).to_pylist()
    }


class Replica:
    """One service: its state folder, its catalog and the writer of its checkpoint.

    Attributes:
        read_up_to: The last event that there was when it read the event log; None until it has looked for a checkpoint,
            which it then reads too.
    """

    read_up_to: int | None

    def __init__(self, log: PurgeableLog, store: MemoryStore, now: Callable[[], float]) -> None:
        self._log, self._store, self._now, self.clock = log, store, now, Clock()
        self._folder: Path | None = None
        self.start(keeps_state=False)

    def start(self, *, keeps_state: bool) -> None:
        self.stop()
        self.read_up_to = None
        if not keeps_state or self._folder is None:
            self.lose_state()
            self._folder = Path(tempfile.mkdtemp(prefix="checkpoint-"))
        store = CheckpointStore(lambda: self._store, PREFIX, self._now)
        self.catalog = LiveCatalog(
            self._log,
            "uat",
            self._folder,
            poll_interval_s=3600.0,
            shared=True,
            verify_interval_s=0.0,
            checkpoint=store,
            clock=self.clock,
        )
        self.writer = Checkpointer(self.catalog, store, INTERVAL_S, self._now)

    def stop(self) -> None:
        if hasattr(self, "catalog"):
            self.catalog.close()

    def lose_state(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def look(self) -> bool:
        """Read the event log, and write a checkpoint if it is time; return True if one was written."""
        last_id = self._log.tables.last_id
        self.catalog.refresh()
        has_written = self.writer.look()
        self.read_up_to = last_id
        return has_written

    def shown(self) -> dict[tuple[AssetKey, str], int]:
        self.look()
        return shown(self.catalog.current())


class Services(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.log, self.store, self.now_s = PurgeableLog(), MemoryStore(), 1000.0
        self.replicas = [Replica(self.log, self.store, lambda: self.now_s) for _ in range(2)]
        self.expected: dict[tuple[AssetKey, str], int] = {}
        self.written_up_to = 0

    def teardown(self) -> None:
        for number in (0, 1):
            self.show(number)
            self.restart(number, keeps_state=False)
            self.show(number)
        for replica in self.replicas:
            replica.stop()
            replica.lose_state()

    @rule(asset=st.sampled_from(ASSETS), partition=st.sampled_from(PARTITIONS))
    def materialize(self, asset: AssetKey, partition: str) -> None:
        self.expected[asset, partition] = self.log.add(materialization(asset, partition)).event_id

    @rule(asset=st.sampled_from(ASSETS))
    def wipe(self, asset: AssetKey) -> None:
        self.log.wipe(asset)
        self._forget(asset)

    @rule(asset=st.sampled_from(ASSETS))
    def remove(self, asset: AssetKey) -> None:
        self.log.remove(asset)
        self._forget(asset)

    @rule(number=REPLICAS, passed_s=st.sampled_from([1.0, INTERVAL_S, 3 * INTERVAL_S, 5000.0]))
    def write(self, number: int, passed_s: float) -> None:
        self.now_s += passed_s
        last_id = self.log.tables.last_id
        if self.replicas[number].look():
            self.written_up_to = last_id

    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        """Purge events that a checkpoint and all running services have: a purge is by age, and they poll the log."""
        read = [replica.read_up_to for replica in self.replicas if replica.read_up_to is not None]
        up_to = min([self.written_up_to, *read])
        ids = [event.event_id for event in self.log.tables.events if event.event_id <= up_to]
        if ids:
            self.log.purge({*data.draw(st.lists(st.sampled_from(ids)))} if data.draw(st.booleans()) else {*ids})

    @rule(number=REPLICAS, keeps_state=st.booleans())
    def restart(self, number: int, keeps_state: bool) -> None:  # noqa: FBT001  # of a rule
        self.replicas[number].start(keeps_state=keeps_state)

    @rule(number=REPLICAS)
    def read_in_full(self, number: int) -> None:
        self.replicas[number].clock.now += 3600.0

    @rule(number=REPLICAS)
    def show(self, number: int) -> None:
        assert self.replicas[number].shown() == self.expected

    @rule(number=REPLICAS, puts=st.integers(0, 3), keeps_state=st.booleans())
    def kill_while_writing(self, number: int, puts: int, keeps_state: bool) -> None:  # noqa: FBT001  # of a rule
        left = puts

        def put(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise ProcessKilled
            return original(*args, **options)

        original = obstore.put
        self.now_s += 3 * INTERVAL_S
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(obstore, "put", put)
            try:
                self.write(number, 0.0)
            except ProcessKilled:
                pass
            else:
                return
        self.restart(number, keeps_state=keeps_state)

    @rule(number=REPLICAS)
    def write_while_another_does(self, number: int) -> None:
        """The other service replaces the manifest after this one has read it."""

        def put(store: Any, path: str, content: Any, **options: Any) -> Any:
            if path.endswith("checkpoint.json"):
                patch.undo()
                self.now_s += 3 * INTERVAL_S
                self.replicas[1 - number].look()
            return original(store, path, content, **options)

        original = obstore.put
        self.now_s += 3 * INTERVAL_S
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(obstore, "put", put)
            self.replicas[number].look()

    @invariant()
    def the_manifest_has_its_objects(self) -> None:
        store = CheckpointStore(lambda: self.store, PREFIX, lambda: self.now_s)
        head = store.head()
        if head is not None:
            store.load(head, "uat")

    def _forget(self, asset: AssetKey) -> None:
        self.expected = {key: event_id for key, event_id in self.expected.items() if key[0] != asset}


@pytest.mark.usefixtures("heavy")
def test_nothing_is_lost_and_nothing_comes_back() -> None:
    run_state_machine_as_test(
        Services, settings=settings(max_examples=examples(40), stateful_step_count=25, deadline=None)
    )


def test_what_is_purged_before_a_service_reads_it_is_there_after_its_next_full_read() -> None:
    services = Services()
    services.show(0)
    services.show(1)
    services.materialize(("a", "x"), "CA")
    services.write(0, 1.0)
    services.log.purge({1})
    services.replicas[1].look()
    services.read_in_full(1)
    services.show(1)
    services.teardown()

"""A checkpoint, and a stored snapshot beside it, when the bucket or the metadata keys are changed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from dagfusion_client.errors import EventRecordError
from dagfusion_query.event_log.event_log_interface import Materialization
from dagfusion_query.event_log.stored_event import EventReader
from tests.contract.records import file_record
from tests.query.catalog.checkpointing import Service
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog
from tests.query.catalog.test_checkpoint_sequences import ASSETS, materialization

STARTS = pytest.mark.parametrize("keeps_state", [True, False])


class Rules:
    """Services over one event log, each with rules of its own; the state folder is kept or lost between them."""

    def __init__(self, state_dir: Path | None) -> None:
        self.log, self._store, self._now, self._state_dir = PurgeableLog(), MemoryStore(), Clock(), state_dir

    def files(self, bucket: str | None = None) -> dict[str, str]:
        """Return the URI of each partition that a service shows, after it has written its checkpoint."""
        self._now.now += 5000
        service = Service(self.log, self._store, self._now, state_dir=self._state_dir, bucket=bucket)
        service.look()
        tables = service.catalog.current().tables.values()
        service.catalog.close()
        return {row["partition_key"]: row["uri"] for table in tables for row in table.files.to_pylist()}


@pytest.fixture
def rules(tmp_path: Path, *, keeps_state: bool) -> Rules:
    return Rules(tmp_path if keeps_state else None)


def within(bucket: str) -> Callable[[Materialization], Materialization]:
    """Return how events are read if only one bucket is allowed."""

    def read(event: Materialization) -> Materialization:
        try:
            return event._replace(file=EventReader((), bucket).read(file_record(event.partition_key or "")))
        except EventRecordError as error:
            return event._replace(file=error)

    return read


@STARTS
@pytest.mark.parametrize("purged", [set(), {1}])
def test_files_outside_of_a_bucket_that_was_set_are_not_shown(rules: Rules, purged: set[int]) -> None:
    for partition in ("CA", "NY"):
        rules.log.add(materialization(ASSETS[0], partition))
    first = rules.files()
    assert set(first) == {"CA", "NY"}
    rules.log.purge(purged)
    rules.log.follow_rules("s3://other/", within("other"))
    assert rules.files("other") == {}
    assert rules.files("other") == {}
    rules.log.follow_rules("s3://bucket/", within("bucket"))
    assert rules.files("bucket") == first


@STARTS
def test_metadata_keys_that_were_changed_count_for_events_that_are_left(rules: Rules) -> None:
    for partition in ("CA", "NY", "TX"):
        rules.log.add(materialization(ASSETS[0], partition))
    first = rules.files()
    rules.log.purge({1})
    file = EventReader().read(file_record("NY", uri="s3://bucket/elsewhere.parquet"))
    rules.log.follow_rules("path", lambda event: event._replace(file=file if event.partition_key == "NY" else None))
    now = {"CA": first["CA"], "NY": "s3://bucket/elsewhere.parquet"}
    assert rules.files() == now
    assert rules.files() == now

"""What an examination makes of a checkpoint that is there at first."""

from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.store import MemoryStore

from dagfusion_cli.doctor import examination
from dagfusion_client.errors import QueryError, SnapshotError, StoreUnavailableError
from dagfusion_query.catalog.checkpoint import CheckpointStore, Head
from dagfusion_query.config import read_config
from tests.query.catalog.checkpointing import Service
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog

FOLDER = "s3://bucket/_catalog"


@pytest.mark.parametrize("error", [StoreUnavailableError("no route"), SnapshotError("torn")])
def test_a_checkpoint_that_cannot_be_read_any_more_is_a_fault(
    error: QueryError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Failing(CheckpointStore):
        def head(self) -> Head | None:
            if self.known_etag is not None:  # it has been loaded
                raise error
            return super().head()

    def opened(value: object) -> Callable[[object], object]:
        return lambda _: value

    log, store = PurgeableLog(), MemoryStore()
    service = Service(log, store, Clock())
    assert service.look()
    service.catalog.close()
    monkeypatch.setattr(examination, "_reader", opened(log))
    monkeypatch.setattr(examination, "open_checkpoint", opened(Failing(lambda: store, FOLDER)))
    variables = {"DAGFUSION_EVENT_LOG": str(tmp_path), "DAGFUSION_CATALOG_CHECKPOINT": FOLDER}
    (config,) = read_config(variables).environments
    faults = examination.examine(config).faults
    assert [fault.name for fault in faults if fault.name.startswith("checkpoint")] == ["checkpoint_unusable"]
    assert str(error) in str(faults)

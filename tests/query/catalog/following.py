"""A catalog that follows an event log: what a test sees of it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from dagfusion_client.as_of import AsOf
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import AssetKey, Event, Evidence, History, Moment, Revision

Record = Callable[..., dict[str, Any]]
Opened = Callable[..., LiveCatalog]
ORGS = TableName("uat_silver_tax_id", "partitioned_organizations")
PATIENCE_S = 20.0  # for a busy machine


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def partitions(snapshot: Snapshot, name: TableName = ORGS) -> set[str]:
    return set(snapshot.tables[name].files["partition_key"].to_pylist()) if name in snapshot.tables else set()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)


class PartialLog:
    """The part of an event log that a follower does not ask for. A fake adds the rest."""

    keeps_ids = True

    def purged_assets(self) -> Sequence[AssetKey]:
        return []

    def evidence(self, event_ids: Sequence[int]) -> Evidence:
        raise NotImplementedError

    def history(self, asset_key: Sequence[str], partition_key: str | None) -> History:
        raise NotImplementedError

    def moment(self, as_of: AsOf) -> Moment:
        raise NotImplementedError

    def past(self, asset_key: AssetKey, moment: Moment, receive: Callable[[Sequence[Event]], None]) -> None:
        raise NotImplementedError

    def revisions(self, asset_key: AssetKey, limit: int) -> Sequence[Revision]:
        raise NotImplementedError

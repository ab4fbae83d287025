"""A process that is killed while it writes a checkpoint leaves one that is whole, and not older than those before."""

import multiprocessing
import random
import time
from typing import Any

import pytest
from obstore.store import S3Store

from dagfusion_query.catalog.checkpoint import CheckpointStore
from dagfusion_query.catalog.fold import fold, with_asset_states
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot import Stored
from dagfusion_query.event_log.event_log_interface import Cursor, Watermark
from tests.contract.records import file_record
from tests.query.catalog.folding import EMPTY, table, written
from tests.stores import s3_fields

__all__ = ["s3_fields"]

KILLS = 5
FOLDER = "s3://bucket/killed"


def opened(options: dict[str, Any]) -> CheckpointStore:
    return CheckpointStore(lambda: S3Store(**options, client_options={"allow_http": True}), FOLDER)


def current(store: CheckpointStore) -> tuple[Any, Snapshot, int]:
    head = store.head()
    if head is None:
        return None, EMPTY, 0
    loaded = store.load(head, "uat")
    return head, with_asset_states(EMPTY, loaded.snapshot.asset_states), loaded.cursor.watermark.settled


def write_for_ever(options: dict[str, Any]) -> None:
    store = opened(options)
    head, snapshot, event_id = current(store)
    while True:
        event_id += 1
        snapshot = fold(snapshot, [written(file_record(f"S{event_id}"), event_id)])
        cursor = Cursor(Watermark(event_id, event_id, event_id), {})
        head = store.write(Stored(snapshot, cursor, "log"), head)


@pytest.mark.usefixtures("processes")
def test_a_killed_writer_leaves_a_whole_checkpoint(s3_fields: dict[str, Any]) -> None:
    names = {"bucket": "bucket", "endpoint": "endpoint_url", "region": "region"}
    options = {name: s3_fields[field] for name, field in names.items()}
    options |= {name: s3_fields[name] for name in ("access_key_id", "secret_access_key")}
    process = multiprocessing.get_context("forkserver")
    process.set_forkserver_preload([__name__])  # imports take longer than all else
    store, last = opened(options), 0
    for _ in range(KILLS):
        writer = process.Process(target=write_for_ever, args=(options,), daemon=True)
        writer.start()
        before = last
        while (head := store.head()) is None or head.cursor.watermark.settled <= before:
            time.sleep(0.01)
        time.sleep(random.uniform(0.0, 0.1))  # noqa: S311
        writer.kill()
        writer.join()
        _, snapshot, last = current(store)
        assert last > before
        assert sorted(table(snapshot).files["event_id"].to_pylist()) == [*range(1, last + 1)]

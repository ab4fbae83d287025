"""Every reader gives the same table: full reads, polls, snapshots of an earlier process, over both databases."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.event_log.event_log_interface import Event, Watermark
from tests.query.catalog.folding import check_table, seen
from tests.query.catalog.following import Opened
from tests.tiers import examples

Record = Callable[..., dict[str, Any]]
Key = tuple[str, ...]
Columns = Sequence[tuple[str, str]]

PARTITIONS: Sequence[Columns] = (
    [("state", "CA")],
    [("state", "NY")],
    [],
    [("day", "CA")],  # the same key, of another definition
    [("state", "CA"), ("day", "x")],
)
KINDS = ["file", "file", "fileless", "fileless", "many fileless", "decoy", "refused", "unreadable", "wipe", "delete"]
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from(PARTITIONS), st.booleans()), max_size=8)


def take(deployment: Any, record: Record, key: Key, kind: str, columns: Columns) -> None:
    """Have one thing happen to an asset."""
    partition_key = "|".join(value for _, value in sorted(columns)) or None
    values = [{"name": name, "type": "string", "value": value} for name, value in columns]
    changes: dict[str, dict[str, Any]] = {"refused": {"version": 2}, "unreadable": {"modified": "never"}}
    if kind in ("file", "refused", "unreadable"):
        deployment.report(record(partition=values, columns={}, **changes.get(kind, {})), partition_key, key)
    elif kind == "decoy":  # looks in the stored text as if it named a file
        metadata: dict[str, Any] = {"note": dg.MetadataValue.json({"label": "dagfusion/file"}), "mean": float("nan")}
        event = dg.AssetMaterialization(dg.AssetKey(list(key)), partition=partition_key, metadata=metadata)
        deployment.instance.report_runless_asset_event(event)
    elif kind == "wipe":
        deployment.wipe(key)
    elif kind == "delete":
        delete_latest(deployment, key)
    else:
        for _ in range(12 if kind == "many fileless" else 1):
            deployment.report(None, partition_key, key)


def delete_latest(deployment: Any, key: Key) -> None:
    """Delete the asset's latest event, as deleting its run would do."""
    latest = "delete from event_logs where id = (select max(id) from event_logs where asset_key = {})"
    stored = dg.AssetKey(list(key)).to_string()
    if deployment.url:
        with psycopg.connect(deployment.url) as connection:
            connection.execute(latest.format("%s").encode(), (stored,))
        return
    with sqlite3.connect(deployment.home / "history" / "runs" / "index.db") as file:
        file.execute(latest.format("?"), (stored,))
    file.close()


def everything(deployment: Any) -> list[Event]:
    """Return all events that are in the log, each read by its id, and the wipes."""
    log = deployment.open()
    current: list[Event] = []
    cursor = log.read_all(current.extend)
    poll = log.poll(replace(cursor, watermark=Watermark(), top=None))
    log.close()
    return [*poll.events, *(event for event in current if event not in poll.events)]


def test_every_reader_gives_the_same_table(
    deployment: Any, catalog_of: Opened, file_record: Record, tmp_path: Path
) -> None:
    calm = {"poll_interval_s": 600.0, "verify_interval_s": 0.0}
    following = catalog_of(deployment.open(), **calm)
    number = 0

    def shown(catalog: LiveCatalog, key: Key) -> Any:
        tables = {name: table for name, table in catalog.current().tables.items() if table.asset_key == key}
        return seen(replace(catalog.current(), tables=tables))

    @settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(steps=STEPS)
    def check(steps: Sequence[tuple[str, Columns, bool]]) -> None:
        nonlocal number
        number += 1
        key = ("Gold", f"t{number}")
        catalog_of(deployment.open(), tmp_path / str(number), **calm).close()
        for kind, columns, look in steps:
            take(deployment, file_record, key, kind, columns)
            if look:
                following.refresh()
        following.refresh()
        check_table(following.current(), everything(deployment), key)
        restarted = catalog_of(deployment.open(), tmp_path / str(number), **calm)
        again = catalog_of(deployment.open(), **calm)
        expected = shown(following, key)
        for catalog in (restarted, again):
            assert shown(catalog, key) == expected
            catalog.close()
        stored = catalog_of(deployment.open(), tmp_path / str(number), **calm)
        assert shown(stored, key) == expected
        stored.close()

    check()


def name_a_file_in_place(deployment: Any, record: dict[str, Any], key: Key) -> None:
    """Have an asset's first event name a file; its id, its run and its time stay."""
    model = "select event from event_logs where asset_key = {0} order by id desc limit 1"
    change = "update event_logs set event = {0} where id = (select min(id) from event_logs where asset_key = {0})"
    stored, like = (dg.AssetKey(list(name)).to_string() for name in (key, ("Model",)))
    deployment.report(record, None, ("Model",))
    if deployment.url:
        with psycopg.connect(deployment.url) as connection:
            (event,) = connection.execute(model.format("%s").encode(), (like,)).fetchone() or ()
            connection.execute(change.format("%s").encode(), (event, stored))
        return
    with sqlite3.connect(deployment.home / "history" / "runs" / "index.db") as file:
        (event,) = file.execute(model.format("?"), (like,)).fetchone()
        file.execute(change.format("?"), (event, stored))
    file.close()


def test_a_history_without_files_is_searched_once(deployment: Any, file_record: Record) -> None:
    key = ("Gold", "elsewhere")
    others = ("Gold", "others")

    def files_of(log: Any) -> list[Any]:
        events: list[Any] = []
        log.read_all(events.extend)
        return [event.file for event in events if event.asset_key == key and event.file is not None]

    log = deployment.open()
    for _ in range(4):
        deployment.report(None, None, key)
    deployment.report(None, None, others)
    assert files_of(log) == []
    name_a_file_in_place(deployment, file_record(partition=[]), key)
    assert files_of(log) == [], "events that were searched are not searched again"
    fresh = deployment.open()
    assert len(files_of(fresh)) == 1
    fresh.close()
    delete_latest(deployment, others)
    assert len(files_of(log)) == 1, "other events were deleted, so these are searched again"
    deployment.report(None, None, key)
    assert len(files_of(log)) == 1, "the asset names a file now, so its history counts"
    log.close()


def test_a_file_after_events_without_one_is_found_under_later_ones(deployment: Any, file_record: Record) -> None:
    log = deployment.open()
    for _ in range(2):
        deployment.report(None, "CA")
        log.read_all(lambda _: None)
    deployment.report(file_record(partition=[{"name": "state", "type": "string", "value": "CA"}]), "CA")
    for _ in range(4):
        deployment.report(None, "CA")
    events: list[Any] = []
    log.read_all(events.extend)
    assert [event.file is None for event in events] == [True, False]
    log.close()

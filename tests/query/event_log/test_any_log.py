"""What every event log promises the catalog, over both databases: see `EventLog`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from dagfusion_client.errors import RecordVersionError
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import DataFile
from dagfusion_contract.tombstone import Tombstone
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_query.event_log.event_log_interface import Event, EventLog, Materialization, Wipe
from tests.query.event_log.copied import materializations

Record = Callable[..., dict[str, Any]]
ASSET = ("Silver", "TaxID", "partitioned_organizations")


@pytest.fixture
def log(deployment: Any) -> Iterator[EventLog]:
    opened: EventLog = deployment.open()
    yield opened
    opened.close()


def events_of(log: EventLog) -> list[Event]:
    received: list[Event] = []
    log.read_all(received.extend)
    return received


def test_only_new_events_are_polled(deployment: Any, file_record: Record, log: EventLog) -> None:
    for state in ("CA", "NY"):
        deployment.report(file_record(state))
    received: list[Event] = []
    cursor = log.read_all(received.extend)
    assert {event.partition_key for event in materializations(received)} == {"2024-01-15|CA", "2024-01-15|NY"}
    poll = log.poll(cursor)
    assert (poll.events, poll.full_read_reason) == ([], None)
    deployment.report(file_record("TX"))
    poll = log.poll(poll.cursor)
    (event,) = poll.events
    assert isinstance(event, Materialization)
    assert isinstance(event.file, DataFile)
    assert (event.asset_key, event.partition_key) == (ASSET, "2024-01-15|TX")
    assert log.poll(poll.cursor).events == []
    assert log.verify(poll.cursor) is None


def test_a_full_read_hands_over_the_last_event_of_each_partition(
    deployment: Any, file_record: Record, log: EventLog
) -> None:
    for rows in (1, 2, 3):
        deployment.report(file_record("CA", rows=rows))
    deployment.report(file_record("NY", rows=4))
    deployment.report(file_record(partition=[], rows=5), key=("Gold", "whole"))
    assert {
        (event.asset_key, event.partition_key, event.file.rows)
        for event in materializations(events_of(log))
        if isinstance(event.file, DataFile)
    } == {(ASSET, "2024-01-15|CA", 3), (ASSET, "2024-01-15|NY", 4), (("Gold", "whole"), None, 5)}


def test_a_poll_and_a_full_read_read_an_event_alike(deployment: Any, file_record: Record, log: EventLog) -> None:
    cursor = log.read_all(lambda _: None)
    deployment.report(file_record("CA"))
    deployment.report(file_record("NY", version=2))
    deployment.report(None, "TX")
    polled = {event.event_id: event for event in materializations([*log.poll(cursor).events])}  # some may be repeated
    assert [type(polled[number].file) for number in sorted(polled)] == [DataFile, RecordVersionError, type(None)]
    read = {event.event_id: event for event in materializations(events_of(log))}
    for number, event in polled.items():
        again = read[number]
        assert again[:5] == event[:5]
        assert str(again.file) == str(event.file)


def test_a_view_is_read_by_a_full_read_and_a_poll(deployment: Any, log: EventLog) -> None:
    view = View("SELECT n FROM uat_silver.orgs", (TableName("uat_silver", "orgs"),), pa.schema({"n": pa.int8()}))
    metadata = {VIEW_ENTRY: dg.MetadataValue.json(view_entry(view))}
    cursor = log.read_all(lambda _: None)
    deployment.instance.report_runless_asset_event(dg.AssetMaterialization(["Gold", "view"], metadata=metadata))
    deployment.instance.report_runless_asset_event(dg.AssetMaterialization(["Gold", "view"]))  # says nothing new

    polled = {event.event_id: event.file for event in materializations([*log.poll(cursor).events])}
    assert [polled[number] for number in sorted(polled)] == [view, None]
    assert view in [event.file for event in materializations(events_of(log))]


def test_a_tombstone_is_read_by_a_full_read_and_a_poll(deployment: Any, file_record: Record, log: EventLog) -> None:
    for state in ("CA", "NY"):
        deployment.report(file_record(state))
    cursor = log.read_all(lambda _: None)
    deployment.bury("2024-01-15|CA")
    deployment.report(None, "2024-01-15|CA")  # says nothing new

    polled = {event.event_id: event.file for event in materializations([*log.poll(cursor).events])}
    assert [polled[number] for number in sorted(polled)] == [Tombstone("wiped"), None]
    read = [event for event in materializations(events_of(log)) if event.partition_key == "2024-01-15|CA"]
    assert sorted(str(event.file) for event in read) == ["None", "Tombstone(reason='wiped')"]


def test_a_wipe_is_told(deployment: Any, file_record: Record, log: EventLog) -> None:
    deployment.report(file_record())
    deployment.report(file_record(partition=[]), key=("Gold", "kept"))
    cursor = log.read_all(lambda _: None)
    deployment.wipe()
    poll = log.poll(cursor)
    wipes = [event.asset_key for event in poll.events if isinstance(event, Wipe)]
    assert wipes == [ASSET] or poll.full_read_reason is not None, "SQLite forgets what was wiped"
    assert {event.asset_key for event in materializations(events_of(log))} == {("Gold", "kept")}


def test_a_deleted_earlier_run_is_found_by_verifying(deployment: Any, file_record: Record, log: EventLog) -> None:
    first = deployment.materialize(file_record(partition=[]), key="first")
    deployment.materialize(file_record(partition=[]), key="second")
    cursor = log.poll(log.read_all(lambda _: None)).cursor
    deployment.instance.delete_run(first)
    found = log.verify(cursor) or log.poll(cursor).full_read_reason
    assert "events were" in str(found)
    assert {event.asset_key for event in events_of(log)} == {("second",)}


def test_a_run_is_named_by_its_events(deployment: Any, file_record: Record, log: EventLog) -> None:
    run_id = deployment.materialize(file_record(partition=[]))
    (event,) = materializations(events_of(log))
    assert (event.run_id, event.partition_key) == (run_id, None)
    assert [run.run_id for run in log.history(event.asset_key, None).runs] == [run_id]


def test_each_log_has_an_identity_of_its_own(deployment: Any, log: EventLog, deployment_class: Any) -> None:
    again = deployment.open()
    assert again.identity() == log.identity()
    again.close()
    other = deployment_class(Path(f"{deployment.home}-else"), None)
    elsewhere = other.open()
    assert elsewhere.identity() != log.identity()
    elsewhere.close()
    other.instance.dispose()

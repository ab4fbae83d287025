"""The event log in PostgreSQL: writers that commit out of order, what is deleted, and how events are written."""

import dataclasses
import itertools
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from dagfusion_client.errors import EventLogError
from dagfusion_contract.record import DataFile
from dagfusion_query.event_log.event_log_interface import SLACK_S, Event, Watermark, Wipe
from dagfusion_query.event_log.postgres import PostgresEventLog
from dagfusion_query.event_log.stored_event import EventReader
from tests.query.catalog.following import Clock
from tests.query.event_log.copied import COPY_EVENT, materializations, pattern_event
from tests.waiting import eventually

Record = Callable[..., dict[str, Any]]


def test_a_transaction_that_commits_late_is_not_missed(on_postgres: Any, file_record: Record) -> None:
    first = pattern_event(on_postgres, file_record())
    clock = Clock()
    log = PostgresEventLog(on_postgres.url, clock)
    cursor = log.read_all(lambda _: None)
    with psycopg.connect(on_postgres.url) as late, psycopg.connect(on_postgres.url, autocommit=True) as quick:
        (hidden,) = late.execute(COPY_EVENT, ("late", first)).fetchone() or (0,)
        (seen,) = quick.execute(COPY_EVENT, ("quick", first)).fetchone() or (0,)
        assert hidden < seen
        for _ in range(5):
            clock.now += 10 * SLACK_S
            poll = log.poll(cursor)
            cursor = poll.cursor
            assert cursor.watermark.settled < hidden, "the watermark waits for the open transaction"
        assert seen in cursor.watermark.seen
        late.commit()
        poll = log.poll(cursor)
        assert [event.event_id for event in materializations(list(poll.events))] == [hidden]
        clock.now += 2 * SLACK_S
        cursor = log.poll(poll.cursor).cursor
        assert cursor.watermark == Watermark(seen, 3, first + hidden + seen)
        assert log.verify(cursor) is None
    log.close()


def test_a_transaction_that_was_open_during_the_full_read_is_not_missed(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    first = pattern_event(on_postgres, file_record())
    with psycopg.connect(on_postgres.url) as late, psycopg.connect(on_postgres.url, autocommit=True) as quick:
        (hidden,) = late.execute(COPY_EVENT, ("late", first)).fetchone() or (0,)
        quick.execute(COPY_EVENT, ("quick", first))
        received: list[Event] = []
        cursor = log.read_all(received.extend)
        assert {event.partition_key for event in materializations(received)} == {"2024-01-15|CA", "quick"}
        late.commit()
        poll = log.poll(cursor)
    assert [event.event_id for event in materializations(list(poll.events))] == [hidden]


def test_a_late_transaction_below_the_overlap_leads_to_a_full_read(
    on_postgres: Any, file_record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagfusion_query.event_log.postgres._OVERLAP", 2)
    first = pattern_event(on_postgres, file_record())
    clock = Clock()
    log = PostgresEventLog(on_postgres.url, clock)
    with psycopg.connect(on_postgres.url) as late, psycopg.connect(on_postgres.url, autocommit=True) as quick:
        late.execute(COPY_EVENT, ("late", first))
        for number in range(5):
            quick.execute(COPY_EVENT, (f"quick {number}", first))
        cursor = log.read_all(lambda _: None)
        late.commit()
        poll = log.poll(cursor)
        assert (poll.full_read_reason, poll.cursor.verified) == (None, False)
        clock.now += 2 * SLACK_S
        poll = log.poll(poll.cursor)
    assert "events were read up to id" in str(poll.full_read_reason)
    received: list[Event] = []
    log.read_all(received.extend)
    assert "late" in {event.partition_key for event in materializations(received)}
    log.close()


def writer_of(url: str, pattern: int, committed: list[int], stop: threading.Event) -> Callable[[int], None]:
    """Writes transactions of many sizes and lengths, and notes the ids of those that it commits."""
    numbers = itertools.count()

    def write(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311
        with psycopg.connect(url) as connection:
            while not stop.is_set():
                ids = []
                for _ in range(chance.choice([1, 1, 3, 20])):
                    (event_id,) = connection.execute(COPY_EVENT, (f"p{next(numbers)}", pattern)).fetchone() or (0,)
                    ids.append(event_id)
                    time.sleep(chance.choice([0, 0, 0.002]))
                time.sleep(chance.choice([0, 0.01, 0.3]))
                if chance.random() < 0.2:
                    connection.rollback()
                else:
                    connection.commit()
                    committed.extend(ids)

    return write


@pytest.mark.slow
def test_concurrent_writers_that_commit_out_of_order_are_all_seen(on_postgres: Any, file_record: Record) -> None:
    """Sixteen writers, batches of many sizes, some open, some rolled back; all of them before the first full read."""
    first = pattern_event(on_postgres, file_record())
    committed: list[int] = []
    stop = threading.Event()
    write = writer_of(on_postgres.url, first, committed, stop)
    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(16)]
    for writer in writers:
        writer.start()
    assert eventually(lambda: len(committed) > 100)
    log = on_postgres.open()
    received: list[Event] = []
    cursor = log.read_all(received.extend)
    polled_ids: list[int] = []
    ends = time.monotonic() + 60
    while len(polled_ids) < 1000:
        assert time.monotonic() < ends, "the writers stopped"
        poll = log.poll(cursor)
        assert poll.full_read_reason is None
        cursor = poll.cursor
        polled_ids += [event.event_id for event in materializations(list(poll.events))]
        time.sleep(0.02)
    stop.set()
    for writer in writers:
        writer.join()
    settled = time.monotonic() + 60
    while cursor.watermark.settled < max(committed):
        assert time.monotonic() < settled, "the watermark never settled"
        poll = log.poll(cursor)
        cursor = poll.cursor
        polled_ids += [event.event_id for event in materializations(list(poll.events))]
        time.sleep(0.05)
    read_ids = [event.event_id for event in materializations(received)]
    assert sorted(read_ids + polled_ids) == sorted([first, *committed]), "each event once"
    assert polled_ids != sorted(polled_ids), "the writers did commit out of order"
    assert (cursor.watermark.count, cursor.watermark.total) == (len(committed) + 1, first + sum(committed))
    assert log.verify(cursor) is None
    assert len(cursor.watermark.seen) == 0
    log.close()


def test_rows_that_are_deleted_before_they_settle_lead_to_a_full_read(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    first = pattern_event(on_postgres, file_record())
    cursor = log.read_all(lambda _: None)
    with psycopg.connect(on_postgres.url) as connection:
        connection.execute("delete from event_logs where id = %s", (first,))
    assert log.poll(cursor).full_read_reason == f"events were deleted, among them {first}"


def test_an_asset_that_dagster_forgot_leads_to_a_full_read_without_it(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    on_postgres.report(file_record())
    on_postgres.report(file_record(), key=("Gold", "kept"))
    cursor = log.read_all(lambda _: None)
    with psycopg.connect(on_postgres.url) as connection:
        connection.execute("delete from asset_keys where asset_key like '%partitioned%'")
    assert "no longer knows the assets" in str(log.poll(cursor).full_read_reason)
    received: list[Event] = []
    log.read_all(received.extend)
    assert {event.asset_key for event in received} == {("Gold", "kept")}


def test_an_event_whose_asset_is_listed_later_is_not_missed(
    on_postgres: Any, file_record: Record, log: PostgresEventLog
) -> None:
    on_postgres.report(file_record())
    with psycopg.connect(on_postgres.url, autocommit=True) as connection:
        connection.execute("create table kept as select * from asset_keys")
        connection.execute("delete from asset_keys")
        received: list[Event] = []
        cursor = log.read_all(received.extend)
        assert received == []
        connection.execute("insert into asset_keys select * from kept")
    (event,) = log.poll(cursor).events
    assert event.asset_key == ("Silver", "TaxID", "partitioned_organizations")


def test_a_wipe_is_told_once(on_postgres: Any, file_record: Record, log: PostgresEventLog) -> None:
    on_postgres.report(file_record())
    cursor = log.read_all(lambda _: None)
    on_postgres.wipe()
    poll = log.poll(cursor)
    (wipe,) = poll.events
    assert isinstance(wipe, Wipe)
    assert log.poll(poll.cursor).events == []
    received: list[Event] = []
    log.read_all(received.extend)
    assert received == [wipe]


def test_events_are_read_however_they_are_written(on_postgres: Any, file_record: Record, log: PostgresEventLog) -> None:
    """The server cuts records out of events as Dagster writes them; others come as a whole, at once or later."""
    event_id = pattern_event(on_postgres, file_record(rows=7))
    with psycopg.connect(on_postgres.url) as connection:
        (event,) = connection.execute("select event from event_logs where id = %s", (event_id,)).fetchone() or ("",)
        document = json.loads(event)
        (entry,) = document["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
        other = entry | {
            "label": "a",
            "entry_data": entry["entry_data"] | {"data": {"quotes": entry, "as text": event}},
        }
        materialization = document["dagster_event"]["event_specific_data"]["materialization"]
        ways = {"as it is": event, "indented": json.dumps(document, indent=1)}
        for name, entries in (
            ("quoted before", [other, entry]),
            ("quoted after", [entry, other]),
            ("described", [other | {"entry_data": entry["entry_data"]}, entry | {"description": "a file"}]),
            ("twice", [entry, entry]),
        ):
            materialization["metadata_entries"] = entries
            ways[name] = json.dumps(document)
        for name, text in ways.items():
            (copied,) = connection.execute(COPY_EVENT.encode(), (name, event_id)).fetchone() or (0,)
            connection.execute("update event_logs set event = %s where id = %s", (text, copied))
        connection.execute("delete from event_logs where id = %s", (event_id,))
    received: list[Event] = []
    cursor = log.read_all(received.extend)
    read = {str(event.partition_key): event.file for event in materializations(received)}
    assert read.keys() == ways.keys()
    expected = EventReader().read(file_record(rows=7))
    for name, file in read.items():
        assert isinstance(file, DataFile), name
        assert file._replace(layout=expected.layout) == expected, name
    polled = log.poll(dataclasses.replace(cursor, watermark=Watermark()))
    assert {str(event.partition_key): event.file for event in materializations([*polled.events])} == read


def test_nothing_is_written(on_postgres: Any, file_record: Record, log: PostgresEventLog) -> None:
    on_postgres.report(file_record())
    log.read_all(lambda _: None)
    with pytest.raises(EventLogError, match="cannot execute DELETE in a read-only transaction"):
        log._database.run(lambda run: run("delete from event_logs"), 5)

"""Any order and any repetition of the events gives the same snapshot, and a small fold costs little."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import MalformedRecordError
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import DataFile
from dagfusion_contract.tombstone import Tombstone
from dagfusion_query.catalog.fold import adopt, fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import Event, Wipe
from tests.query.catalog.folding import (
    EMPTY,
    NAME,
    ORGS,
    Record,
    check_replays,
    check_table,
    column,
    expected,
    schema,
    seen,
    table,
    written,
)
from tests.tiers import examples

KEYS = (ORGS, ("Silver", "TaxID", "Orgs"), ("Gold", "x"))
COLUMNS = (
    schema(column("x", "int32")),
    schema(column("x", "int64"), column("y", "string")),
    schema(column("x", "string")),
)


PARTITIONS: Sequence[Sequence[tuple[str, str, str]]] = (
    *([("state", "string", state)] for state in ("CA", "NY", "TX")),
    [],
    [("day", "string", "CA")],  # the key of another definition
    [("day", "date32[day]", "2024-01-15")],  # the same name with another type
    [("state", "string", "CA"), ("day", "string", "x")],
    [("day", "string", "y"), ("state", "string", "CA")],  # the same columns in another order
)


@st.composite
def histories(draw: st.DrawFn, record: Record) -> list[Event]:
    events: list[Event] = []
    for event_id in range(1, draw(st.integers(1, 12)) + 1):
        key = draw(st.sampled_from(KEYS))
        at_us = draw(st.integers(1, 12))
        kind = draw(
            st.sampled_from(["file", "file", "file", "file", "wipe", "tombstone", "fileless", "refused", "unreadable"])
        )
        partition = [{"name": n, "type": t, "value": v} for n, t, v in draw(st.sampled_from(PARTITIONS))]
        if kind == "wipe":
            events.append(Wipe(key, at_us))
            continue
        change = {"modified": "never"} if kind == "unreadable" else {}
        columns = draw(st.sampled_from(COLUMNS))
        file = record(partition=partition, schema=columns, columns={}, rows=event_id, **change)
        event = written(file, event_id, key, at_us)
        if kind == "fileless":
            event = event._replace(file=None)
        elif kind == "tombstone":
            event = event._replace(file=Tombstone("wiped"))
        elif kind == "refused":
            event = event._replace(file=MalformedRecordError(f"refused {event_id}"))
        events.append(event)
    return events


def check(snapshot: Snapshot, events: Sequence[Event]) -> None:
    """Compare a snapshot with what is expected of the events."""
    for key in KEYS:
        counts = expected(events, key)
        live = snapshot.asset_states[key].segments if key in snapshot.asset_states else ()
        ids = {event_id for segment in live for rows in segment.live() for event_id in rows["event_id"].to_pylist()}
        assert ids == counts.files
    check_table(snapshot, events, KEYS[-1])  # the others have one name


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(300))
@given(data=st.data())
def test_any_order_and_repetition_gives_the_same_snapshot(file_record: Record, data: st.DataObject) -> None:
    events = data.draw(histories(file_record))
    snapshot = fold(EMPTY, events)
    check(snapshot, events)
    check_replays(data, events, snapshot)


@settings(max_examples=examples(20))
@given(data=st.data())
def test_many_small_folds_are_compacted_to_the_same(file_record: Record, data: st.DataObject) -> None:
    states = data.draw(st.lists(st.sampled_from([f"S{i}" for i in range(60)]), min_size=1, max_size=150))
    events = [written(file_record(state, rows=i), i) for i, state in enumerate(states, 1)]
    one_by_one = EMPTY
    for event in events:
        one_by_one = fold(one_by_one, [event])
    assert seen(one_by_one) == seen(fold(EMPTY, events))
    assert len(one_by_one.asset_states[ORGS].segments) <= 16


@pytest.mark.usefixtures("heavy")
def test_one_event_into_a_large_table_copies_next_to_nothing(file_record: Record) -> None:
    one = written(file_record(), 1)
    assert isinstance(one.file, DataFile)
    many = [one._replace(event_id=number, partition_key=f"p{number}") for number in range(1, 60_001)]
    large = fold(EMPTY, many)
    assert table(large).files.nbytes > 10_000_000
    before = pa.total_allocated_bytes()
    added = fold(large, [one._replace(event_id=70_000, partition_key="new")])
    replaced = fold(added, [one._replace(event_id=70_001, partition_key="p30000")])
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert len(table(replaced).files) == 60_001
    assert pc.sum(table(replaced).files["event_id"]).as_py() == sum(range(60_001)) - 30_000 + 70_000 + 70_001


def test_adopting_a_full_read_keeps_what_holds_the_same(file_record: Record) -> None:
    other, gone = ("Silver", "other"), ("Silver", "gone")
    events = [written(file_record(), 1), written(file_record(), 2, other), written(file_record(), 3, gone)]
    old = fold(EMPTY, events)
    new = fold(EMPTY, [events[0], written(file_record("NY"), 4, other)])
    adopted = adopt(old, new)
    assert adopted.generation == old.generation + 1
    assert adopted.tables[NAME] is old.tables[NAME]
    assert seen(adopted) == seen(new)
    assert TableName("uat_silver", "gone") not in adopted.tables


def test_an_id_that_is_given_again_after_a_wipe_is_a_new_event(file_record: Record) -> None:
    """SQLite does so; a full read between the wipe's moment and the removal of its rows has seen the id wiped."""
    wiped = fold(EMPTY, [written(file_record(rows=1), 1, at_us=10), Wipe(ORGS, 20)])
    again = written(file_record(rows=2), 1, at_us=30)

    for known in (wiped, adopt(wiped, fold(EMPTY, [Wipe(ORGS, 20)]))):
        assert table(fold(known, [again])).files["rows"].to_pylist() == [2]
    assert seen(fold(EMPTY, [again, Wipe(ORGS, 20), written(file_record(rows=1), 1, at_us=10)])) == seen(
        fold(wiped, [again])
    )


def test_a_lower_id_that_is_given_again_after_a_wipe_is_shown(file_record: Record) -> None:
    """A full read of SQLite does not have the wiped events any more, whose ids are higher."""
    wiped = fold(EMPTY, [written(file_record(rows=1), 7, at_us=10), Wipe(ORGS, 20)])
    read_anew = adopt(wiped, fold(EMPTY, [Wipe(ORGS, 20)]))

    assert table(fold(read_anew, [written(file_record(rows=2), 5, at_us=30)])).files["rows"].to_pylist() == [2]


def test_an_id_that_is_given_again_counts_for_events_without_a_file(file_record: Record) -> None:
    named = written(file_record(rows=1), 1, at_us=10)
    told = fold(fold(EMPTY, [named]), [named._replace(file=None, at_us=30)])
    assert [str(warning) for warning in table(told).warnings] != []
    assert [*table(fold(told, [written(file_record(rows=2), 1, at_us=40)])).warnings] == []

"""Any order and any repetition of the events gives the same snapshot, and a small fold costs little."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_query.catalog.fold import adopt, fold
from dagfusion_query.catalog.naming import TableName
from dagfusion_query.errors import MalformedRecordError
from dagfusion_query.event_log.protocol import Event, Materialization, Wipe
from dagfusion_query.event_log.record import DataFile
from tests.query.folding import EMPTY, NAME, ORGS, Record, column, schema, seen, table, written

KEYS = (ORGS, ("Silver", "TaxID", "Orgs"), ("Gold", "x"))
COLUMNS = (
    schema(column("x", "int32")),
    schema(column("x", "int64"), column("y", "string")),
    schema(column("x", "string")),
)


@st.composite
def histories(draw: st.DrawFn, record: Record) -> list[Event]:
    events: list[Event] = []
    for event_id in range(1, draw(st.integers(1, 12)) + 1):
        key = draw(st.sampled_from(KEYS))
        at_us = draw(st.integers(1, 12))
        kind = draw(st.sampled_from(["file", "file", "file", "file", "wipe", "bare", "refused", "unreadable"]))
        state = draw(st.sampled_from(["CA", "NY", "TX"]))
        if kind == "wipe":
            events.append(Wipe(key, at_us))
            continue
        change = {"modified": "never"} if kind == "unreadable" else {}
        file = record(state, schema=draw(st.sampled_from(COLUMNS)), columns={}, rows=event_id, **change)
        event = written(file, event_id, key, at_us)
        if kind == "bare":
            event = event._replace(file=None)
        elif kind == "refused":
            event = event._replace(file=MalformedRecordError(f"refused {event_id}"))
        events.append(event)
    return events


def expected_ids(events: Sequence[Event], key: tuple[str, ...]) -> set[int]:
    """What counts, worked out one event at a time."""
    wiped_at = max((e.at_us for e in events if isinstance(e, Wipe) and e.asset_key == key), default=0)
    latest: dict[str | None, Materialization] = {}
    for event in events:
        if isinstance(event, Materialization) and event.asset_key == key:
            known = latest.get(event.partition_key, event)
            latest[event.partition_key] = max(known, event, key=lambda e: e.event_id)
    readable = (e for e in latest.values() if isinstance(e.file, DataFile) and e.file.modified != "never")
    return {event.event_id for event in readable if event.at_us > wiped_at}


@settings(max_examples=300)
@given(data=st.data())
def test_any_order_and_repetition_gives_the_same_snapshot(file_record: Record, data: st.DataObject) -> None:
    events = data.draw(histories(file_record))
    snapshot = fold(EMPTY, events)
    for key in KEYS:
        live = snapshot.ledgers[key].segments if key in snapshot.ledgers else ()
        ids = {event_id for segment in live for rows in segment.live() for event_id in rows["event_id"].to_pylist()}
        assert ids == expected_ids(events, key)
    replayed = EMPTY
    order = data.draw(st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=5))))
    while order:
        size = data.draw(st.integers(1, len(order)))
        replayed, order = fold(replayed, order[:size]), order[size:]
    assert seen(replayed) == seen(snapshot)
    assert fold(replayed, events) is replayed
    assert adopt(replayed, snapshot) is replayed


@settings(max_examples=20)
@given(data=st.data())
def test_many_small_folds_are_compacted_to_the_same(file_record: Record, data: st.DataObject) -> None:
    states = data.draw(st.lists(st.sampled_from([f"S{i}" for i in range(60)]), min_size=1, max_size=150))
    events = [written(file_record(state, rows=i), i) for i, state in enumerate(states, 1)]
    one_by_one = EMPTY
    for event in events:
        one_by_one = fold(one_by_one, [event])
    assert seen(one_by_one) == seen(fold(EMPTY, events))
    assert len(one_by_one.ledgers[ORGS].segments) <= 16


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


def test_adopting_a_full_sync_keeps_what_holds_the_same(file_record: Record) -> None:
    other, gone = ("Silver", "other"), ("Silver", "gone")
    events = [written(file_record(), 1), written(file_record(), 2, other), written(file_record(), 3, gone)]
    old = fold(EMPTY, events)
    new = fold(EMPTY, [events[0], written(file_record("NY"), 4, other)])
    adopted = adopt(old, new)
    assert adopted.generation == old.generation + 1
    assert adopted.tables[NAME] is old.tables[NAME]
    assert seen(adopted) == seen(new)
    assert TableName("uat_silver", "gone") not in adopted.tables

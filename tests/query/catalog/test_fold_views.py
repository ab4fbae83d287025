"""Views in the fold: the last publication counts, unless a later event names a file, in any order of the events."""

from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_contract.naming import TableName
from dagfusion_contract.record import DataFile
from dagfusion_contract.tombstone import Tombstone
from dagfusion_contract.view import View
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import PublishedView, Snapshot
from dagfusion_query.event_log.event_log_interface import Event, Materialization, Wipe
from tests.query.catalog.folding import EMPTY, NAME, ORGS, Record, check_replays, table, written
from tests.tiers import examples

COLUMNS = pa.schema({"n": pa.int64()})


def published(event_id: int, at_us: int | None = None, partition_key: str | None = None) -> Materialization:
    view = View(f"SELECT {event_id} AS n", (TableName("uat_silver", "t"),), COLUMNS)
    return Materialization(ORGS, event_id, partition_key, event_id * 1000 if at_us is None else at_us, "run", view)


@st.composite
def histories(draw: st.DrawFn, record: Record) -> list[Event]:
    """Events of one asset: views, files of the whole asset and of a partition, events without a file, wipes."""
    events: list[Event] = []
    for event_id in range(1, draw(st.integers(1, 10)) + 1):
        at_us = draw(st.integers(1, 10))
        kind = draw(
            st.sampled_from(["view", "view", "file", "partition", "partition view", "fileless", "tombstone", "wipe"])
        )
        if kind == "wipe":
            events.append(Wipe(ORGS, at_us))
        elif "view" in kind:
            events.append(published(event_id, at_us, "CA" if kind == "partition view" else None))
        else:
            partition = [{"name": "state", "type": "string", "value": "CA"}] if kind == "partition" else []
            event = written(record(partition=partition, rows=event_id), event_id, at_us=at_us)
            given = {"fileless": None, "tombstone": Tombstone("wiped")}
            events.append(event._replace(file=given.get(kind, event.file)))
    return events


def expected(events: Sequence[Event]) -> int | None:
    """Return the id of the event whose view is shown."""
    wiped_at = max((event.at_us for event in events if isinstance(event, Wipe)), default=0)
    latest: dict[str | None, Materialization] = {}
    for event in events:
        if isinstance(event, Materialization) and event.file is not None:
            if isinstance(event.file, View) and event.partition_key is not None:
                continue
            latest[event.partition_key] = max(latest.get(event.partition_key, event), event, key=lambda e: e.event_id)
    counting = [event for event in latest.values() if event.at_us > wiped_at]
    views = [event.event_id for event in counting if isinstance(event.file, View)]
    files = [event.event_id for event in counting if isinstance(event.file, DataFile)]
    return views[0] if views and views[0] > max(files, default=0) else None


def shown(snapshot: Snapshot) -> int | None:
    found = snapshot.tables.get(NAME)
    return None if found is None or found.view is None else found.view.event_id


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(300))
@given(data=st.data())
def test_any_order_and_repetition_gives_the_same_view(file_record: Record, data: st.DataObject) -> None:
    events = data.draw(histories(file_record))
    snapshot = fold(EMPTY, events)
    assert shown(snapshot) == expected(events)

    check_replays(data, events, snapshot)


def test_a_view_has_the_columns_of_its_record_and_no_files() -> None:
    event = published(7)
    found = table(fold(EMPTY, [event]))
    assert isinstance(event.file, View)

    assert (found.file_schema, len(found.files), found.problem) == (COLUMNS, 0, None)
    assert found.view == PublishedView(7, 7000, "run", event.file)


def test_a_view_that_changes_is_another_table() -> None:
    first = fold(EMPTY, [published(1)])

    assert table(fold(first, [published(2)])).schema_id != table(first).schema_id
    assert fold(first, [published(1)]) is first

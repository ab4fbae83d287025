"""Two merged snapshots are the snapshot of all events that either of them has read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagfusion_client.errors import MalformedRecordError
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot_merge import merge, restrict
from dagfusion_query.event_log.event_log_interface import Consolidation, Event
from tests.query.catalog.folding import EMPTY, ORGS, Record, seen, table, written
from tests.query.catalog.test_fold_order import check, histories
from tests.tiers import examples


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(100))
@given(data=st.data())
def test_a_merge_is_the_fold_of_the_events_of_both(file_record: Record, data: st.DataObject) -> None:
    events = data.draw(histories(file_record))
    known = [data.draw(st.sampled_from(["one", "other", "both"])) for _ in events]

    def part(name: str) -> list[Event]:
        return [event for event, whose in zip(events, known, strict=True) if whose in (name, "both")]

    one, other = fold(EMPTY, part("one")), fold(EMPTY, part("other"))
    merged = merge(one, other)
    whole = fold(EMPTY, events)
    check(merged, events)
    assert seen(merged) == seen(whole) == seen(merge(other, one))
    assert seen(fold(merged, events)) == seen(whole)
    assert merge(merged, one) is merged
    assert merge(merged, whole) is merged


def test_a_file_that_can_be_read_replaces_the_refusal_of_its_event(file_record: Record) -> None:
    event = written(file_record("CA"), 7)
    refused, read = fold(EMPTY, [event._replace(file=MalformedRecordError("no"))]), fold(EMPTY, [event])
    assert seen(merge(refused, read)) == seen(read)
    assert merge(read, refused) is read


def test_the_latest_consolidations_are_kept(file_record: Record) -> None:
    events = [written(file_record("CA"), 1), written(file_record("NY"), 2)]
    known = [Consolidation(ORGS, number, number, "run", ()) for number in (3, 4)]
    one, other = fold(EMPTY, [*events, known[0]]), fold(EMPTY, [*events, known[1]])
    assert seen(merge(one, other)) == seen(fold(EMPTY, [*events, *known]))


def states(snapshot: Snapshot) -> list[str]:
    return sorted(table(snapshot).files["partition_key"].to_pylist())


def test_what_is_not_shared_is_left_out(file_record: Record) -> None:
    other_bucket = written(file_record("TX", uri="s3://other/x.parquet"), 3)
    events = [written(file_record("CA"), 1), written(file_record("NY"), 2), other_bucket]
    snapshot = fold(EMPTY, events)

    def kept(last: int | None = None, bucket: str | None = None, key: tuple[str, ...] = ORGS) -> Snapshot:
        return merge(EMPTY, restrict(snapshot, {key}, last, bucket))

    assert states(kept()) == states(snapshot)
    assert len(states(kept(1))) == 1
    assert len(states(kept(bucket="bucket"))) + 1 == len(states(snapshot))
    assert not kept(key=("another",)).tables

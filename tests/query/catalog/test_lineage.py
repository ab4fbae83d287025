"""Whether a snapshot is of an event log, by the events that both have."""

from hypothesis import given
from hypothesis import strategies as st

from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.snapshot_merge import compare_events, is_same_database, sample_events
from dagfusion_query.event_log.event_log_interface import Evidence, Mark
from tests.query.catalog.folding import EMPTY, Record, written

SAMPLED = {number: Mark("run", number) for number in (3, 7, 9)}


def found(*event_ids: int, highest: int = 9, others: tuple[int, ...] = ()) -> Evidence:
    marks = {number: SAMPLED[number] for number in event_ids}
    return Evidence(marks | {number: Mark("another", 1) for number in others}, highest)


def test_a_log_with_the_last_event_is_the_same_on_any_server() -> None:
    for is_same in (True, False):
        assert compare_events(SAMPLED, found(9), is_same_database=is_same) == (True, None, None)


def test_a_purged_log_is_the_same_in_its_database_only() -> None:
    assert compare_events(SAMPLED, found(highest=20), is_same_database=True).is_same
    compared = compare_events(SAMPLED, found(highest=20), is_same_database=False)
    assert (compared.is_same, compared.why) == (
        False,
        "it is of another database, which has none of its events up to 9",
    )


def test_a_log_that_was_set_back_shares_what_came_before() -> None:
    ends = compare_events(SAMPLED, found(3, 7, highest=8), is_same_database=True)
    assert ends == (True, 7, "the event log ends at 8: the event log was restored to event 7")
    again = compare_events(SAMPLED, found(3, highest=30, others=(7,)), is_same_database=True)
    assert again == (True, 3, "event 7 is another event now: the event log was restored to event 3")


def test_an_event_after_one_that_differs_proves_nothing() -> None:
    assert compare_events(SAMPLED, found(3, 9, highest=30, others=(7,)), is_same_database=True).last_event_id == 3


def test_a_log_that_was_set_back_and_purged_shares_nothing() -> None:
    compared = compare_events(SAMPLED, found(highest=8), is_same_database=True)
    assert (compared.is_same, compared.last_event_id) == (False, None)
    assert "ends at 8, and none of the events up to 9" in str(compared.why)


def test_an_empty_snapshot_is_of_its_database() -> None:
    assert compare_events({}, Evidence({}, 0), is_same_database=True).is_same
    assert not compare_events({}, Evidence({}, 0), is_same_database=False).is_same


def test_the_rules_of_reading_are_no_part_of_a_database() -> None:
    assert is_same_database("7/16384/24/uri|s3://lake/", "7/16384/24/path")
    assert not is_same_database("7/16384/24/uri", "7/16385/24/uri")


@given(ids=st.sets(st.integers(1, 10_000), min_size=1, max_size=400))
def test_the_sample_has_the_first_and_the_latest_events(file_record: Record, ids: set[int]) -> None:
    event = written(file_record(), 1)
    events = [event._replace(event_id=number, partition_key=f"p{number}", at_us=number) for number in ids]
    sampled = sample_events(fold(EMPTY, events))
    latest = sorted(ids)[-64:]
    assert set(latest) | {min(ids)} <= sampled.keys() <= ids
    assert len(sampled) <= 64 + 129
    assert all(mark == Mark("run", number) for number, mark in sampled.items())

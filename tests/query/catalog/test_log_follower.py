"""When a follower verifies and reads in full, and what it does with a stored snapshot; over an event log in memory."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_client.errors import EventLogUnavailableError, SnapshotError
from dagfusion_query.catalog import log_follower
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.log_follower import FullReadSchedule, LogFollower
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot import Stored
from dagfusion_query.discovery import Discovery
from dagfusion_query.event_log.event_log_interface import Cursor, Event, Poll, Watermark
from tests.query.catalog.folding import EMPTY, Record, seen, written
from tests.query.catalog.following import Clock, PartialLog

VERIFY_S, FULL_READ_S = 60.0, 3600.0


class MemoryLog(PartialLog):
    """An event log that holds its events, and notes the calls."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = [*events]
        self.calls: list[str] = []
        self.mismatch: str | None = None
        self.failing = ""  # the method that fails

    def _note(self, call: str) -> None:
        if call == self.failing:
            raise EventLogUnavailableError("the event log is down")
        self.calls.append(call)

    def identity(self) -> str:
        self._note("identity")
        return "this"

    def read_all(self, receive: Callable[[Sequence[Event]], None]) -> Cursor:
        self._note("read_all")
        receive(self.events)
        return self._cursor()

    def poll(self, cursor: Cursor) -> Poll:
        self._note("poll")
        return Poll(self.events[cursor.watermark.settled :], self._cursor())

    def verify(self, cursor: Cursor) -> str | None:  # noqa: ARG002  # of the protocol
        self._note("verify")
        return self.mismatch

    def close(self) -> None:
        raise AssertionError("a follower does not close its event log")

    def _cursor(self) -> Cursor:
        return Cursor(Watermark(len(self.events)), {})

    def take_calls(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, log_follower.__name__)


def reasons(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return why the full reads were made, as the log has it."""
    whole = "read the event log in full: "
    return [text.removeprefix(whole) for text in caplog.messages if text.startswith(whole)]


def following(log: MemoryLog, clock: Clock, discovery: Any = None) -> LogFollower:
    schedule = FullReadSchedule(VERIFY_S, FULL_READ_S, clock(), clock())
    found = cast("Discovery | None", discovery)
    return LogFollower(log, "uat", schedule, lambda snapshot: snapshot, discovery=found, clock=clock)


def stored(events: Sequence[Event], identity: str) -> Stored:
    return Stored(fold(Snapshot(6, "uat"), events), Cursor(Watermark(len(events)), {}), identity)


@pytest.fixture
def log(file_record: Record) -> MemoryLog:
    return MemoryLog([written(file_record("CA"), 1), written(file_record("NY"), 2)])


@given(steps=st.lists(st.integers(0, 2 * int(FULL_READ_S)), max_size=20))
def test_verifications_and_full_reads_come_when_they_are_due(steps: list[int]) -> None:
    clock, log = Clock(), MemoryLog([])
    follower = following(log, clock)
    follower.read()
    assert log.take_calls() == ["identity", "read_all"]
    verified = read_at = clock()
    for step in steps:
        clock.now += step
        expected = ["poll"]
        if clock() - verified >= VERIFY_S:
            expected.append("verify")
            verified = clock()
        if clock() - read_at >= FULL_READ_S:
            expected.append("read_all")
            verified = read_at = clock()
        follower.read()
        assert log.take_calls() == expected


def test_what_is_new_is_folded_and_nothing_new_is_no_change(log: MemoryLog, file_record: Record) -> None:
    follower = following(log, Clock())
    assert follower.read().changed
    assert not follower.read().changed
    log.events.append(written(file_record("CA", rows=9), 3))
    latest, changed = follower.read()
    assert changed
    assert latest.snapshot is follower.snapshot
    assert seen(follower.snapshot) == seen(fold(EMPTY, log.events))
    assert (latest.identity, latest.cursor.watermark.settled) == ("this", 3)


def test_a_snapshot_of_an_older_version_is_read_anew_once(log: MemoryLog) -> None:
    """That version may have passed over events of a kind that it did not know."""
    follower = following(log, Clock())
    follower.resume(replace(stored(log.events[:1], "this"), is_current=False))

    follower.read()
    follower.read()

    assert log.take_calls() == ["identity", "read_all", "poll"]
    assert seen(follower.snapshot) == seen(fold(EMPTY, log.events))


def test_a_full_read_that_fails_stays_due_for_the_same_reason(log: MemoryLog, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    follower = following(log, clock)
    follower.read()
    clock.now += VERIFY_S
    log.mismatch = "2 events were read, now there is 1"
    log.failing = "read_all"
    with pytest.raises(EventLogUnavailableError):
        follower.read()
    assert (follower.full_reads, reasons(caplog)[-1]) == (1, "there is no snapshot yet")
    log.failing = ""
    log.take_calls()
    follower.read()
    assert log.take_calls() == ["read_all"]
    assert (follower.full_reads, reasons(caplog)[-1]) == (2, "2 events were read, now there is 1")


def test_a_stored_snapshot_is_verified_once(log: MemoryLog, caplog: pytest.LogCaptureFixture) -> None:
    follower = following(log, Clock())
    follower.resume(stored(log.events, "this"))
    before = follower.snapshot
    log.failing = "verify"
    with pytest.raises(EventLogUnavailableError):
        follower.read()
    log.failing = ""
    log.take_calls()
    for expected in (["identity", "verify", "poll"], ["poll"]):
        assert not follower.read().changed
        assert log.take_calls() == expected
    assert follower.snapshot is before
    assert (follower.full_reads, reasons(caplog)) == (0, [])


class FailingOnce:
    """A discovery one of whose methods fails once.

    Args:
        failing: The method.
    """

    def __init__(self, failing: str) -> None:
        self.failing = failing
        self.resumed: list[bool] = []

    def _fail(self, method: str) -> None:
        if method == self.failing:
            self.failing = ""
            raise SnapshotError("the cache of records is locked")

    def recognise(self, identity: str, *, resume: bool) -> None:  # noqa: ARG002  # of `Discovery`
        self.resumed.append(resume)
        self._fail("recognise")

    def start_full_read(self) -> None:
        self._fail("start_full_read")

    def end_full_read(self) -> None:
        self._fail("end_full_read")

    def resolve(self, events: Sequence[Event]) -> Sequence[Event]:
        self._fail("resolve")
        return events

    def take(self) -> list[Event]:
        self._fail("take")
        return []


@pytest.mark.parametrize("failing", ["start_full_read", "resolve", "end_full_read"])
def test_a_full_read_whose_records_cannot_be_kept_stays_due(
    log: MemoryLog, file_record: Record, failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    discovery = FailingOnce("")
    follower = following(log, clock, discovery)
    follower.read()
    clock.now += VERIFY_S
    log.mismatch = "2 events were read, now there is 1"
    log.events[1] = written(file_record("TX"), 3)  # the event log was restored: a poll would not see this
    discovery.failing = failing
    with pytest.raises(SnapshotError):
        follower.read()
    assert (follower.full_reads, reasons(caplog)[-1]) == (1, "there is no snapshot yet")
    log.mismatch = None
    follower.read()
    assert (follower.full_reads, reasons(caplog)[-1]) == (2, "2 events were read, now there is 1")
    assert seen(follower.snapshot) == seen(fold(EMPTY, log.events))


@pytest.mark.parametrize("failing", ["resolve", "take"])
def test_events_whose_records_cannot_be_read_are_read_again(log: MemoryLog, file_record: Record, failing: str) -> None:
    discovery = FailingOnce("")
    follower = following(log, Clock(), discovery)
    follower.read()
    log.events.append(written(file_record("TX"), 3))
    discovery.failing = failing
    with pytest.raises(SnapshotError):
        follower.read()
    assert follower.read().changed
    assert seen(follower.snapshot) == seen(fold(EMPTY, log.events))


def test_a_snapshot_of_another_event_log_is_never_continued(
    log: MemoryLog, file_record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = FailingOnce("recognise")
    follower = following(log, Clock(), discovery)
    other = stored([written(file_record("TX"), 1), *log.events[1:]], "other")
    follower.resume(other)
    with pytest.raises(SnapshotError):
        follower.read()
    latest, changed = follower.read()
    assert changed
    assert discovery.resumed == [False, False]
    assert (follower.full_reads, reasons(caplog)[-1]) == (1, "the snapshot is of another event log")
    assert latest.snapshot.generation > other.snapshot.generation
    assert seen(latest.snapshot) == seen(fold(EMPTY, log.events))

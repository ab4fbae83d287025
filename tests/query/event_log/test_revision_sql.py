"""The revisions of an asset: the records of a run are read once, and only those of all of its events count."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from dagfusion_contract.tombstone import Tombstone
from dagfusion_query.event_log import revision_sql
from dagfusion_query.event_log.event_log_interface import Materialization
from dagfusion_query.event_log.event_log_sql import Dialect
from dagfusion_query.event_log.revision_sql import KnownRuns, find_revisions
from tests.interop.iceberg.reading import Part, record
from tests.query.catalog.folding import READER

DIALECT = Dialect("{}", "instr", ":{}", "", "")
KEY = ("a",)


def event(number: int, run: str, rows: int | None, partition: str | None = None) -> Materialization:
    """A materialization; a tombstone if it has no rows."""
    file = Tombstone("wiped") if rows is None else READER.read(record(number, Part((), {"n": "int64"}, {}, rows), {}))
    return Materialization(KEY, number, partition or f"P{number}", number, run, file)


class Events:
    """An event log of one asset.

    Attributes:
        read: The events that were read, by call.
        lost: Events that are counted, and cannot be read.
    """

    def __init__(self, *events: Materialization) -> None:
        self.events, self.known = [*events], KnownRuns()
        self.read: list[list[int]] = []
        self.lost = set[int]()

    def revisions(self, limit: int = 10) -> list[tuple[int, int | None, bool]]:
        """Last event, rows and kind of the latest revisions."""
        found = find_revisions(self._run, DIALECT, KEY, limit, self._between, known=self.known)
        return [(one.event_id, one.rows, one.is_wipe) for one in found]

    def _run(self, statement: str, params: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        if "with runs" not in statement:
            return []
        runs: dict[str | int, list[Materialization]] = {}
        for one in self.events:
            runs.setdefault(one.run_id or one.event_id, []).append(one)
        found = [
            (some[0].event_id, some[-1].event_id, some[-1].at_us, some[0].at_us, some[0].run_id, 1, len(some))
            for some in runs.values()
        ]
        return sorted(found, key=lambda row: -row[1])[: params["most"]]

    def _between(self, first: int, last: int) -> Iterator[Materialization]:
        found = [one for one in self.events if first <= one.event_id <= last and one.event_id not in self.lost]
        self.read.append([one.event_id for one in found])
        yield from found


def test_what_a_run_wrote_is_read_once() -> None:
    log = Events(event(1, "a", 3), event(2, "a", 4), event(3, "b", None))
    assert log.revisions() == [(3, 0, True), (2, 7, False)]
    log.events.append(event(4, "", 5))
    assert log.revisions() == [(4, 5, False), (3, 0, True), (2, 7, False)]
    log.events.append(event(5, "b", 2))
    assert log.revisions() == [(5, 2, False), (4, 5, False), (2, 7, False)]
    assert log.revisions(1) == [(5, 2, False)]
    assert log.read == [[1, 2, 3], [4], [3, 4, 5]]


def test_a_run_that_is_not_read_whole_has_unknown_rows() -> None:
    """The first run began before the events that are read, and its first event was deleted in the third."""
    log = Events(event(1, "a", 3), event(2, "b", 4), event(3, "a", 5), event(4, "c", 6, "P"), event(5, "c", 7, "P"))
    assert log.revisions() == [(5, 7, False), (3, 8, False), (2, 4, False)]
    log.events = [*log.events[1:3], log.events[4]]
    assert log.revisions() == [(5, 7, False), (3, 5, False), (2, 4, False)]


def test_a_run_of_which_an_event_cannot_be_read_has_unknown_rows() -> None:
    log = Events(event(1, "a", 3), event(2, "a", 4), event(3, "b", 5))
    log.lost = {1}
    assert log.revisions() == [(3, 5, False), (2, None, False)]
    log.lost = set()
    assert log.revisions() == [(3, 5, False), (2, 7, False)]


def test_events_of_other_runs_between_are_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[int] = []
    by_run = revision_sql._by_run

    def watched(events: Iterable[Materialization]) -> Iterable[list[Materialization]]:
        found = [*events]
        collected.extend(event.event_id for event in found)
        return by_run(found)

    monkeypatch.setattr(revision_sql, "_by_run", watched)
    log = Events(event(1, "a", 1), *(event(number, "b", number) for number in range(2, 50)), event(50, "a", 2))
    assert log.revisions(1) == [(50, 3, False)]
    assert collected == [1, 50]


def test_old_runs_over_many_partitions_have_unknown_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision_sql, "_COUNTED_EVENTS", 3)
    log = Events(event(1, "a", 1), event(2, "b", 2), event(3, "a", 3), event(4, "b", 4))
    assert log.revisions() == [(4, 6, False), (3, None, False)]
    assert log.revisions() == [(4, 6, False), (3, None, False)]
    assert log.read == [[2, 3, 4]]


def test_few_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision_sql, "_KNOWN_RUNS", 2)
    log = Events(*(event(number, "", number) for number in (1, 2, 3)))
    for _ in range(2):
        assert log.revisions() == [(3, 3, False), (2, 2, False), (1, 1, False)]

"""Versions of tables that add, replace and lose files: what is read is what the catalog has, and little is written."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import obstore
import pytest

from dagfusion_client.errors import StoreUnavailableError
from dagfusion_contract.tombstone import Tombstone
from dagfusion_interop.iceberg.iceberg_manifest import ManifestEncoder
from dagfusion_interop.iceberg.publisher import Published, Publisher
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import Event, Materialization
from dagfusion_query.event_log.stored_event import DataFiles
from dagfusion_query.settings import Settings
from tests.interop.iceberg.reading import Part, bounds_of, data_files, folded, manifests, only, opened, publish, record
from tests.query.catalog.folding import EMPTY, ORGS, READER, written
from tests.tiers import examples

KINDS = {"state": "string", "day": "date32[day]"}
FIRST_DAY = dt.date(2024, 1, 1)
SMALL = {"MAX_FILES": 8, "_MIN_FILES": 4, "_BLOCK_FILES": 3, "_RANGE_FILES": 24, "_NEW_SHARE": 4, "_LEAST_NEW": 4}


@contextmanager
def small_groups(**more: int) -> Iterator[None]:
    """Groups of few files, so that tables of few files have all kinds of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (SMALL | more).items():
            patch.setattr(f"dagfusion_interop.iceberg.file_groups.{name}", value)
        yield


def part(state: str | None, day: int, number: int, *, is_wide: bool = False) -> Part:
    """An object; a number of it that was used before replaces an object of this name."""
    stats = {"n": {"min": number, "max": number + 5, "nulls": 0}}
    more = {"more": {"nulls": 1}} if is_wide else {}
    columns = {"n": "int32", **dict.fromkeys(more, "string")}
    values = (state, (FIRST_DAY + dt.timedelta(day)).isoformat())
    return Part(values, columns, stats | more, rows=3 + number % 4, number=number)


def catalog_files(snapshot: Snapshot) -> list[dict[str, Any]]:
    """What manifests say of each file of a table, as the catalog has it."""
    found = []
    for row in only(snapshot).files.sort_by("uri").to_pylist():
        bounds = {name: (of["min"], of["max"], of["nulls"]) for name, of in row["stats"].items()}
        partition = [row["partition"]["state"], (row["partition"]["day"] - dt.date(1970, 1, 1)).days]
        found.append({name: row[name] for name in ("uri", "rows", "size_bytes")} | {"at": partition, "bounds": bounds})
    return found


def iceberg_files(published: Published) -> list[dict[str, Any]]:
    """The same as PyIceberg reads it."""
    return [
        {
            "uri": file.file_path,
            "rows": file.record_count,
            "size_bytes": file.file_size_in_bytes,
            "at": [file.partition[0], file.partition[1]],
            "bounds": dict(bounds_of(published, file)),
        }
        for file in data_files(published)
    ]


keys = st.tuples(st.sampled_from(["CA", "NY", "TX", "%", None]), st.integers(0, 12))
Step = tuple[str, Sequence[tuple[str | None, int]]]
steps: st.SearchStrategy[Step] = st.one_of(
    st.tuples(st.just("add"), st.lists(keys, min_size=1, max_size=25, unique=True)),
    st.tuples(st.just("wipe"), st.lists(keys, min_size=1, max_size=10, unique=True)),
    st.tuples(st.just("folder"), st.lists(keys, min_size=1, max_size=8)),
    st.tuples(st.sampled_from(["widen", "restart", "read again"]), st.just([])),
)


class Log:
    """An event log of a table, and its catalog."""

    def __init__(self, *, is_stable: bool) -> None:
        self.events: list[Event] = []
        self.snapshot, self.event_id = EMPTY, 0
        self._is_stable, self._is_wide = is_stable, False

    def take(self, step: Step, gap: int) -> None:
        kind, some = step
        if kind == "widen":
            self._is_wide = True
        elif kind == "read again":
            self.snapshot = fold(EMPTY, self.events)
        events = [*self._events(kind, some, gap)]
        self.events += events
        self.snapshot = fold(self.snapshot, events)

    def _events(self, kind: str, some: Sequence[tuple[str | None, int]], gap: int) -> Iterator[Event]:
        if kind == "folder" and some:  # one event with several files
            self.event_id += gap
            first = 1_000_000 + 100 * self.event_id  # no other file has these numbers
            parts = (self._part(*key, number) for number, key in enumerate(some, first))
            records = (record(0, one, KINDS) for one in parts)
            files = DataFiles([READER.read(one) for one in records])
            yield Materialization(ORGS, self.event_id, "folder", self.event_id, "run", files)
        for number, key in enumerate(some if kind in ("add", "wipe") else ()):
            self.event_id += gap if number % 3 else 1
            stable = 1 + 20 * key[1] + ["CA", "NY", "TX", "%", None].index(key[0])
            made = self._part(*key, stable if self._is_stable else 1000 + self.event_id)
            event = written(record(0, made, KINDS), self.event_id)
            yield event if kind == "add" else event._replace(file=Tombstone("of the test"))

    def _part(self, state: str | None, day: int, number: int) -> Part:
        return part(state, day, number, is_wide=self._is_wide)


@hypothesis.given(
    st.data(),
    st.sampled_from(["stable", "per_run"]),
    st.lists(steps, min_size=2, max_size=7),
    st.sampled_from([1, 7, 1000]),
)
@hypothesis.settings(max_examples=examples(40))
@pytest.mark.usefixtures("heavy")
def test_services_with_different_pasts_have_the_files_of_the_catalog(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, naming: str, steps: list[Step], gap: int
) -> None:
    folder = tmp_path_factory.mktemp("versions")
    services = [Publisher(f"file://{folder}", Settings()) for _ in range(2)]
    log = Log(is_stable=naming == "stable")
    with small_groups():
        for step in steps:
            log.take(step, gap)
            number = data.draw(st.integers(0, 1))
            if step[0] == "restart":
                services[number].close()
                services[number] = Publisher(f"file://{folder}", Settings())
            if not log.snapshot.tables:
                continue
            puts = data.draw(st.none() | st.integers(0, 3))
            if puts is not None:
                check_crash(services[number], log.snapshot, folder, puts)
            published = publish(services[number], log.snapshot)
            assert iceberg_files(published) == catalog_files(log.snapshot)
        if log.snapshot.tables:
            found = [publish(service, log.snapshot) for service in services]
            new = Publisher(f"file://{folder}", Settings())
            found.append(publish(new, fold(EMPTY, log.events)))
            new.close()
            assert len({one.snapshot_id for one in found}) == 1
            assert len({one.snapshot.list_uri for one in found}) == 1
    for service in services:
        service.close()


@pytest.mark.parametrize("leading", ["state", "hour"])
def test_the_hours_of_a_night_in_autumn_are_apart(tmp_path: Path, leading: str) -> None:
    """Two hours of a zone have one local time; they are in different blocks, and the later one is in the bounds."""
    kinds = {"state": "string", "hour": "timestamp[us, tz=Europe/Berlin]"}
    hours = [dt.datetime(2024, 10, 26, 18, tzinfo=dt.UTC) + dt.timedelta(hours=hour) for hour in range(8)]  # to 01:00
    order = [leading, *(kinds.keys() - {leading})]
    parts = [
        Part(tuple({"state": state, "hour": f"{hour:%Y-%m-%dT%H:%M:%S}Z"}[name] for name in order), {}, {}, 3)
        for hour in hours
        for state in ("CA", "NY", "TX")
    ]
    for first in range(1, 9):  # blocks begin at other files
        service = Publisher(f"file://{tmp_path / str(first)}", Settings())
        with small_groups():
            snapshot = folded(parts, {name: kinds[name] for name in order}, first=first)
            table = opened(publish(service, snapshot))
        service.close()
        for hour in hours:
            planned = [*table.scan(row_filter=f"hour = '{hour.isoformat()}'").plan_files()]
            assert len(planned) == 3, (first, hour)


def check_crash(service: Publisher, snapshot: Snapshot, folder: Path, puts: int) -> None:
    """Publish to a store that takes so many objects more; no version may be there but those that are whole."""
    before, left, real = set(folder.rglob("*.metadata.json")), [puts], obstore.put

    def put(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("the disk is full")
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(obstore, "put", put)
        try:
            published = publish(service, snapshot)
        except StoreUnavailableError:
            assert set(folder.rglob("*.metadata.json")) == before
        else:
            assert iceberg_files(published) == catalog_files(snapshot)


def test_an_older_version_that_a_statement_reads_pushes_no_other_one_out(publisher: Publisher) -> None:
    """A statement on Spark began with the first version, and others were loaded meanwhile."""
    states = [EMPTY]
    for event_id in range(1, 5):
        states.append(fold(states[-1], [written(record(0, part("CA", event_id, event_id), KINDS), event_id)]))
    first, *_, last = versions = [publish(publisher, state) for state in states[1:]]
    for _ in range(3):
        assert publish(publisher, states[1]).snapshot_id == first.snapshot_id
        assert publish(publisher, states[-1]).snapshot_id == last.snapshot_id
    for one in versions:
        assert publisher.recent(one.table.name, one.snapshot_id) is not None


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files were encoded, of each call."""
    real, found = ManifestEncoder.blocks, list[int]()

    def blocks(encoder: ManifestEncoder, files: Any, ends: Sequence[int]) -> Any:
        found.append(len(files))
        return real(encoder, files, ends)

    monkeypatch.setattr(ManifestEncoder, "blocks", blocks)
    return found


def test_the_work_of_a_version_follows_from_what_changed(publisher: Publisher, encoded: list[int]) -> None:
    """20 states of 60 days: manifests that are written, and files that are encoded, of each kind of change."""
    states = [f"S{number:02}" for number in range(20)]
    counts: dict[str, list[tuple[int, int]]] = {}
    snapshot, event_id, before = EMPTY, 0, set[str]()
    days = [("first", range(60)), *[("new", [day]) for day in range(60, 72)]]
    rewritten = [("rewritten", [20]), ("rewritten", [33]), ("again", [33]), ("again", [33]), ("all", range(72))]
    with small_groups(MAX_FILES=64, _MIN_FILES=16, _BLOCK_FILES=8, _RANGE_FILES=1024, _NEW_SHARE=8, _LEAST_NEW=64):
        for kind, some in [*days, *rewritten]:
            events = []
            for day in some:
                for state in states:
                    event_id += 1
                    events.append(written(record(0, part(state, day, event_id), KINDS), event_id))
            snapshot = fold(snapshot, events)
            encoded.clear()
            published = publish(publisher, snapshot)
            now = {manifest.manifest_path for manifest in manifests(published)}
            counts.setdefault(kind, []).append((len(now - before), sum(encoded)))
            before = now
    assert len(data_files(published)) == 20 * 72
    assert counts["first"][0][1] == 20 * 60
    assert sorted(counts["new"])[8] <= (2, 20 + 2 * 32), counts["new"]
    # New files that join the others are in as many manifests as there are states, and a block of each of these.
    assert max(files for _, files in counts["new"]) <= 64 + 128 + 20 * 8, counts["new"]
    assert all(files <= 20 + 20 * 8 + 64 + 128 for _, files in counts["rewritten"]), counts["rewritten"]
    assert all(made <= 20 + 12 for made, _ in counts["rewritten"]), counts["rewritten"]
    assert all(made <= 10 and files <= 128 for made, files in counts["again"]), counts["again"]
    assert counts["all"][0][1] == 20 * 72

"""A catalog that another process keeps is followed without a copy of what did not change."""

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dagfusion_client.errors import SnapshotError
from dagfusion_query.catalog import mapped_catalog
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.mapped_catalog import MappedCatalog, manifest_paths
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.event_log.event_log_interface import Cursor, Event, Materialization, Watermark, Wipe
from dagfusion_query.event_log.stored_event import EventReader

CURSOR = Cursor(Watermark(0, 0, 0), {})
KEYS = (("a", "one"), ("a", "two"))


@pytest.fixture
def event(file_record: Callable[..., dict[str, Any]]) -> Callable[..., Event]:
    reader = EventReader()

    def make(key: tuple[str, ...], number: int, state: str = "CA") -> Event:
        return Materialization(key, number, f"2024-01-15|{state}", number, "run", reader.read(file_record(state=state)))

    return make


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test knows never comes is not waited for as long as a reader would."""
    monkeypatch.setattr(mapped_catalog, "_WAIT_S", 0.05)


def contents(snapshot: Snapshot) -> dict[str, list[Any]]:
    return {
        str(name): sorted(table.files.select(["event_id", "partition_key"]).to_pylist(), key=str)
        for name, table in snapshot.tables.items()
    }


def test_what_is_mapped_is_what_was_written(tmp_path: Path, event: Callable[..., Event]) -> None:
    store, mapped = SnapshotStore(tmp_path), MappedCatalog(tmp_path, "uat")
    snapshot = Snapshot(0, "uat")
    for number in range(1, 6):
        news = [event(key, 10 * number + at, f"S{number % 3}") for at, key in enumerate(KEYS)]
        snapshot = store.save(fold(snapshot, news), CURSOR, "log")
        seen = mapped.at(snapshot.generation)
        assert (seen.generation, contents(seen)) == (snapshot.generation, contents(snapshot))
    wiped = store.save(fold(snapshot, [Wipe(KEYS[0], 10**9)]), CURSOR, "log")
    assert contents(mapped.at(wiped.generation)) == contents(wiped)


def test_a_process_sees_what_its_own_service_has_left(tmp_path: Path, event: Callable[..., Event]) -> None:
    """Two services over one folder, each of which has read as much of the event log as it has."""
    stores = [SnapshotStore(tmp_path) for _ in range(2)]
    workers = [MappedCatalog(tmp_path, "uat") for _ in range(2)]
    snapshots = [Snapshot(0, "uat") for _ in range(2)]
    generations = set[int]()
    for number in range(1, 13):
        one = number % 3 % 2  # one of them saves twice as often
        snapshots[one] = stores[one].save(fold(snapshots[one], [event(KEYS[one], number, f"S{number}")]), CURSOR, "log")
        seen = workers[one].at(snapshots[one].generation)
        assert (seen.generation, contents(seen)) == (snapshots[one].generation, contents(snapshots[one]))
        generations.add(seen.generation)
    assert len(generations) == 12


def test_a_process_goes_on_from_the_generation_that_it_has_loaded(tmp_path: Path, event: Callable[..., Event]) -> None:
    first = SnapshotStore(tmp_path).save(fold(Snapshot(0, "uat"), [event(KEYS[0], 1)]), CURSOR, "log")
    store = SnapshotStore(tmp_path)
    loaded = store.load("uat")
    assert loaded is not None
    second = store.save(fold(loaded.snapshot, [event(KEYS[0], 2)]), CURSOR, "log")
    assert second.generation == first.generation + 1


def test_what_did_not_change_is_the_same_object(tmp_path: Path, event: Callable[..., Event]) -> None:
    store, mapped = SnapshotStore(tmp_path), MappedCatalog(tmp_path, "uat")
    snapshot = store.save(fold(Snapshot(0, "uat"), [event(key, n) for n, key in enumerate(KEYS, 1)]), CURSOR, "log")
    before = mapped.at(snapshot.generation)
    assert mapped.at(snapshot.generation) is before
    assert mapped.at(0) is before

    snapshot = store.save(fold(snapshot, [event(KEYS[0], 9, "NY")]), CURSOR, "log")
    after = mapped.at(snapshot.generation)
    same = {name.table for name in after.tables if after.tables[name] is before.tables.get(name)}
    assert same == {"two"}


@pytest.mark.usefixtures("heavy")
def test_rows_are_mapped_not_read(tmp_path: Path, event: Callable[..., Event]) -> None:
    events = [event(KEYS[0], number, f"S{number}") for number in range(1, 20_000)]
    saved = SnapshotStore(tmp_path).save(fold(Snapshot(0, "uat"), events), CURSOR, "log")
    before = pa.total_allocated_bytes()
    table = next(iter(MappedCatalog(tmp_path, "uat").at(saved.generation).tables.values()))
    assert len(table.files) == 19_999
    assert pa.total_allocated_bytes() - before < table.files.nbytes / 10


@pytest.mark.usefixtures("impatient")
def test_a_generation_that_never_comes_is_an_error(tmp_path: Path, event: Callable[..., Event]) -> None:
    saved = SnapshotStore(tmp_path).save(fold(Snapshot(0, "uat"), [event(KEYS[0], 1)]), CURSOR, "log")
    with pytest.raises(SnapshotError, match=f"generation {saved.generation + 1}"):
        MappedCatalog(tmp_path, "uat").at(saved.generation + 1)
    with pytest.raises(SnapshotError, match="did not appear"):
        MappedCatalog(tmp_path / "nowhere", "uat").at(1)


def test_a_generation_that_comes_soon_is_waited_for(tmp_path: Path, event: Callable[..., Event]) -> None:
    store = SnapshotStore(tmp_path)
    snapshot = fold(Snapshot(0, "uat"), [event(KEYS[0], 1)])
    timer = threading.Timer(0.2, store.save, (snapshot, CURSOR, "log"))
    timer.start()
    assert contents(MappedCatalog(tmp_path, "uat").at(1)) == contents(snapshot)
    timer.join()


@pytest.mark.usefixtures("impatient")
def test_a_damaged_manifest_is_an_error(tmp_path: Path, event: Callable[..., Event]) -> None:
    SnapshotStore(tmp_path).save(fold(Snapshot(0, "uat"), [event(KEYS[0], 1)]), CURSOR, "log")
    path = manifest_paths(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(SnapshotError, match="cannot be used"):
        MappedCatalog(tmp_path, "uat").at(1)


def _write(folder: Path, records: list[dict[str, Any]], generations: int) -> None:
    store, reader, snapshot = SnapshotStore(folder), EventReader(), Snapshot(0, "uat")
    for number in range(1, generations + 1):
        record = reader.read(records[number % len(records)])
        news = [Materialization(KEYS[0], number, f"p{number % 7}", number, "run", record)]
        snapshot = store.save(fold(snapshot, news), CURSOR, "log")


@pytest.mark.usefixtures("processes")
def test_following_a_process_that_writes_without_a_pause(
    tmp_path: Path, file_record: Callable[..., dict[str, Any]]
) -> None:
    records = [file_record(state=state) for state in ("CA", "NY", "TX")]
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(tmp_path, records, 60))
    writer.start()
    mapped = MappedCatalog(tmp_path, "uat")
    seen: list[int] = []
    while not manifest_paths(tmp_path):
        writer.join(0.01)
    while not seen or seen[-1] < 60:
        snapshot = mapped.at(seen[-1] + 1 if seen else 1)
        (table,) = snapshot.tables.values()
        newest = max(table.files["event_id"].to_pylist())
        assert newest == snapshot.generation
        assert len(table.files) == min(7, snapshot.generation)
        seen.append(snapshot.generation)
    writer.join(10)
    assert seen == sorted(set(seen))

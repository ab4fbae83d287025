import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from dagfusion_client.errors import MalformedRecordError, SnapshotError
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot import SnapshotStore, SnapshotWriter, Stored
from dagfusion_query.event_log.event_log_interface import Cursor, Event, Materialization, Watermark, Wipe
from dagfusion_query.event_log.stored_event import EventReader
from tests.query.catalog.following import Clock

Record = Callable[..., dict[str, Any]]
CURSOR = Cursor(
    Watermark(41, 40, 1 << 80, frozenset({45, 43})),
    {'["a \\"b\\"", "ü"]': None, '["x"]': 5},
    verified=True,
    top="run 2024",
)
READER = EventReader()
VIEW = View("SELECT n FROM uat_silver.orgs", (TableName("uat_silver", "orgs"),), pa.schema({"n": pa.int8()}))


def event(record: dict[str, Any], event_id: int, key: tuple[str, ...] = ("Silver", "orgs")) -> Materialization:
    partition = "|".join(column["value"] for column in record["partition"]) or None
    return Materialization(key, event_id, partition, event_id, "run", READER.read(record))


@pytest.fixture
def snapshot(file_record: Record) -> Snapshot:
    other = {
        "fingerprint": "o",
        "fields": [
            {"name": "n", "type": {"list": {"name": "item", "type": "int8", "nullable": True}}, "nullable": True}
        ],
    }
    events: list[Event] = [
        event(file_record("CA", checksum=f"sha256:{'0f' * 32}"), 1),
        event(file_record("NY"), 2),
        event(file_record("TX", schema=other, columns={}), 3),
        event(file_record(partition=[]), 4, ("Gold", "ü")),
        Materialization(("Silver", "orgs"), 5, "bad", 5, "run", MalformedRecordError("it is bad")),
        event(file_record(), 6, ("gone",)),
        Wipe(("gone",), 7),
        Materialization(("Gold", "view"), 9, None, 9, "run", VIEW),
    ]
    return fold(fold(Snapshot(0, "uat"), events), [event(file_record("CA", rows=9, checksum=f"sha256:{'a0' * 32}"), 8)])


def same(one: Snapshot, other: Snapshot) -> bool:
    return one.tables.keys() == other.tables.keys() and all(
        one.tables[name].files.sort_by("event_id").equals(other.tables[name].files.sort_by("event_id"))
        and one.tables[name].file_schema == other.tables[name].file_schema
        and one.tables[name].partition_schema == other.tables[name].partition_schema
        and one.tables[name].schema_id == other.tables[name].schema_id
        and one.tables[name].view == other.tables[name].view
        and [str(w) for w in one.tables[name].warnings] == [str(w) for w in other.tables[name].warnings]
        for name in one.tables
    )


def segments(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "segments").iterdir()}


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path, snapshot: Snapshot) -> None:
    sealed = SnapshotStore(tmp_path).save(snapshot, CURSOR, "log 1")
    assert same(sealed, snapshot)
    assert sealed.generation == snapshot.generation
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert same(stored.snapshot, snapshot)
    assert stored.snapshot.generation == snapshot.generation
    assert stored.identity == "log 1"
    assert (stored.cursor.watermark, stored.cursor.assets, stored.cursor.top) == (
        CURSOR.watermark,
        CURSOR.assets,
        CURSOR.top,
    )


def test_a_loaded_snapshot_folds_on(tmp_path: Path, snapshot: Snapshot, file_record: Record) -> None:
    SnapshotStore(tmp_path).save(snapshot, CURSOR, "log 1")
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    events = [event(file_record("NY", rows=1), 9), event(file_record("CA"), 1), event(file_record(), 6, ("gone",))]
    assert same(fold(stored.snapshot, events), fold(snapshot, events))


def test_the_environment_names_the_tables_on_load(tmp_path: Path, snapshot: Snapshot) -> None:
    SnapshotStore(tmp_path).save(snapshot, CURSOR, "log 1")
    stored = SnapshotStore(tmp_path).load("prod")
    assert stored is not None
    assert {name.schema for name in stored.snapshot.tables} == {"prod_silver", "prod_gold"}


def test_an_empty_folder_holds_nothing(tmp_path: Path) -> None:
    assert SnapshotStore(tmp_path / "new").load("uat") is None


def test_an_empty_catalog_is_kept_too(tmp_path: Path) -> None:
    SnapshotStore(tmp_path).save(Snapshot(3, "uat"), Cursor(Watermark(), {}), "log")
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert stored.snapshot.tables == {}


def test_what_did_not_change_is_not_written_again(tmp_path: Path, snapshot: Snapshot, file_record: Record) -> None:
    store = SnapshotStore(tmp_path)
    sealed = store.save(snapshot, CURSOR, "log")
    before = segments(tmp_path)
    changed = fold(sealed, [event(file_record("WA"), 9)])
    again = store.save(changed, CURSOR, "log")
    after = segments(tmp_path)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1
    assert again.tables.keys() == sealed.tables.keys()
    untouched = [name for name in sealed.tables if sealed.tables[name].asset_key == ("Gold", "ü")]
    assert again.tables[untouched[0]] is sealed.tables[untouched[0]]


@pytest.mark.usefixtures("heavy")
def test_old_generations_are_removed(tmp_path: Path, file_record: Record) -> None:
    store = SnapshotStore(tmp_path)
    current = Snapshot(0, "uat")
    for number in range(1, 30):
        current = store.save(fold(current, [event(file_record(f"S{number}"), number)]), CURSOR, "log")
        for path in (tmp_path / "segments").iterdir():
            os.utime(path, (0, 0))  # an hour and more ago
    assert len(list(tmp_path.glob("manifest-*.json"))) == 2
    named = {
        entry["file"]["name"]
        for path in tmp_path.glob("manifest-*.json")
        for asset in orjson.loads(path.read_bytes().partition(b"\n")[2])["assets"]
        for entry in asset["segments"]
    }
    assert set(segments(tmp_path)) == named
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert same(stored.snapshot, current)


def damage_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        damage_byte,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.unlink(),
    ],
    ids=["flipped bit", "cut", "emptied", "grown", "gone"],
)
def test_a_damaged_segment_is_found(tmp_path: Path, snapshot: Snapshot, damage: Callable[[Path], object]) -> None:
    SnapshotStore(tmp_path).save(snapshot, CURSOR, "log")
    names = sorted(segments(tmp_path))
    for name in names:
        path = tmp_path / "segments" / name
        intact = path.read_bytes()
        damage(path)
        with pytest.raises(SnapshotError, match="cannot be used"):
            SnapshotStore(tmp_path).load("uat")
        path.write_bytes(intact)
    assert SnapshotStore(tmp_path).load("uat") is not None


def test_a_damaged_manifest_is_found_wherever_it_is_damaged(tmp_path: Path, snapshot: Snapshot) -> None:
    SnapshotStore(tmp_path).save(snapshot, CURSOR, "log")
    (path,) = tmp_path.glob("manifest-*.json")
    intact = path.read_bytes()
    for at in range(0, len(intact), 37):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 4]) + intact[at + 1 :])
        with pytest.raises(SnapshotError):
            SnapshotStore(tmp_path).load("uat")
        path.write_bytes(intact[:at])
        with pytest.raises(SnapshotError):
            SnapshotStore(tmp_path).load("uat")


def test_another_format_is_refused(tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("dagfusion_query.catalog.manifest.FORMAT", 99)
        SnapshotStore(tmp_path).save(snapshot, CURSOR, "log")
    with pytest.raises(SnapshotError, match="format 99, this version reads"):
        SnapshotStore(tmp_path).load("uat")


def test_a_writer_that_dies_leaves_the_generation_before(
    tmp_path: Path, snapshot: Snapshot, file_record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SnapshotStore(tmp_path)
    sealed = store.save(snapshot, CURSOR, "log")
    changed = fold(sealed, [event(file_record("WA"), 9)])
    renames = 0
    rename = Path.rename

    for dies_at in (0, 1):
        renames = 0

        def dying(path: Path, target: Path, dies_at: int = dies_at) -> Path:
            nonlocal renames
            if renames == dies_at:
                raise OSError("no space left on device")
            renames += 1
            return rename(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", dying)
            with pytest.raises(SnapshotError, match=r"cannot be written to .* no space left"):
                SnapshotStore(tmp_path).save(changed, CURSOR, "log")
        stored = SnapshotStore(tmp_path).load("uat")
        assert stored is not None
        assert same(stored.snapshot, snapshot)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SnapshotError, match="cannot be written"):
        SnapshotStore(tmp_path / "file" / "state")


def test_a_mapped_generation_outlives_its_files(tmp_path: Path, snapshot: Snapshot) -> None:
    sealed = SnapshotStore(tmp_path).save(snapshot, CURSOR, "log")
    for path in (tmp_path / "segments").iterdir():
        path.unlink()
    assert same(sealed, snapshot)
    SnapshotStore(tmp_path).save(sealed, CURSOR, "log")
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert same(stored.snapshot, snapshot)


def test_a_segment_that_another_process_removed_is_written_again(tmp_path: Path, snapshot: Snapshot) -> None:
    store = SnapshotStore(tmp_path)
    sealed = store.save(snapshot, CURSOR, "log")
    for path in (tmp_path / "segments").iterdir():
        path.unlink()
    store.save(sealed, CURSOR, "log")
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert same(stored.snapshot, snapshot)


def _write_generations(folder: Path, record: dict[str, Any], first: int) -> None:
    store = SnapshotStore(folder)
    current = Snapshot(0, "uat")
    for event_id in range(first, first + 40, 2):
        partition = [{"name": "id", "type": "int64", "value": event_id}]
        made = Materialization(
            ("orgs",), event_id, str(event_id), event_id, "run", READER.read(record | {"partition": partition})
        )
        current = store.save(fold(current, [made]), CURSOR, f"log {first}")


@pytest.mark.slow
@pytest.mark.usefixtures("processes")
def test_two_processes_share_a_folder(tmp_path: Path, file_record: Record) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_write_generations, args=(tmp_path, file_record(), first)) for first in (1, 2)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        stored = SnapshotStore(tmp_path).load("uat")
        if stored is not None:
            (found,) = stored.snapshot.tables.values()
            parity = int(stored.identity[-1]) % 2
            assert {event_id % 2 for event_id in found.files["event_id"].to_pylist()} == {parity}
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_writer_saves_what_changed_and_retries_what_failed(
    tmp_path: Path, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    latest, clock = Stored(snapshot, CURSOR, "log 1"), Clock()
    writer = SnapshotWriter(SnapshotStore(tmp_path), clock=clock)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    assert writer.save(latest, changed=False) is snapshot
    assert SnapshotStore(tmp_path).load("uat") is None, "nothing changed, so nothing was saved"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        for _ in range(2):
            assert writer.save(latest, changed=True) is snapshot
            clock.now += 2
    assert "no space left on device" in str(writer.error)
    assert len(caplog.records) == 1, "a failure that lasts is logged once"
    clock.now -= 0.5
    assert writer.save(latest, changed=True) is snapshot, "it is not time yet"
    clock.now += 0.5
    saved = writer.save(latest, changed=False)
    assert saved is writer.saved
    assert saved is not snapshot
    assert writer.error is None
    assert writer.save(Stored(saved, CURSOR, "log 1"), changed=False) is saved
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert same(stored.snapshot, snapshot)


def test_a_writer_without_a_store_saves_nothing(snapshot: Snapshot) -> None:
    writer = SnapshotWriter(None)
    assert writer.seal(snapshot) is snapshot
    assert writer.save(Stored(snapshot, CURSOR, "log 1"), changed=True) is snapshot
    assert (writer.saved, writer.error) == (None, None)

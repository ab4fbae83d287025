"""The objects of a checkpoint: what is written, what is replaced, and what is deleted."""

import zlib
from typing import Any

import obstore
import orjson
import pytest
from obstore.exceptions import BaseError, PermissionDeniedError
from obstore.store import MemoryStore

from dagfusion_client.errors import SnapshotError, StoreUnavailableError
from dagfusion_query.catalog.checkpoint import GRACE_S, CheckpointStore
from dagfusion_query.catalog.fold import fold, with_asset_states
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.catalog.snapshot import SnapshotStore, Stored
from dagfusion_query.event_log.event_log_interface import Cursor, Materialization, Watermark
from tests.query.catalog.folding import EMPTY, Record, seen, written

ASSETS = {'["a"]': None, '["b"]': 5}
CURSOR = Cursor(Watermark(7, 7, 28, frozenset({9})), ASSETS, rows={'["a"]': 1, '["b"]': 2})


class Time:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def checkpoint(store: MemoryStore, time: Time) -> CheckpointStore:
    return CheckpointStore(lambda: store, "s3://bucket/_catalog/", time)


@pytest.fixture
def snapshot(file_record: Record) -> Snapshot:
    events: list[Materialization] = [written(file_record(state), number) for number, state in enumerate("ABC", 1)]
    return fold(fold(EMPTY, events[:2]), [*events[2:], events[0]._replace(event_id=4, partition_key="none", file=None)])


def objects(store: MemoryStore) -> set[str]:
    return {meta["path"].removeprefix("_catalog/") for page in obstore.list(store) for meta in page}


def more(snapshot: Snapshot, record: dict[str, Any], event_id: int) -> Snapshot:
    return fold(snapshot, [written(record, event_id)])


def test_a_client_is_made_once_and_before_the_first_request_only(store: MemoryStore) -> None:
    """It loads the root certificates of TLS, and a session over a stored snapshot needs none."""
    made = []

    def connect() -> MemoryStore:
        made.append(store)
        return store

    checkpoint = CheckpointStore(connect, "s3://bucket/_catalog")
    assert (checkpoint.name, made) == ("s3://bucket/_catalog", [])
    assert checkpoint.head() is None
    assert checkpoint.head() is None
    assert len(made) == 1


def test_what_is_written_is_read(checkpoint: CheckpointStore, snapshot: Snapshot) -> None:
    assert checkpoint.head() is None
    written_head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    head = checkpoint.head()
    assert head == written_head
    assert head is not None
    assert (head.writer, head.written_at_s) == (checkpoint.writer, 1000.0)
    loaded = checkpoint.load(head, "uat")
    assert (loaded.cursor, loaded.identity, loaded.is_current) == (CURSOR, "log", True)
    assert loaded.cursor.rows == CURSOR.rows
    assert seen(with_asset_states(EMPTY, loaded.snapshot.asset_states)) == seen(snapshot)


def test_only_what_changed_is_written(
    checkpoint: CheckpointStore, store: MemoryStore, snapshot: Snapshot, file_record: Record
) -> None:
    head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    before = objects(store)
    checkpoint.write(Stored(more(snapshot, file_record("D"), 8), CURSOR, "log"), head)
    assert before < objects(store)
    assert len(objects(store) - before) == 1


def test_another_process_writes_only_what_changed(
    checkpoint: CheckpointStore, store: MemoryStore, snapshot: Snapshot, file_record: Record, tmp_path: Any
) -> None:
    head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    assert head is not None
    before = objects(store)
    other = CheckpointStore(lambda: store, "s3://bucket/_catalog")
    loaded = with_asset_states(EMPTY, other.load(head, "uat").snapshot.asset_states)
    mapped = SnapshotStore(tmp_path).save(loaded, CURSOR, "log")
    other.write(Stored(more(mapped, file_record("D"), 8), CURSOR, "log"), head)
    assert len(objects(store) - before) == 1


def test_a_manifest_that_another_process_replaced_stays(
    checkpoint: CheckpointStore, store: MemoryStore, snapshot: Snapshot, file_record: Record
) -> None:
    other = CheckpointStore(lambda: store, "s3://bucket/_catalog")
    first = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    assert other.write(Stored(EMPTY, CURSOR, "log"), None) is None
    theirs = other.write(Stored(more(snapshot, file_record("D"), 8), CURSOR, "log"), first)
    assert checkpoint.write(Stored(more(snapshot, file_record("E"), 8), CURSOR, "log"), first) is None
    assert checkpoint.head() == theirs


def test_what_is_not_named_any_more_is_deleted_after_an_hour(
    checkpoint: CheckpointStore, store: MemoryStore, snapshot: Snapshot, time: Time
) -> None:
    head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    assert head is not None
    old = {f"rows/{file.name}" for file in head.files.values()}
    empty = checkpoint.write(Stored(EMPTY, CURSOR, "log"), head)
    assert old < objects(store)
    checkpoint.load(head, "uat")
    time.now_s += GRACE_S - 1
    again = checkpoint.write(Stored(EMPTY, CURSOR, "log"), empty)
    assert old < objects(store)
    time.now_s += 1
    back = checkpoint.write(Stored(snapshot, CURSOR, "log"), again)
    assert back is not None
    assert objects(store) == {"checkpoint.json"} | {f"rows/{file.name}" for file in back.files.values()}
    assert not old & objects(store), "a name is never used again"


def test_what_a_crash_left_is_deleted_a_day_later(
    checkpoint: CheckpointStore, store: MemoryStore, snapshot: Snapshot, time: Time
) -> None:
    obstore.put(store, "_catalog/rows/left.arrow.zst", b"x")
    modified_s = obstore.head(store, "_catalog/rows/left.arrow.zst")["last_modified"].timestamp()
    time.now_s = modified_s + 24 * 3600 - 10
    head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    assert "rows/left.arrow.zst" in objects(store)
    time.now_s += 7 * 3600
    checkpoint.write(Stored(EMPTY, CURSOR, "log"), head)
    assert "rows/left.arrow.zst" not in objects(store)


@pytest.mark.parametrize("damage", ["manifest", "format", "rows", "missing"])
def test_a_damaged_checkpoint_is_not_used(
    checkpoint: CheckpointStore, store: MemoryStore, snapshot: Snapshot, damage: str
) -> None:
    head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    assert head is not None
    rows = next(f"_catalog/rows/{file.name}" for file in head.files.values())
    if damage == "manifest":
        obstore.put(store, "_catalog/checkpoint.json", b"00000000\n{}")
    elif damage == "format":
        encoded = orjson.dumps({**head.manifest, "format": 99})
        obstore.put(store, "_catalog/checkpoint.json", b"%08x\n" % zlib.crc32(encoded) + encoded)
    elif damage == "rows":
        content = bytearray(obstore.get(store, rows).bytes())
        content[len(content) // 2] ^= 1
        obstore.put(store, rows, bytes(content))
    elif damage == "missing":
        obstore.delete(store, rows)
    with pytest.raises(SnapshotError, match=r"s3://bucket/_catalog of the catalog cannot be used"):
        checkpoint.load(checkpoint.head() or head, "uat")


@pytest.mark.usefixtures("heavy")
def test_no_damage_looks_like_a_store_that_does_not_answer(
    checkpoint: CheckpointStore, store: MemoryStore, snapshot: Snapshot
) -> None:
    head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    assert head is not None
    for path in ("checkpoint.json", *(f"rows/{file.name}" for file in head.files.values())):
        content = bytes(obstore.get(store, f"_catalog/{path}").bytes())
        places = range(0, len(content), max(1, len(content) // 40))
        flipped = [content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :] for at in places]
        for damaged in (*flipped, *(content[:at] for at in places)):
            obstore.put(store, f"_catalog/{path}", damaged)
            try:
                loaded = checkpoint.load(checkpoint.head() or head, "uat")
            except SnapshotError:
                continue
            # zstd does not use every bit of its frame's header
            assert seen(with_asset_states(EMPTY, loaded.snapshot.asset_states)) == seen(snapshot)
        obstore.put(store, f"_catalog/{path}", content)


def test_a_manifest_that_is_refused_does_not_have_the_rows_written_again_and_again(
    checkpoint: CheckpointStore, snapshot: Snapshot, store: MemoryStore, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(store: Any, path: str, content: Any, **options: Any) -> Any:
        if path.endswith("checkpoint.json"):
            raise BaseError("NotImplemented: If-None-Match")
        return original(store, path, content, **options)

    original = obstore.put
    monkeypatch.setattr(obstore, "put", put)
    found = []
    for passed_s in (0.0, GRACE_S - 1, 1):
        time.now_s += passed_s
        with pytest.raises(StoreUnavailableError, match="cannot be written: NotImplemented"):
            checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
        found.append(objects(store))
    assert found[0] == found[1] < found[2], "another process may delete what is as old as that"
    monkeypatch.undo()
    head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    assert objects(store) == {"checkpoint.json"} | found[2]
    assert head is not None
    assert {f"rows/{file.name}" for file in head.files.values()} == found[2] - found[0]


def test_what_was_retired_is_not_named_again_after_an_attempt_that_was_told_to_fail(
    checkpoint: CheckpointStore, snapshot: Snapshot, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(store: Any, path: str, content: Any, **options: Any) -> Any:
        found = original(store, path, content, **options)
        if path.endswith("checkpoint.json"):
            raise BaseError("the answer was lost")
        return found

    original = obstore.put
    with monkeypatch.context() as patch:
        patch.setattr(obstore, "put", put)
        with pytest.raises(StoreUnavailableError):
            checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    first = checkpoint.head()
    other = CheckpointStore(lambda: store, "s3://bucket/_catalog", lambda: 1000.0)
    second = other.write(Stored(EMPTY, CURSOR, "log"), first)
    third = checkpoint.write(Stored(snapshot, CURSOR, "log"), second)
    assert first is not None
    assert third is not None
    names = [{file.name for file in head.files.values()} for head in (first, third)]
    assert not names[0] & names[1]


def test_old_objects_that_cannot_be_deleted_are_a_warning(
    checkpoint: CheckpointStore,
    snapshot: Snapshot,
    time: Time,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def delete(*_: Any) -> None:
        raise PermissionDeniedError("AccessDenied: s3:DeleteObject")

    monkeypatch.setattr(obstore, "delete", delete)
    first = checkpoint.write(Stored(snapshot, CURSOR, "log"), None)
    second = checkpoint.write(Stored(EMPTY, CURSOR, "log"), first)
    time.now_s += GRACE_S
    assert checkpoint.write(Stored(EMPTY, CURSOR, "log"), second) is not None
    assert "is written, but old objects of it cannot be deleted: AccessDenied" in caplog.text


def test_a_checkpoint_with_undiscovered_files_leads_to_a_full_read(
    checkpoint: CheckpointStore, snapshot: Snapshot
) -> None:
    head = checkpoint.write(Stored(snapshot, CURSOR, "log"), None, undiscovered=1)
    assert head is not None
    assert not checkpoint.load(head, "uat").is_current

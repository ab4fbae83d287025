"""Consolidations in the catalog: the same in any order, wiped with their asset, bounded, and kept on disk."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.consolidation import LargeObject, RowGroup
from dagfusion_query.catalog import manifest, mapped_catalog
from dagfusion_query.catalog.fold import adopt, fold
from dagfusion_query.catalog.manifest import decode_manifest, encode_manifest
from dagfusion_query.catalog.mapped_catalog import manifest_paths
from dagfusion_query.catalog.model import CONSOLIDATED_SCHEMA, Snapshot
from dagfusion_query.catalog.snapshot import SnapshotStore
from dagfusion_query.event_log.event_log_interface import Consolidation, Cursor, Event, Watermark, Wipe
from tests.query.catalog.folding import EMPTY, ORGS, written

CURSOR = Cursor(Watermark(0, 0, 0), {})
Record = Callable[..., dict[str, Any]]


def consolidation(event_id: int, *groups: Sequence[int]) -> Consolidation:
    """An event of one object with a row group of each of these sets of events."""
    made = tuple(RowGroup(4 + 100 * at, 9, tuple(sorted(events)), at) for at, events in enumerate(groups))
    uri = f"s3://bucket/_consolidated/{event_id}.parquet"
    one = LargeObject(uri, 1000, '"e"', None, "2024-01-15T12:00:00.5Z", [], {}, made)
    return Consolidation(ORGS, event_id, event_id * 1000, "run", (one,))


def held(snapshot: Snapshot) -> list[dict[str, Any]]:
    return [row for state in snapshot.asset_states.values() for row in state.consolidated.to_pylist()]


EVENTS = st.one_of(
    st.integers(1, 12).map(lambda number: consolidation(number, [number], [number + 1, number + 2])),
    st.integers(1, 12).map(lambda number: Wipe(ORGS, number * 1000)),
)


@given(st.lists(EVENTS, max_size=10), st.randoms(use_true_random=False))
def test_any_order_gives_the_same(events: list[Event], rng: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagfusion_query.catalog.fold.CONSOLIDATIONS", 4)
        snapshot = fold(EMPTY, events)
        shuffled = rng.sample([*events, *events], 2 * len(events))
        other = EMPTY
        for event in shuffled:
            other = fold(other, [event])
        wiped_at = max((event.at_us for event in events if isinstance(event, Wipe)), default=0)
        ids = {event.event_id for event in events if isinstance(event, Consolidation) and event.at_us > wiped_at}
        assert {row["event_id"] for row in held(snapshot)} == set(sorted(ids)[-4:])
        assert held(other) == held(snapshot)


def test_a_repeated_event_changes_nothing(file_record: Record) -> None:
    snapshot = fold(EMPTY, [written(file_record(), 1), consolidation(2, [1])])
    assert fold(snapshot, [consolidation(2, [1])]) is snapshot
    (table,) = snapshot.tables.values()
    assert table.consolidated.num_rows == 1


def test_a_full_read_takes_changed_consolidations_over(file_record: Record) -> None:
    before = fold(EMPTY, [written(file_record(), 1), consolidation(2, [1])])
    assert adopt(before, fold(EMPTY, [consolidation(2, [1]), written(file_record(), 1)])) is before
    after = adopt(before, fold(EMPTY, [written(file_record(), 1), consolidation(3, [1])]))
    assert {row["event_id"] for row in held(after)} == {3}


def test_consolidations_are_kept_on_disk(tmp_path: Path, file_record: Record) -> None:
    snapshot = fold(EMPTY, [written(file_record(), 1), consolidation(2, [1], [3, 4])])
    SnapshotStore(tmp_path).save(snapshot, CURSOR, "log")
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert held(stored.snapshot) == held(snapshot)
    mapped = mapped_catalog.MappedCatalog(tmp_path, "uat").at(snapshot.generation)
    assert held(mapped) == held(snapshot)


def test_a_snapshot_before_field_ids_is_read(tmp_path: Path, file_record: Record) -> None:
    snapshot = fold(EMPTY, [written(file_record(), 1), consolidation(2, [1], [3, 4])])
    old = [column for column in CONSOLIDATED_SCHEMA.names if column != "has_field_ids"]
    state = replace(snapshot.asset_states[ORGS], consolidated=snapshot.asset_states[ORGS].consolidated.select(old))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "FORMAT", 7)
        SnapshotStore(tmp_path).save(replace(snapshot, asset_states={ORGS: state}), CURSOR, "log")
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert not stored.is_current
    assert held(stored.snapshot) == [row | {"has_field_ids": False} for row in held(snapshot)]


def test_a_snapshot_of_an_earlier_version_is_read(tmp_path: Path, file_record: Record) -> None:
    snapshot = fold(EMPTY, [written(file_record(), 1)])
    SnapshotStore(tmp_path).save(snapshot, CURSOR, "log")
    (path,) = manifest_paths(tmp_path)
    body = decode_manifest(path.read_bytes(), path)
    for asset in body["assets"]:
        del asset["consolidated"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "FORMAT", 4)
        path.write_bytes(encode_manifest({name: value for name, value in body.items() if name != "format"}))
    assert orjson.loads(path.read_bytes().partition(b"\n")[2])["format"] == 4
    stored = SnapshotStore(tmp_path).load("uat")
    assert stored is not None
    assert [len(table.files) for table in stored.snapshot.tables.values()] == [1]
    assert held(stored.snapshot) == []

"""Snapshots with parents: the same files as without, and what each added and removed, as PyIceberg reads it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import hypothesis.strategies as st
import pytest
from pyiceberg.manifest import ManifestEntryStatus, ManifestFile
from pyiceberg.table.snapshots import Snapshot

from dagfusion_interop.iceberg.past_states import PastState
from dagfusion_interop.iceberg.publisher import Published, Publisher
from dagfusion_query.settings import Settings
from tests.interop.iceberg.reading import IO, Part, folded, manifests, opened, publish
from tests.tiers import examples

KINDS = {"state": "string", "size": "decimal128(6, 2)"}
Keys = dict[str, int]  # the number of the object of each partition


def state_of(publisher: Publisher, keys: Keys) -> Published:
    """A table whose objects have these numbers."""
    bounds = {"n": {"min": 1, "max": 9, "nulls": 0}}
    parts = [
        Part((None if key == "?" else key, "1.50"), {"n": "int32"}, bounds, rows=number, number=number)
        for key, number in sorted(keys.items(), key=lambda pair: pair[1])
    ]
    snapshot = folded([], KINDS)
    for part in parts:
        snapshot = folded([part], KINDS, onto=snapshot, first=part.number or 0)
    return publish(publisher, snapshot)


class Entry(NamedTuple):
    """What a manifest says of a file."""

    number: int
    rows: int
    partition: tuple[Any, ...]
    lower: Any


def entries(snapshot: Snapshot, status: ManifestEntryStatus, *, own: bool | None = None) -> set[Entry]:
    """The entries of a status; only those that the snapshot changed, or only others, where `own` says so."""
    found = []
    for manifest in snapshot.manifests(IO):
        for entry in manifest.fetch_manifest_entry(IO, discard_deleted=False):
            if entry.status == status and own in (None, entry.snapshot_id == snapshot.snapshot_id):
                file = entry.data_file
                values = tuple(file.partition[at] for at in range(len(KINDS)))
                found.append(
                    Entry(int(Path(file.file_path).stem), file.record_count, values, str(file.lower_bounds or ""))
                )
    assert len(found) == len(set(found))
    return set(found)


def child_of(publisher: Publisher, before: Published, after: Published) -> Snapshot:
    """The later one of two snapshots in the metadata of both."""
    parent = PastState.of(before.snapshot, before.table)
    written = publisher.publish_child(parent, after.snapshot, after.table)
    table = opened(publisher.with_older(after, [before.snapshot, written]))
    found = table.current_snapshot()
    assert found is not None
    assert [one.snapshot_id for one in table.snapshots()] == [before.snapshot_id, after.snapshot_id]
    return found


def numbers(found: set[Entry]) -> set[int]:
    return {entry.number for entry in found}


def counts(manifest: ManifestFile) -> Sequence[int | None]:
    return (
        manifest.added_files_count,
        manifest.existing_files_count,
        manifest.deleted_files_count,
        manifest.added_rows_count,
        manifest.existing_rows_count,
        manifest.deleted_rows_count,
    )


states = st.lists(st.dictionaries(st.sampled_from("ABCDEFG?"), st.booleans(), min_size=1), min_size=2, max_size=2)


@hypothesis.given(states)
@hypothesis.settings(max_examples=examples(60))
@pytest.mark.usefixtures("heavy")
def test_a_child_says_what_changed(tmp_path_factory: pytest.TempPathFactory, states: list[dict[str, bool]]) -> None:
    """A partition that has one object in both states, or another one in the second."""
    first, second = states
    before = {key: 1 + number for number, key in enumerate(first)}
    after = {
        key: before[key] if key in before and not is_new else 101 + number
        for number, (key, is_new) in enumerate(second.items())
    }
    hypothesis.assume(before != after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dagfusion_interop.iceberg.file_groups._MIN_FILES", 1)  # several manifests
        for name in ("_NEW_SHARE", "_LEAST_NEW"):  # some of them with new files
            patch.setattr(f"dagfusion_interop.iceberg.file_groups.{name}", 2)
        publisher = Publisher(f"file://{tmp_path_factory.mktemp('changes')}", Settings())
        versions = [state_of(publisher, keys) for keys in (before, after)]
        alone = opened(versions[1]).current_snapshot()
        child = child_of(publisher, versions[0], versions[1])
        publisher.close()
    assert alone is not None
    added, deleted = ManifestEntryStatus.ADDED, ManifestEntryStatus.DELETED
    assert entries(child, added) == entries(alone, added)
    assert numbers(entries(child, added, own=True)) == {*after.values()} - {*before.values()}
    removed = entries(child, deleted)
    assert removed == entries(child, deleted, own=True)
    assert numbers(removed) == {*before.values()} - {*after.values()}
    assert {entry.rows for entry in removed} == numbers(removed)
    shared = {manifest.manifest_path for one in versions for manifest in manifests(one)}
    for manifest in child.manifests(IO):
        found = manifest.fetch_manifest_entry(IO, discard_deleted=False)
        sums = [
            sum(entry.status == status for entry in found) for status in (added, ManifestEntryStatus.EXISTING, deleted)
        ]
        assert counts(manifest)[:3] == tuple(sums)
        assert sum(count or 0 for count in counts(manifest)[3:]) == sum(one.data_file.record_count for one in found)
        assert {one.snapshot_id for one in found} == {manifest.added_snapshot_id}
        is_shared = manifest.added_snapshot_id != child.snapshot_id
        assert is_shared or manifest.manifest_path not in shared


@pytest.mark.parametrize(
    ("before", "after", "operation", "totals"),
    [
        ({"A": 1}, {"A": 1, "B": 2}, "append", (1, 2, 0, 0)),
        ({"A": 1}, {"A": 3}, "overwrite", (1, 3, 1, 1)),
        ({"A": 1, "B": 2}, {"A": 1}, "delete", (0, 0, 1, 2)),
    ],
)
def test_summaries(publisher: Publisher, before: Keys, after: Keys, operation: str, totals: tuple[int, ...]) -> None:
    first, second = (state_of(publisher, keys) for keys in (before, after))
    child = child_of(publisher, first, second)
    assert child.parent_snapshot_id == first.snapshot_id
    assert child.summary is not None
    assert child.summary.operation.value == operation
    names = ("added-data-files", "added-records", "deleted-data-files", "deleted-records")
    assert tuple(int(child.summary[name] or 0) for name in names) == totals
    assert child.summary["total-data-files"] == str(len(after))


def test_children_are_written_once_and_are_the_same_in_all_services(publisher: Publisher, tmp_path: Path) -> None:
    other = Publisher(f"file://{tmp_path}/_iceberg", Settings())
    found = []
    for one in (publisher, other):
        first, second = (state_of(one, keys) for keys in ({"A": 1, "B": 2}, {"A": 1, "B": 3, "C": 4}))
        parent = PastState.of(first.snapshot, first.table)
        assert one.child(first.table.name, parent, second.snapshot) is None
        found.append(one.publish_child(parent, second.snapshot, second.table))
        assert one.child(first.table.name, parent, second.snapshot) is found[-1]
    other.close()
    assert replace(found[0], schema=found[1].schema) == found[1]


def test_files_that_both_have_need_no_new_manifest(publisher: Publisher, tmp_path: Path) -> None:
    first, second = (state_of(publisher, keys) for keys in ({"A": 1, "B": 2}, {"A": 1, "B": 2, "C": 3}))
    before = {path.name for path in tmp_path.rglob("*-manifest.avro")}
    child_of(publisher, first, second)
    assert len({path.name for path in tmp_path.rglob("*-manifest.avro")} - before) == 1

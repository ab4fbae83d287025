"""Reads what the door writes, with PyIceberg: an implementation that is not ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, ManifestEntryStatus, ManifestFile
from pyiceberg.table import StaticTable

from dagfusion_interop.iceberg.publisher import Published, Publisher
from dagfusion_interop.iceberg.table_metadata import WrittenSnapshot, fitting
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot, Table, layouts_of
from tests.query.catalog import folding
from tests.query.catalog.folding import ORGS, written

IO = PyArrowFileIO({})


def publish(publisher: Publisher, snapshot: Snapshot) -> Published:
    """Publish the only table of a snapshot."""
    (table,) = snapshot.tables.values()
    return publisher.publish(table, layouts_of(table, snapshot.asset_states[table.asset_key]))


def with_older(publisher: Publisher, current: Published, *older: WrittenSnapshot) -> Published:
    """Publish a version with older snapshots, as far as they fit, without parents."""
    return publisher.with_older(current, [*fitting(current.snapshot, older), current.snapshot])


def opened(published: Published) -> StaticTable:
    return StaticTable.from_metadata(published.uri)


def manifests(published: Published) -> Sequence[ManifestFile]:
    snapshot = opened(published).current_snapshot()
    assert snapshot is not None
    return snapshot.manifests(IO)


def data_files(published: Published) -> list[DataFile]:
    """All files of a table, by URI."""
    found = []
    for manifest in manifests(published):
        for entry in manifest.fetch_manifest_entry(IO):
            assert entry.status == ManifestEntryStatus.ADDED
            assert entry.snapshot_id == manifest.added_snapshot_id
            found.append(entry.data_file)
    return sorted(found, key=lambda file: file.file_path)


def bounds_of(published: Published, file: DataFile) -> Mapping[str, tuple[Any, Any, int]]:
    """Lower bound, upper bound and nulls of a file's columns."""
    fields = {field.field_id: field for field in opened(published).schema().fields}
    lower, upper, nulls = file.lower_bounds or {}, file.upper_bounds or {}, file.null_value_counts or {}
    assert set(file.value_counts or {}) == set(nulls)
    assert set((file.value_counts or {}).values()) <= {file.record_count}
    return {
        fields[id_].name: (
            from_bytes(fields[id_].field_type, lower[id_]) if id_ in lower else None,  # type: ignore[arg-type]  # flat
            from_bytes(fields[id_].field_type, upper[id_]) if id_ in upper else None,  # type: ignore[arg-type]
            nulls[id_],
        )
        for id_ in nulls
    }


@dataclass(frozen=True)
class Part(folding.Part):
    """One object of a table.

    Attributes:
        number: Of the object; None for that of its event.
    """

    number: int | None = None


def record(number: int, part: Part, kinds: Mapping[str, str]) -> dict[str, Any]:
    """The record of a part, whose partition columns are `kinds`."""
    number = number if part.number is None else part.number
    return part.record(kinds, f"s3://bucket/orgs/{number}.parquet", 1000 + number)


def folded(parts: Sequence[Part], kinds: Mapping[str, str], onto: Snapshot | None = None, first: int = 1) -> Snapshot:
    """A catalog of one table."""
    events = [written(record(first + n, part, kinds), first + n) for n, part in enumerate(parts)]
    return fold(onto or Snapshot(0, "uat"), events)


def only(snapshot: Snapshot) -> Table:
    (table,) = snapshot.tables.values()
    assert table.asset_key == ORGS
    return table


def arrow_types(published: Published) -> dict[str, str]:
    return {field.name: str(field.field_type) for field in opened(published).schema().fields}

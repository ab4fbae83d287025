"""The manifest list of a snapshot, and its identity. Pure: equal tables give equal lists.

The id of a snapshot is computed from the manifests of its files, its schema and its latest event, so all services give
the same id. Snapshots share these manifests. So each list names an earlier snapshot, which does not exist, as the one
that added them. The list of a snapshot with a parent also has its own manifests: those of the files that it added or
removed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.iceberg_names import large_objects_text
from dagfusion_interop.iceberg.avro import VALUE, array, container, data, long
from dagfusion_interop.iceberg.iceberg_manifest import EARLIER, optional, required
from dagfusion_interop.iceberg.iceberg_schema import SPEC_ID, IcebergSchema
from dagfusion_query.catalog.model import Table

_SUMMARY = {
    "type": "record",
    "name": "r508",
    "fields": [
        required("contains_null", "boolean", 509),
        optional("contains_nan", "boolean", 518),
        optional("lower_bound", "bytes", 510),
        optional("upper_bound", "bytes", 511),
    ],
}
_LIST_SCHEMA = {
    "type": "record",
    "name": "manifest_file",
    "fields": [
        required("manifest_path", "string", 500),
        required("manifest_length", "long", 501),
        required("partition_spec_id", "int", 502),
        required("content", "int", 517),
        required("sequence_number", "long", 515),
        required("min_sequence_number", "long", 516),
        required("added_snapshot_id", "long", 503),
        required("added_files_count", "int", 504),
        required("existing_files_count", "int", 505),
        required("deleted_files_count", "int", 506),
        required("added_rows_count", "long", 512),
        required("existing_rows_count", "long", 513),
        required("deleted_rows_count", "long", 514),
        optional("partitions", {"type": "array", "items": _SUMMARY, "element-id": 508}, 507),
    ],
}


@dataclass(frozen=True)
class WrittenManifest:
    """A manifest in the object store.

    Attributes:
        partitions: Encoded field summaries.
        spec_id: That of the partition spec.
        is_removed: Whether its files are those that a snapshot no longer has.
    """

    uri: str
    size_bytes: int
    files: int
    rows: int
    partitions: tuple[bytes, ...]
    spec_id: int = SPEC_ID
    is_removed: bool = False


@dataclass(frozen=True)
class Version:
    """The identity of one version of a table, with its time and run.

    Attributes:
        sequence: The id of the latest event, which may be that of a consolidation.
        event_id: The id of the latest materialization.
    """

    snapshot_id: int
    sequence: int
    at_ms: int
    run_id: str | None
    event_id: int


def version_of(table: Table, schema: IcebergSchema, manifests: Sequence[WrittenManifest], large: pa.Table) -> Version:
    """Return the version of a table.

    Args:
        table: The table.
        schema: Its columns.
        manifests: Its manifests, at least one.
        large: The large objects in them, of `CONSOLIDATED_SCHEMA`.
    """
    latest = table.files.select(["event_id", "materialized_at", "run_id"])
    newest = pc.max(latest["event_id"])
    row = latest.filter(pc.equal(latest["event_id"], newest)).slice(0, 1)
    times = [latest["materialized_at"], *([large["logged_at"]] if len(large) else [])]
    at_us = max(pc.max(some).cast(pa.int64()).as_py() for some in times)
    sequence = max(1, newest.as_py(), *large["event_id"].to_pylist())
    # An object may be replaced by one of the same size and statistics, and SQLite may give an event's id again.
    content = json.dumps([schema.schema, schema.spec, [manifest.uri for manifest in manifests], sequence, at_us])
    snapshot_id = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest()) >> 1
    return Version(snapshot_id, sequence, at_us // 1000, row["run_id"][0].as_py(), newest.as_py())


def encode_manifest_list(
    version: Version, manifests: Sequence[WrittenManifest], large_objects: Sequence[str] = ()
) -> bytes:
    """Encode the manifest list of a snapshot without a parent.

    Args:
        version: The version of the table.
        manifests: Its manifests.
        large_objects: The URIs of the large objects in them, which the vacuum keeps.
    """
    entries = [_entry(manifest, EARLIER, EARLIER) for manifest in manifests]
    more = {"dagfusion.large-objects": large_objects_text(large_objects)} if large_objects else {}
    return _container(version, entries, "null", more)


def encode_child_list(
    version: Version, parent: Version, kept: Sequence[WrittenManifest], changed: Sequence[WrittenManifest]
) -> bytes:
    """Encode the manifest list of a snapshot that has a parent.

    Args:
        version: The version of the table.
        parent: That of the parent.
        kept: The manifests of the files that both have.
        changed: The manifests of the files that the snapshot added or removed.
    """
    entries = [_entry(manifest, EARLIER, EARLIER) for manifest in kept]
    entries += [_entry(manifest, version.sequence, version.snapshot_id) for manifest in changed]
    return _container(version, entries, str(parent.snapshot_id), {})


def _entry(manifest: WrittenManifest, sequence: int, snapshot_id: int) -> bytes:
    none = (0, 0)
    files, rows = (
        (*none, count) if manifest.is_removed else (count, *none) for count in (manifest.files, manifest.rows)
    )
    numbers = (manifest.size_bytes, manifest.spec_id, 0, sequence, sequence, snapshot_id, *files, *rows)
    return b"".join([data(manifest.uri.encode()), *map(long, numbers), VALUE, array(manifest.partitions)])


def _container(version: Version, entries: Sequence[bytes], parent_id: str, more: Mapping[str, str]) -> bytes:
    metadata = {
        "snapshot-id": str(version.snapshot_id),
        "sequence-number": str(version.sequence),
        "parent-snapshot-id": parent_id,
        "format-version": "2",
        **more,
    }
    return container(_LIST_SCHEMA, metadata, entries)  # plain, because the vacuum looks for names in it

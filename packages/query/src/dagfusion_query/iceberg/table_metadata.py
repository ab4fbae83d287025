"""The manifest list and `metadata.json` of one version of a table. Pure: equal tables give equal documents.

Each document has one snapshot: that of the table as the event log has it. Its id follows from the manifests, the
schema and the latest event, so that all services agree on it.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.model import Table, whereabouts
from dagfusion_query.iceberg.avro import VALUE, array, container, data, long
from dagfusion_query.iceberg.iceberg_manifest import optional, required
from dagfusion_query.iceberg.iceberg_schema import SCHEMA_ID, SPEC_ID, IcebergSchema

_NAMESPACE = uuid.UUID("6f3ad8f5-2f0b-5c3b-9a52-4b6d1c1f7a10")  # of the ids of tables
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
    """

    uri: str
    size_bytes: int
    files: int
    rows: int
    partitions: tuple[bytes, ...]


@dataclass(frozen=True)
class Version:
    """What identifies one version of a table, and when and by which run it came about.

    Attributes:
        sequence: The id of the latest event.
    """

    snapshot_id: int
    sequence: int
    at_ms: int
    run_id: str | None


def version_of(table: Table, schema: IcebergSchema, manifests: Sequence[WrittenManifest]) -> Version:
    """Return the version of a table that has these manifests, at least one."""
    latest = table.files.select(["event_id", "materialized_at", "run_id"])
    newest = pc.max(latest["event_id"])
    row = latest.filter(pc.equal(latest["event_id"], newest)).slice(0, 1)
    at_us = pc.max(latest["materialized_at"]).cast(pa.int64()).as_py()
    sequence = max(1, newest.as_py())
    # An object may be replaced by one of the same size and statistics, and SQLite may give an event's id again.
    content = json.dumps([schema.schema, schema.spec, [manifest.uri for manifest in manifests], sequence, at_us])
    snapshot_id = int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest()) >> 1
    return Version(snapshot_id, sequence, at_us // 1000, row["run_id"][0].as_py())


def encode_manifest_list(version: Version, manifests: Sequence[WrittenManifest]) -> bytes:
    """Encode the manifest list."""
    stamp = long(version.sequence) + long(version.sequence) + long(version.snapshot_id)
    entries = [
        b"".join(
            [
                data(manifest.uri.encode()),
                long(manifest.size_bytes),
                long(SPEC_ID),
                long(0),
                stamp,
                *(long(manifest.files), long(0), long(0)),
                *(long(manifest.rows), long(0), long(0)),
                VALUE,
                array(manifest.partitions),
            ]
        )
        for manifest in manifests
    ]
    metadata = {
        "snapshot-id": str(version.snapshot_id),
        "sequence-number": str(version.sequence),
        "parent-snapshot-id": "null",
        "format-version": "2",
    }
    return container(_LIST_SCHEMA, metadata, entries, is_plain=True)  # the vacuum looks for names in it


def encode_metadata(
    table: Table, schema: IcebergSchema, version: Version, manifests: Sequence[WrittenManifest], list_uri: str
) -> bytes:
    """Encode `metadata.json`.

    Args:
        table: The table.
        schema: What Iceberg says of its columns.
        version: That of the manifests.
        manifests: All of them.
        list_uri: Where the manifest list is.
    """
    summary = {
        "operation": "append",
        "total-records": str(sum(manifest.rows for manifest in manifests)),
        "total-data-files": str(sum(manifest.files for manifest in manifests)),
        "total-files-size": str(pc.sum(table.files["size_bytes"]).as_py()),
        "dagster.event-id": str(version.sequence),
        **({"dagster.run-id": version.run_id} if version.run_id else {}),
    }
    snapshot = {
        "snapshot-id": version.snapshot_id,
        "sequence-number": version.sequence,
        "timestamp-ms": version.at_ms,
        "manifest-list": list_uri,
        "schema-id": SCHEMA_ID,
        "summary": summary,
    }
    document = {
        "format-version": 2,
        "table-uuid": str(uuid.uuid5(_NAMESPACE, json.dumps([table.environment, *table.asset_key]))),
        "location": location(table, list_uri),
        "last-sequence-number": version.sequence,
        "last-updated-ms": version.at_ms,
        "last-column-id": schema.last_column_id,
        "schemas": [schema.schema],
        "current-schema-id": SCHEMA_ID,
        "partition-specs": [{"spec-id": SPEC_ID, "fields": schema.spec}],
        "default-spec-id": SPEC_ID,
        "last-partition-id": schema.last_partition_id,
        "sort-orders": [{"order-id": 0, "fields": []}],
        "default-sort-order-id": 0,
        "properties": _properties(table, schema),
        "current-snapshot-id": version.snapshot_id,
        "refs": {"main": {"snapshot-id": version.snapshot_id, "type": "branch"}},
        "snapshots": [snapshot],
        "snapshot-log": [{"snapshot-id": version.snapshot_id, "timestamp-ms": version.at_ms}],
        "metadata-log": [],
    }
    return orjson.dumps(document)


def location(table: Table, metadata_uri: str) -> str:
    """Return the folder that holds a table's files and its metadata, or only the files if they are in other buckets.

    DuckDB uses vended credentials for objects in this folder only.
    """
    files = whereabouts(table) or metadata_uri
    here, there = (uri.split("/")[:-1] for uri in (files, metadata_uri))
    shared = []
    for one, other in zip(here, there, strict=False):
        if one != other:
            break
        shared.append(one)
    return "/".join(shared if len(shared) > _BUCKET else here)


_BUCKET = 2  # s3: and the empty part before the bucket


def _properties(table: Table, schema: IcebergSchema) -> Mapping[str, Any]:
    properties = {
        "schema.name-mapping.default": json.dumps(schema.name_mapping),
        "dagfusion.asset-key": json.dumps(table.asset_key),
        "dagfusion.environment": table.environment,
        "write.format.default": "parquet",
    }
    for name, reason in sorted(schema.left_out.items()):
        properties[f"dagfusion.left-out.{name}"] = reason
    return properties

"""The manifest list and `metadata.json` of one version of a table. Pure: equal tables give equal documents.

The current snapshot is that of the table as the event log has it. The id of a snapshot follows from its manifests, its
schema and its latest event, so that all services agree on it. Older ones have no parents, because their manifests do
not say which files were added.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.iceberg_names import large_objects_text
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import PublishedView, Table, common_location
from dagfusion_query.iceberg.avro import VALUE, array, container, data, long
from dagfusion_query.iceberg.iceberg_manifest import optional, required
from dagfusion_query.iceberg.iceberg_schema import LARGE_SPEC_ID, SCHEMA_ID, SPEC_ID, IcebergColumn, IcebergSchema

Names = Sequence[dict[str, Any]]  # a name mapping
_NAMESPACE = uuid.UUID("6f3ad8f5-2f0b-5c3b-9a52-4b6d1c1f7a10")  # of the ids of tables
_DIALECT = "datafusion"
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
    """

    uri: str
    size_bytes: int
    files: int
    rows: int
    partitions: tuple[bytes, ...]
    spec_id: int = SPEC_ID


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


@dataclass(frozen=True)
class WrittenSnapshot:
    """A snapshot whose manifests and manifest list are in the object store.

    Attributes:
        list_uri: The URI of the manifest list.
        rows: In all files.
        files: How many there are.
        size_bytes: The size of all files.
        large_folder: The folder that holds all large objects among the files; None if there are none.
    """

    version: Version
    schema: IcebergSchema
    list_uri: str
    rows: int
    files: int
    size_bytes: int
    large_folder: str | None = None

    def is_of(self, table: Table) -> bool:
        """Return True if a table has the latest event, the number of files, and their rows and bytes."""
        files = table.files
        totals = [pc.sum(files[name], min_count=0).as_py() for name in ("rows", "size_bytes")]
        latest = max(1, pc.max(files["event_id"]).as_py() or 0)
        return [latest, len(files), *totals] == [self.version.sequence, self.files, self.rows, self.size_bytes]


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
    """Encode the manifest list.

    Args:
        version: The version of the table.
        manifests: Its manifests.
        large_objects: The URIs of the large objects in them, which the vacuum keeps.
    """
    stamp = long(version.sequence) + long(version.sequence) + long(version.snapshot_id)
    entries = [
        b"".join(
            [
                data(manifest.uri.encode()),
                long(manifest.size_bytes),
                long(manifest.spec_id),
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
        **({"dagfusion.large-objects": large_objects_text(large_objects)} if large_objects else {}),
    }
    return container(_LIST_SCHEMA, metadata, entries, is_plain=True)  # the vacuum looks for names in it


def encode_metadata(table: Table, current: WrittenSnapshot, older: Sequence[WrittenSnapshot] = ()) -> bytes:
    """Encode `metadata.json`.

    Args:
        table: The table.
        current: Its snapshot.
        older: Snapshots of before that are `fitting`, the oldest first.
    """
    snapshots = [*older, current]
    times = list(accumulate((one.version.at_ms for one in snapshots), max))
    schemas = [current.schema.schema]
    for one in older:
        if one.schema.schema not in schemas:
            schemas.append(one.schema.schema)
    schema, version = current.schema, current.version
    large_specs = [{"spec-id": LARGE_SPEC_ID, "fields": []}] if any(one.large_folder for one in snapshots) else []
    document = {
        "format-version": 2,
        "table-uuid": str(uuid.uuid5(_NAMESPACE, json.dumps([table.environment, *table.asset_key]))),
        "location": location(table, current.list_uri, current.large_folder),
        "last-sequence-number": version.sequence,
        "last-updated-ms": times[-1],
        "last-column-id": max(one.schema.last_column_id for one in snapshots),
        "schemas": [{**fields, "schema-id": number} for number, fields in enumerate(schemas, SCHEMA_ID)],
        "current-schema-id": SCHEMA_ID,
        "partition-specs": [{"spec-id": SPEC_ID, "fields": schema.spec}, *large_specs],
        "default-spec-id": SPEC_ID,
        "last-partition-id": schema.last_partition_id,
        "sort-orders": [{"order-id": 0, "fields": []}],
        "default-sort-order-id": 0,
        "properties": _properties(table, snapshots),
        "current-snapshot-id": version.snapshot_id,
        "refs": {"main": {"snapshot-id": version.snapshot_id, "type": "branch"}},
        "snapshots": [
            _snapshot(one, at_ms, SCHEMA_ID + schemas.index(one.schema.schema))
            for one, at_ms in zip(snapshots, times, strict=True)
        ],
        "snapshot-log": [
            {"snapshot-id": one.version.snapshot_id, "timestamp-ms": at_ms}
            for one, at_ms in zip(snapshots, times, strict=True)
        ],
        "metadata-log": [],
    }
    return orjson.dumps(document)


def fitting(current: WrittenSnapshot, older: Sequence[WrittenSnapshot]) -> list[WrittenSnapshot]:
    """Return the latest older snapshots that one document can have.

    It has one partition spec and one name mapping, and a reader may take any newer type of a column for the bounds.

    Args:
        current: The current one.
        older: The oldest first.
    """
    found: list[WrittenSnapshot] = []
    names: Names = current.schema.name_mapping
    for one in reversed(older):
        newer = [*found, current]
        merged = _merged(one.schema.name_mapping, names)
        if one.version.sequence >= newer[0].version.sequence or one.schema.spec != current.schema.spec:
            break
        if merged is None or not all(one.schema.is_read_by(each.schema) for each in newer):
            break
        found.insert(0, one)
        names = merged
    return found


def _snapshot(written: WrittenSnapshot, at_ms: int, schema_id: int) -> Mapping[str, Any]:
    version = written.version
    summary = {
        "operation": "append",
        "total-records": str(written.rows),
        "total-data-files": str(written.files),
        "total-files-size": str(written.size_bytes),
        "dagster.event-id": str(version.event_id),
        **({"dagster.run-id": version.run_id} if version.run_id else {}),
    }
    return {
        "snapshot-id": version.snapshot_id,
        "sequence-number": version.sequence,
        "timestamp-ms": at_ms,
        "manifest-list": written.list_uri,
        "schema-id": schema_id,
        "summary": summary,
    }


def _merged(one: Names, other: Names) -> Names | None:
    """Return a name mapping with the fields of both; None if a name has two ids."""
    found = {field["names"][0]: field for field in one}
    for field in other:
        (name,) = field["names"]
        earlier = found.get(name, field)
        inside = _merged(earlier.get("fields", ()), field.get("fields", ()))
        if earlier["field-id"] != field["field-id"] or inside is None:
            return None
        found[name] = {**field, "fields": inside} if inside else field
    return list(found.values())


def encode_view(
    view: PublishedView,
    columns: Sequence[IcebergColumn],
    name: TableName,
    folder: str,
    dialects: Mapping[str, str],
) -> bytes:
    """Encode the metadata of a view.

    Args:
        view: The view.
        columns: The columns of its result.
        name: Its name.
        folder: Where its metadata is.
        dialects: Its statement in other dialects than DataFusion's.
    """
    statements = {_DIALECT: view.view.sql, **dialects}
    at_ms = view.at_us // 1000
    version = {
        "version-id": 1,
        "timestamp-ms": at_ms,
        "schema-id": SCHEMA_ID,
        "summary": {
            "dagster.event-id": str(view.event_id),
            **({"dagster.run-id": view.run_id} if view.run_id else {}),
        },
        "representations": [{"type": "sql", "sql": sql, "dialect": dialect} for dialect, sql in statements.items()],
        "default-namespace": [name.schema],
    }
    fields = [{"id": one.id, "name": one.name, "required": False, "type": one.kind} for one in columns]
    document = {
        "view-uuid": str(uuid.uuid5(_NAMESPACE, str(name))),
        "format-version": 1,
        "location": folder,
        "schemas": [{"type": "struct", "schema-id": SCHEMA_ID, "fields": fields}],
        "current-version-id": 1,
        "versions": [version],
        "version-log": [{"version-id": 1, "timestamp-ms": at_ms}],
        "properties": {},
    }
    return orjson.dumps(document)


def location(table: Table, metadata_uri: str, large_folder: str | None = None) -> str:
    """Return the folder that holds a table's files and its metadata, or only the files if they are in other buckets.

    DuckDB uses vended credentials for objects in this folder only.
    """
    files = common_location(table) or metadata_uri
    here, there = (uri.split("/")[:-1] for uri in (files, metadata_uri))
    if large_folder is not None:
        here = _shared(here, large_folder.split("/")[:-1])
    shared = _shared(here, there)
    return "/".join(shared if len(shared) > _BUCKET else here)


def _shared(one: Sequence[str], other: Sequence[str]) -> list[str]:
    same = (left for left, right in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return list(same)


_BUCKET = 2  # s3: and the empty part before the bucket


def _properties(table: Table, snapshots: Sequence[WrittenSnapshot]) -> Mapping[str, Any]:
    names: Names | None = snapshots[-1].schema.name_mapping
    refused = f"{snapshots[-1].list_uri.rpartition('/')[0]}/refused"
    for one in snapshots:
        names = _merged(one.schema.name_mapping, names or ())
    properties = {
        "schema.name-mapping.default": json.dumps(names),
        "dagfusion.asset-key": json.dumps(table.asset_key),
        "dagfusion.environment": table.environment,
        "write.format.default": "parquet",
        # The location may be a folder of many tables. A client that may write to the bucket must not remove "orphans"
        # there, nor leave files beside the assets' objects before its commit is refused.
        "gc.enabled": "false",
        "write.data.path": refused,
        "write.metadata.path": refused,
    }
    for name, reason in sorted(snapshots[-1].schema.left_out.items()):
        properties[f"dagfusion.left-out.{name}"] = reason
    return properties

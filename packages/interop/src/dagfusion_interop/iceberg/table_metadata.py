"""The `metadata.json` of one version of a table. Pure: equal tables give equal documents.

The current snapshot is the table as it is in the event log. A snapshot has a parent if the document has an older one.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

import orjson
import pyarrow.compute as pc

from dagfusion_contract.iceberg_names import REFUSED
from dagfusion_contract.naming import TableName
from dagfusion_interop.iceberg.iceberg_schema import LARGE_SPEC_ID, SCHEMA_ID, SPEC_ID, IcebergColumn, IcebergSchema
from dagfusion_interop.iceberg.manifest_list import Version
from dagfusion_query.catalog.model import PublishedView, Table, common_location

Names = Sequence[dict[str, Any]]  # a name mapping
_NAMESPACE = uuid.UUID("6f3ad8f5-2f0b-5c3b-9a52-4b6d1c1f7a10")  # of the ids of tables
_DIALECT = "datafusion"


@dataclass(frozen=True)
class Change:
    """The difference between a snapshot and its parent.

    Attributes:
        parent_id: The id of the parent.
        added: The files that only the snapshot has.
        added_rows: The rows in them.
        removed: The files that only the parent has.
        removed_rows: The rows in them.
    """

    parent_id: int
    added: int
    added_rows: int
    removed: int
    removed_rows: int

    @property
    def operation(self) -> str:
        """The name that Iceberg has for it."""
        if not self.removed:
            return "append"
        return "overwrite" if self.added else "delete"


@dataclass(frozen=True)
class WrittenSnapshot:
    """A snapshot whose manifests and manifest list are in the object store.

    Attributes:
        list_uri: The URI of the manifest list.
        rows: In all files.
        files: How many there are.
        size_bytes: The size of all files.
        event_sum: The sum of the ids of the events that name the table's files.
        large_folder: The folder that holds all large objects among the files; None if there are none.
        change: The difference from its parent; None if it has none.
    """

    version: Version
    schema: IcebergSchema
    list_uri: str
    rows: int
    files: int
    size_bytes: int
    event_sum: int
    large_folder: str | None = None
    change: Change | None = None

    def is_of(self, table: Table) -> bool:
        """Return True if a table has the same latest event, and the same number, rows, bytes and events of files."""
        files = table.files
        totals = [
            len(files),
            *(pc.sum(files[name], min_count=0).as_py() for name in ("rows", "size_bytes", "event_id")),
        ]
        latest = max(1, pc.max(files["event_id"]).as_py() or 0)
        own = [self.files, self.rows, self.size_bytes, self.event_sum]
        return latest == self.version.sequence and totals == own


def encode_metadata(table: Table, current: WrittenSnapshot, older: Sequence[WrittenSnapshot] = ()) -> bytes:
    """Encode `metadata.json`.

    Args:
        table: The table.
        current: Its snapshot.
        older: Older snapshots, which are `fitting`; the oldest first.
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
        # Daft does not filter rows by the columns of the default spec, whatever the spec of their file. So large
        # objects need a default spec without columns: with that of the partitions, Daft returns wrong rows.
        "default-spec-id": LARGE_SPEC_ID if large_specs else SPEC_ID,
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
    """Return the latest older snapshots that can be in one document with the current one.

    A document has one partition spec and one name mapping, and readers may apply a newer type of a column to bounds.

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
    version, change = written.version, written.change
    changes = {} if change is None else _changes(change)
    summary = {
        "operation": "append",
        **changes,
        "total-records": str(written.rows),
        "total-data-files": str(written.files),
        "total-files-size": str(written.size_bytes),
        "dagster.event-id": str(version.event_id),
        **({"dagster.run-id": version.run_id} if version.run_id else {}),
    }
    return {
        "snapshot-id": version.snapshot_id,
        **({} if change is None else {"parent-snapshot-id": change.parent_id}),
        "sequence-number": version.sequence,
        "timestamp-ms": at_ms,
        "manifest-list": written.list_uri,
        "schema-id": schema_id,
        "summary": summary,
    }


def _changes(change: Change) -> Mapping[str, str]:
    return {
        "operation": change.operation,
        "added-data-files": str(change.added),
        "added-records": str(change.added_rows),
        "deleted-data-files": str(change.removed),
        "deleted-records": str(change.removed_rows),
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
    refused = f"{snapshots[-1].list_uri.rpartition('/')[0]}/{REFUSED}"
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

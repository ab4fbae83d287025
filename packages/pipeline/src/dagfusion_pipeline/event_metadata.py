"""The metadata of a materialization event: the record, Dagster's own keys, and entries for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import dagster as dg
import pyarrow as pa

from dagfusion_contract.naming import find_column
from dagfusion_contract.record import ENTRY, WrittenFile, file_entry
from dagfusion_pipeline.environment import KEY
from dagfusion_pipeline.writer import Target

COLUMN_SCHEMA_KEY = "dagster/column_schema"
COLUMN_LINEAGE_KEY = "dagster/column_lineage"
_BUCKET = "{bucket}"
_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True)
class AssetFacts:
    """The metadata that all events of one asset in one run have in common.

    Attributes:
        table_name: The asset's table, such as `uat_silver_tax_id.raw_organizations`.
        column_schema: The table's columns, partition columns included.
        bucket: The bucket's name.
        endpoint_url: The URL of the S3 server; None for AWS.
        region: The region of the bucket, where it is known.
        object_url: A template of an object's link, with `{bucket}` and `{key}`; None for the server's own.
        console_url: The URL of the query service's console; None for no link.
    """

    table_name: str
    column_schema: dg.TableSchema
    bucket: str
    endpoint_url: str | None
    region: str | None
    object_url: str | None = None
    console_url: str | None = None


def table_schema(file_schema: pa.Schema, partition: Mapping[str, pa.Scalar]) -> dg.TableSchema:
    """Return the columns of the table: the file's, then the partition columns that the file leaves out."""
    fields = [*file_schema, *(pa.field(name, value.type) for name, value in partition.items())]
    unique = {field.name: field for field in reversed(fields)}
    return dg.TableSchema(
        columns=[_table_column(unique[name]) for name in dict.fromkeys(field.name for field in fields)]
    )


def described(columns: dg.TableSchema, declared: object) -> dg.TableSchema:
    """Return the columns with what the asset's definition says of them: descriptions, tags and constraints.

    Args:
        columns: As they were written.
        declared: The definition's metadata `dagster/column_schema`, if it has one.
    """
    if not isinstance(declared, dg.TableSchema):
        return columns
    declared_columns = {column.name: column for column in declared.columns}
    merged = [
        _described(column, find_column(column.name, list(declared_columns)), declared_columns)
        for column in columns.columns
    ]
    return dg.TableSchema(columns=merged, constraints=declared.constraints)


def event_metadata(
    target: Target, file: WrittenFile, asset: AssetFacts, partition_key: Mapping[str, str] | str | None
) -> dict[str, Any]:
    """Return all metadata of one object's event.

    Args:
        target: The object as it was to be written.
        file: The object as it was written.
        asset: What all events of the asset share.
        partition_key: The partition key by dimension, or the only one; None for an unpartitioned asset.
    """
    rows_key = "dagster/row_count" if partition_key is None else "dagster/partition_row_count"
    return {
        ENTRY: dg.MetadataValue.json(file_entry(file)),
        rows_key: file.rows,
        "dagster/uri": file.uri,
        COLUMN_SCHEMA_KEY: asset.column_schema,
        "dagster/table_name": asset.table_name,
        "file_size_mb": round(file.size_bytes / _BYTES_PER_MB, 6),
        "s3_path": dg.MetadataValue.url(_link(target.object_key, asset)),
        "column_count": len(asset.column_schema.columns),
        "processed_at": dg.MetadataValue.timestamp(datetime.now(UTC)),
        **_keys(partition_key),
        **_console(asset, target.partition_key),
    }


def metadata_without_record(
    object_key: str,
    uri: str,
    size_bytes: int,
    asset: AssetFacts,
    partition_key: Mapping[str, str] | str | None,
) -> dict[str, Any]:
    """Return the metadata of objects without a record: values for people, and the URI for discovery.

    Args:
        object_key: The key of the object, or of a folder with a slash at its end.
        uri: The URI of the object or folder.
        size_bytes: The size of all objects.
        asset: What all events of the asset share.
        partition_key: As in `event_metadata`.
    """
    return {
        "dagster/uri": uri,
        "dagster/table_name": asset.table_name,
        "file_size_mb": round(size_bytes / _BYTES_PER_MB, 6),
        "s3_path": dg.MetadataValue.url(_link(object_key, asset)),
        "processed_at": dg.MetadataValue.timestamp(datetime.now(UTC)),
        **_keys(partition_key),
    }


def _keys(partition_key: Mapping[str, str] | str | None) -> dict[str, Any]:
    if partition_key is None:
        return {}
    return {
        "partition_keys": dg.MetadataValue.text(partition_key)
        if isinstance(partition_key, str)
        else dict(partition_key)
    }


def _described(
    column: dg.TableColumn, name: str | None, declared_columns: Mapping[str, dg.TableColumn]
) -> dg.TableColumn:
    if name is None:
        return column
    declared = declared_columns[name]
    return dg.TableColumn(column.name, column.type, declared.description, declared.constraints, declared.tags)


def _table_column(field: pa.Field) -> dg.TableColumn:
    constraints = dg.TableColumnConstraints(nullable=field.nullable)
    return dg.TableColumn(field.name, str(field.type), constraints=constraints)


def _console(asset: AssetFacts, partition_key: str | None) -> dict[str, Any]:
    if asset.console_url is None:
        return {}
    partition = {} if partition_key is None else {"partition": str(partition_key)}
    address = urlencode({"table": asset.table_name, **partition}, quote_via=quote)
    return {"console": dg.MetadataValue.url(f"{asset.console_url.rstrip('/')}/#{address}")}


def _link(object_key: str, asset: AssetFacts) -> str:
    if asset.object_url:
        return asset.object_url.replace(_BUCKET, asset.bucket).replace(KEY, quote(object_key, safe="/="))
    if asset.endpoint_url:
        return f"{asset.endpoint_url.rstrip('/')}/{asset.bucket}/{quote(object_key, safe='/=')}"
    console = f"https://s3.console.aws.amazon.com/s3/object/{asset.bucket}"
    region = f"region={asset.region}&" if asset.region else ""
    return f"{console}?{region}prefix={quote(object_key, safe='')}"

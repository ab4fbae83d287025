"""Facts about one written object, as event metadata v1 tells them to machines. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from dagfusion_pipeline.arrow_types import field_entry

FILE_ENTRY_KEY = "dagfusion/file"
VERSION = 1


@dataclass(frozen=True)
class WrittenFile:
    """One object that the store has confirmed.

    Attributes:
        uri: the object's raw key behind `s3://bucket/`.
        modified: aware; when the store took the object.
        checksum: of the object's bytes, `sha256:` and 64 hexadecimal digits; None where it is not known.
        rows: rows in the file.
        partition: partition columns in path order, as `arrow_types.partition_entry` writes them.
        schema: the columns physically in the file, as `schema_entry` writes them.
        columns: by column: nulls, and least and greatest value where they are exact and mean something.
    """

    uri: str
    size_bytes: int
    etag: str | None
    modified: datetime
    rows: int
    partition: Sequence[Mapping[str, Any]]
    schema: Mapping[str, Any]
    columns: Mapping[str, Mapping[str, Any]]
    checksum: str | None = None


def schema_entry(schema: pa.Schema) -> dict[str, Any]:
    """A file's columns and their fingerprint: the same for the same names, types and nullability in the same order."""
    fields = [field_entry(field) for field in schema]
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True)
    return {"fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16], "fields": fields}


def file_entry(file: WrittenFile) -> dict[str, Any]:
    """The entry `dagfusion/file` of event metadata v1."""
    return {
        "version": VERSION,
        "uri": file.uri,
        "size_bytes": file.size_bytes,
        "etag": file.etag,
        **({"checksum": file.checksum} if file.checksum else {}),
        "modified": file.modified.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "rows": file.rows,
        "partition": list(file.partition),
        "schema": dict(file.schema),
        "columns": dict(file.columns),
    }

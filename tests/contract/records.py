"""Records of event metadata v1 for tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dagfusion_contract.record import schema_entry


def file_record(state: str = "CA", date: str = "2024-01-15", **changes: Any) -> dict[str, Any]:
    """A record of one partition; keywords replace whole fields."""
    folder = "datafusion_test/Silver/TaxID/partitioned_organizations"
    return {
        "version": 1,
        "uri": f"s3://bucket/{folder}/state={state}/date={date}/data.parquet",
        "size_bytes": 12345,
        "etag": '"9b2c"',
        "modified": "2024-01-15T12:00:00.123456Z",
        "rows": 321,
        "partition": [
            {"name": "state", "type": "string", "value": state},
            {"name": "date", "type": "date32[day]", "value": date},
        ],
        "schema": {
            "fingerprint": "0011223344556677",
            "fields": [
                {"name": "npi", "type": "int64", "nullable": True},
                {"name": "name", "type": "string", "nullable": True},
            ],
        },
        "columns": {"npi": {"min": 1, "max": 9, "nulls": 0}, "name": {"nulls": 3}},
    } | changes


def local_record(path: Path, partition: Mapping[str, str], **changes: Any) -> dict[str, Any]:
    """A record of a local Parquet file, whose rows and schema are those of the file; keywords replace whole fields.

    Args:
        path: The file.
        partition: The value of each partition column; that of `date` is a date, others are text.
        changes: Such as `columns`, the statistics.
    """
    file = pq.ParquetFile(path)
    types = {"date": "date32[day]"}
    return {
        "version": 1,
        "uri": f"file://{path}",
        "size_bytes": path.stat().st_size,
        "etag": None,
        "modified": "2024-01-15T12:00:00Z",
        "rows": file.metadata.num_rows,
        "partition": [
            {"name": name, "type": types.get(name, "string"), "value": value} for name, value in partition.items()
        ],
        "schema": schema_entry(file.schema_arrow),
        "columns": {},
    } | changes

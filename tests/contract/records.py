"""Records of event metadata v1 for tests."""

from typing import Any


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

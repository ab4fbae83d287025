"""The service's JSON documents as this package's values. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dagfusion_query.answers import Explanation, FilterEffect, QueryStats, ScanExplanation, TableInfo

Document = Mapping[str, Any]


def read_table(told: Document) -> TableInfo:
    """Read what is told of one table in full."""
    return TableInfo(
        f"{told['schema']}.{told['name']}",
        tuple(told["asset_key"]),
        tuple(told["partition_columns"]),
        {column["name"]: column["type"] for column in told["columns"]},
        told["partitions"],
        told["rows"],
        told["bytes"],
        None if told["materialized_at"] is None else datetime.fromisoformat(told["materialized_at"]),
        None if told["problem"] is None else told["problem"]["detail"],
        tuple(told["warnings"]),
        None if told["problem"] is None else told["problem"]["code"],
        told.get("files", 0),  # an older service tells neither these nor what is nullable
        None,
        tuple(column["name"] for column in told["columns"] if not column.get("nullable", True)),
    )


def read_explanation(told: Document) -> Explanation:
    """Read what is told of a statement's plan."""
    scans = [
        ScanExplanation(**{**scan, "filters": [FilterEffect(**effect) for effect in scan["filters"]]})
        for scan in told["scans"]
    ]
    return Explanation(scans, told["logical"], told["physical"], told["path"])


def read_stats(told: Document, rows: int, seconds: float) -> QueryStats:
    """Read what is told of a query's cost.

    Args:
        told: The service's stats.
        rows: Returned to the client so far.
        seconds: From the statement to the last batch so far.
    """
    return QueryStats(
        told["files_total"],
        told["files_read"],
        told["files_skipped"],
        told["bytes_read"],
        rows,
        seconds,
        max(told["generations"].values(), default=0),
        told["requests"],
        told["path"],
    )

"""Events of one table as they come from the log, and what can be seen of the snapshots that they make."""

from collections.abc import Callable
from typing import Any

from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.catalog.naming import TableName
from dagfusion_query.event_log.protocol import Materialization
from dagfusion_query.event_log.record import RecordReader

Record = Callable[..., dict[str, Any]]
ORGS = ("Silver", "TaxID", "orgs")
NAME = TableName("uat_silver_tax_id", "orgs")
EMPTY = Snapshot(0, "uat")
READER = RecordReader()


def written(
    record: dict[str, Any], event_id: int, key: tuple[str, ...] = ORGS, at_us: int | None = None
) -> Materialization:
    partition = "|".join(str(column["value"]) for column in record["partition"]) or None
    return Materialization(
        key, event_id, partition, event_id * 1000 if at_us is None else at_us, "run", READER.read(record)
    )


def column(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": True}


def schema(*columns: dict[str, Any]) -> dict[str, Any]:
    return {"fingerprint": "-".join(str(c) for c in columns), "fields": list(columns)}


def table(snapshot: Snapshot) -> Table:
    (found,) = snapshot.tables.values()
    return found


def seen(snapshot: Snapshot) -> dict[str, Any]:
    """All of a snapshot that a query or a person can see, in an order of its own."""
    return {
        **{str(name): str(problem) for name, problem in snapshot.problems.items()},
        **{
            str(name): (
                table.asset_key,
                table.file_schema,
                table.partition_schema,
                table.schema_id,
                table.files.sort_by("event_id").to_pylist(),
                str(table.problem),
                [str(warning) for warning in table.warnings],
            )
            for name, table in snapshot.tables.items()
        },
    }

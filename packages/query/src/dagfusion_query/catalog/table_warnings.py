"""What a table does not show, and why: warnings that name partitions, columns and events. Pure."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.fileless import not_wiped
from dagfusion_query.catalog.model import Ledger, Segment
from dagfusion_query.catalog.unify import Conflict
from dagfusion_query.errors import (
    MalformedRecordError,
    MissingRecordError,
    NotParquetError,
    QueryError,
    SchemaConflictError,
    UndiscoverableError,
    restored,
)

_MAX_WARNINGS = 20
_NAMED_PARTITIONS = 3


def refused_events(name: TableName, ledger: Ledger) -> list[QueryError]:
    """Return a warning for each partition whose latest event was refused: it is left out."""
    refused = ledger.absent.filter(pc.is_valid(ledger.absent["reason"])).sort_by("event_id")
    warnings: list[QueryError] = [
        restored(
            row["code"],
            f"table {name} leaves out {quoted(row['partition_key'])}, "
            f"whose event {row['event_id']} cannot be used: {row['reason']}",
            {},
        )
        for row in refused.slice(0, _MAX_WARNINGS).to_pylist()
    ]
    if refused.num_rows > _MAX_WARNINGS:
        more = refused.num_rows - _MAX_WARNINGS
        is_other = pc.all(pc.equal(refused["code"], NotParquetError.code)).as_py()
        kind = NotParquetError if is_other else MalformedRecordError
        warnings.append(kind(f"table {name} leaves out {more} more partitions whose events cannot be used"))
    return warnings


def fileless_events(name: TableName, ledger: Ledger, segments: Sequence[Segment]) -> list[QueryError]:
    """Return a warning if partitions of these segments have later events that name no file."""
    later = not_wiped(ledger)
    if not later.num_rows or not segments:
        return []
    later = later.filter(pc.is_in(later["partition_key"], value_set=_keys(segments))).sort_by("event_id")
    if not later.num_rows:
        return []
    last = later.slice(later.num_rows - 1).to_pylist()[0]
    return [
        MissingRecordError(
            f"table {name} shows an earlier materialization of {_named(later['partition_key'])}: "
            f"the latest one names no file (event {last['event_id']} of {quoted(last['partition_key'])}, "
            f"{last['materialized_at']:%Y-%m-%d %H:%M:%S} UTC)"
        )
    ]


def other_definitions(name: TableName, shown: pa.Schema, others: Sequence[Segment]) -> list[QueryError]:
    """Return a warning for each other set of partition columns: its materializations are left out."""
    return [
        SchemaConflictError(
            f"table {name} is partitioned by {columns(shown)} in its latest materialization. It leaves out "
            f"{partitions(segments)}, partitioned by {columns(schema)}. Wipe the asset and materialize it again "
            "to remove them for good"
        )
        for schema, segments in by_partition_columns(others).items()
    ]


def left_out_columns(
    name: TableName, segments: Sequence[Segment], conflicts: Sequence[Conflict]
) -> dict[str, QueryError]:
    """Return why columns of a table cannot be read, by their names."""
    unreadable: dict[str, dict[str, list[Segment]]] = {}
    for segment in segments:
        for column, kind in segment.layout.unreadable:
            unreadable.setdefault(column, {}).setdefault(kind, []).append(segment)
    why: dict[str, QueryError] = {}
    for conflict in conflicts:
        numbers = conflict.types.items()
        described = " and ".join(f"{kind} in {partitions([segments[i] for i in of])}" for kind, of in numbers)
        why[conflict.column] = SchemaConflictError(
            f"table {name} leaves out column {conflict.column!r}, because no type fits all of its partitions: it is "
            f"{described}. Cast the column in the asset and materialize the partitions of one side again"
        )
    for column, kinds in unreadable.items():
        described = " and ".join(f"{kind} in {partitions(of)}" for kind, of in kinds.items())
        why[column] = UndiscoverableError(
            f"table {name} leaves out column {column!r}, because its type cannot be read: it is {described}. "
            "Write the column as another type"
        )
    return why


def by_partition_columns(segments: Sequence[Segment]) -> Mapping[pa.Schema, list[Segment]]:
    """Group segments by their partition columns."""
    sides: dict[pa.Schema, list[Segment]] = {}
    for segment in segments:
        sides.setdefault(segment.layout.partition, []).append(segment)
    return sides


def columns(schema: pa.Schema) -> str:
    """Name partition columns and their types."""
    return f"({', '.join(f'{field.name} {field.type}' for field in schema)})"


def partitions(segments: Sequence[Segment]) -> str:
    """Name the first few partitions, and the number of the others."""
    return _named(_keys(segments))


def quoted(partition_key: str | None) -> str:
    """Name one partition."""
    return "the unpartitioned materialization" if partition_key is None else f"partition {partition_key!r}"


def _keys(segments: Sequence[Segment]) -> pa.ChunkedArray:
    """Return the partition keys of segments, each once."""
    keys = [chunk for s in segments for rows in s.live() for chunk in rows["partition_key"].chunks]
    return pa.chunked_array([pc.unique(pa.chunked_array(keys, pa.string()))])


def _named(keys: pa.ChunkedArray) -> str:
    first = keys.take(pc.bottom_k_unstable(keys, k=min(_NAMED_PARTITIONS, len(keys)))).to_pylist()
    named = ", ".join(map(quoted, first))
    return named if len(keys) == len(first) else f"{named} and {len(keys) - len(first)} more"

"""A ledger's segments put together: one schema, one row a partition, or the error that says why not."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_query.catalog.bounds import statistics_type, struct_array
from dagfusion_query.catalog.model import Ledger, Segment, Table, files_schema
from dagfusion_query.catalog.naming import TableName, table_name
from dagfusion_query.catalog.unify import Conflict, unify_schemas
from dagfusion_query.errors import (
    MalformedRecordError,
    NameCollisionError,
    QueryError,
    SchemaConflictError,
    UndiscoverableError,
    restored,
)
from dagfusion_query.event_log.protocol import AssetKey
from dagfusion_query.event_log.record import FOREIGN

_MAX_WARNINGS = 20
_NAMED_PARTITIONS = 3
_EMPTY = pa.schema([])


def build_table(environment: str, asset_key: AssetKey, ledger: Ledger) -> Table | None:
    """Build an asset's table, or None when no materialization of it counts and none was refused."""
    name = table_name(environment, asset_key)
    warnings = _warnings(name, ledger)
    segments = sorted(ledger.segments, key=_oldest_event)
    if not segments and not warnings:
        return None
    file, conflicts = unify_schemas([segment.layout.file for segment in segments])
    problem = _partition_problem(name, segments) or _conflict_problem(name, segments, conflicts)
    problem = problem or _sharing_problem(name, segments)
    if not segments:
        problem = warnings[0]
    if problem is not None:
        segments, file = [], _EMPTY
    partition = segments[0].layout.partition if segments else _EMPTY
    schema = files_schema(partition, statistics_type(file))
    slices = [conform(rows, segment, schema) for segment in segments for rows in segment.live()]
    files = pa.concat_tables(slices) if slices else schema.empty_table()
    schema_id = hashlib.sha256(f"{file!r}\x00{partition!r}".encode()).hexdigest()[:16]
    return Table(asset_key, name, file, partition, schema_id, files, problem, tuple(warnings), environment)


def name_tables(tables: Mapping[AssetKey, Table]) -> tuple[Mapping[TableName, Table], Mapping[TableName, QueryError]]:
    """Give each table its name; names that several assets claim become errors, and hide nothing else."""
    claims: dict[TableName, list[Table]] = {}
    for asset_key in sorted(tables):
        claims.setdefault(tables[asset_key].name, []).append(tables[asset_key])
    named = {name: claim[0] for name, claim in claims.items() if len(claim) == 1}
    problems: dict[TableName, QueryError] = {
        name: NameCollisionError(
            f"table {name} is claimed by the assets {' and '.join(str(list(table.asset_key)) for table in claim)}: "
            "their keys are the same in snake case; rename one of them"
        )
        for name, claim in claims.items()
        if len(claim) > 1
    }
    return MappingProxyType(named), MappingProxyType(problems)


def conform(rows: pa.Table, segment: Segment, schema: pa.Schema) -> pa.Table:
    """Give a segment's rows the statistics of the table's columns, sharing memory where the types agree."""
    if rows.schema.equals(schema):
        return rows
    at = schema.get_field_index("stats")
    stats = schema.field(at).type
    chunks = [_conform_statistics(batch, stats, segment.layout.file) for batch in rows.to_batches()]
    return rows.set_column(at, schema.field(at), pa.chunked_array(chunks, stats))


def _conform_statistics(batch: pa.RecordBatch, stats: pa.DataType, file: pa.Schema) -> pa.StructArray:
    own = batch.column("stats")
    count = batch.num_rows
    children = []
    for field in stats:
        kind = field.type.field("min").type
        position = own.type.get_field_index(field.name)
        if position >= 0:
            bounds = own.field(position)
            parts = [_widen(bounds.field(0), kind), _widen(bounds.field(1), kind), bounds.field(2)]
        else:  # a column that the file does not have reads as NULL in each of its rows
            missing = field.name not in file.names
            parts = [
                pa.nulls(count, kind),
                pa.nulls(count, kind),
                batch.column("rows") if missing else pa.nulls(count, pa.int64()),
            ]
        children.append(struct_array(field.type, count, parts))
    return struct_array(stats, count, children)


def _widen(bounds: pa.Array, kind: pa.DataType) -> pa.Array:
    if bounds.type == kind:
        return bounds
    try:
        # Rounding keeps the order, so that a bound stays a bound of the values, which the scan rounds likewise.
        return pc.cast(bounds, kind, safe=not pa.types.is_floating(kind))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # such as the year 9999 in nanoseconds
        return pa.nulls(len(bounds), kind)


def _oldest_event(segment: Segment) -> tuple[int, str]:
    return min(pc.min(rows["event_id"]).as_py() for rows in segment.live()), segment.layout.key


def _warnings(name: TableName, ledger: Ledger) -> list[QueryError]:
    refused = ledger.absent.filter(pc.is_valid(ledger.absent["reason"])).sort_by("event_id")
    warnings: list[QueryError] = [
        restored(
            row["code"],
            f"table {name} leaves out {_quoted(row['partition_key'])}, "
            f"whose event {row['event_id']} cannot be used: {row['reason']}",
            {},
        )
        for row in refused.slice(0, _MAX_WARNINGS).to_pylist()
    ]
    if refused.num_rows > _MAX_WARNINGS:
        more = refused.num_rows - _MAX_WARNINGS
        warnings.append(
            MalformedRecordError(f"table {name} leaves out {more} more partitions whose events cannot be used")
        )
    return warnings


def _partition_problem(name: TableName, segments: Sequence[Segment]) -> QueryError | None:
    sides: dict[pa.Schema, list[Segment]] = {}
    for segment in segments:
        sides.setdefault(segment.layout.partition, []).append(segment)
    if len(sides) <= 1:
        return None
    described = [f"{_columns(schema)} in {_partitions(of)}" for schema, of in sides.items()]
    return SchemaConflictError(
        f"table {name} has partition columns that disagree: {'; '.join(described)}. "
        "Materialize the partitions of one side again, or wipe the asset and materialize it anew"
    )


def _conflict_problem(name: TableName, segments: Sequence[Segment], conflicts: Sequence[Conflict]) -> QueryError | None:
    if not conflicts:
        return None
    described = [
        f"column {conflict.column!r} is "
        + " and ".join(
            f"{kind} in {_partitions([segments[number] for number in numbers])}"
            for kind, numbers in conflict.types.items()
        )
        for conflict in conflicts
    ]
    return SchemaConflictError(
        f"table {name} has columns that no common type fits: {'; '.join(described)}. "
        "Cast the column in the asset and materialize the partitions of one side again"
    )


def _sharing_problem(name: TableName, segments: Sequence[Segment]) -> QueryError | None:
    """Refuse a table whose partitions name one object, which would be read once for each; our own never do."""
    foreign = [segment for segment in segments if segment.layout.fingerprint.startswith(FOREIGN)]
    rows = [rows.select(["partition_key", "uri"]) for segment in foreign for rows in segment.live()]
    if not rows:
        return None
    files = pa.concat_tables(rows)
    if pc.count_distinct(files["uri"]).as_py() == len(files):
        return None
    counts = files.group_by("uri").aggregate([("uri", "count")])
    shared = counts.filter(pc.greater(counts["uri_count"], 1))["uri"][0]
    keys = files.filter(pc.equal(files["uri"], shared))["partition_key"].to_pylist()
    return UndiscoverableError(
        f"table {name} cannot tell its partitions apart: {_quoted(keys[0])} and {_quoted(keys[1])} name the same "
        f"object, {shared.as_py()!r}. Write an object for each partition, or materialize the asset without partitions"
    )


def _columns(schema: pa.Schema) -> str:
    return f"({', '.join(f'{field.name} {field.type}' for field in schema)})"


def _partitions(segments: Sequence[Segment]) -> str:
    """Name the first few partitions, and say how many more there are."""
    keys = pa.chunked_array([chunk for s in segments for rows in s.live() for chunk in rows["partition_key"].chunks])
    first = keys.take(pc.bottom_k_unstable(keys, k=min(_NAMED_PARTITIONS, len(keys)))).to_pylist()
    named = ", ".join(map(_quoted, first))
    return named if len(keys) == len(first) else f"{named} and {len(keys) - len(first)} more"


def _quoted(partition_key: str | None) -> str:
    return "the unpartitioned materialization" if partition_key is None else f"partition {partition_key!r}"

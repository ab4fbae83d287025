"""Makes a table of a state's segments: one schema, one row for each partition, warnings, or the table's error."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.errors import (
    MalformedRecordError,
    MissingRecordError,
    NameCollisionError,
    NotParquetError,
    QueryError,
    SchemaConflictError,
    UndiscoverableError,
    restored,
)
from dagfusion_contract.naming import TableName, table_name
from dagfusion_contract.record import FOREIGN
from dagfusion_query.catalog.model import AssetState, PublishedView, Segment, Table, files_schema
from dagfusion_query.catalog.partitioned_file import encode_entries
from dagfusion_query.catalog.segments import not_wiped, statistics_type, struct_array
from dagfusion_query.catalog.unified_schema import Conflict, unify_schemas
from dagfusion_query.event_log.event_log_interface import AssetKey

_EMPTY = pa.schema([])
_MAX_WARNINGS = 20
_NAMED_PARTITIONS = 3


def build_table(environment: str, asset_key: AssetKey, state: AssetState) -> Table | None:
    """Build an asset's table; its `files` have one row for each partition, see `files_schema`.

    Returns:
        None if no materialization of the asset counts and none was refused.
    """
    name = table_name(environment, asset_key)
    if state.view is not None and state.view.event_id > max(map(_latest_event, state.segments), default=0):
        return _view_table(environment, asset_key, name, state.view)
    segments, others = _newest_definition(sorted(state.segments, key=_oldest_event))
    refused = refused_events(name, state)
    if not segments and not refused:
        return None
    file, conflicts = unify_schemas([segment.layout.file for segment in segments])
    left_out = left_out_columns(name, segments, conflicts)
    file = pa.schema([field for field in file if field.name not in left_out])
    partition = max(segments, key=_latest_event).layout.partition if segments else _EMPTY
    warnings = [
        *refused,
        *fileless_events(name, state, segments),
        *other_definitions(name, partition, others),
        *left_out.values(),
    ]
    problem = _sharing_problem(name, segments)
    if not segments or not (file.names or partition.names or problem):
        # It is no table only if nothing in it is Parquet.
        problem = min(warnings, key=lambda warning: isinstance(warning, NotParquetError))
    if problem is not None:
        segments, file, partition, left_out = [], _EMPTY, _EMPTY, {}
    schema = files_schema(partition, statistics_type(file))
    slices = [conform(rows, segment, schema) for segment in segments for rows in segment.live()]
    files = pa.concat_tables(slices) if slices else schema.empty_table()
    schema_id = hashlib.sha256(f"{file!r}\x00{partition!r}".encode()).hexdigest()[:16]
    return Table(
        asset_key,
        name,
        file,
        partition,
        schema_id,
        files,
        problem,
        tuple(warnings),
        environment,
        left_out,
        state.consolidated,
    )


def _view_table(environment: str, asset_key: AssetKey, name: TableName, published: PublishedView) -> Table:
    columns = published.view.columns
    files = files_schema(_EMPTY, statistics_type(columns)).empty_table()
    identity = f"{published.view.sql}\x00{columns!r}\x00{published.view.tables!r}"
    schema_id = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return Table(asset_key, name, columns, _EMPTY, schema_id, files, environment=environment, view=published)


def name_tables(tables: Mapping[AssetKey, Table]) -> tuple[Mapping[TableName, Table], Mapping[TableName, QueryError]]:
    """Name the tables; a name that several assets claim becomes an error of these only."""
    claims: dict[TableName, list[Table]] = {}
    for asset_key in sorted(tables):
        claims.setdefault(tables[asset_key].name, []).append(tables[asset_key])
    tables_by_name = {name: claim[0] for name, claim in claims.items() if len(claim) == 1}
    problems: dict[TableName, QueryError] = {
        name: NameCollisionError(
            f"table {name} is claimed by the assets {' and '.join(str(list(table.asset_key)) for table in claim)}: "
            "their keys are the same in snake case; rename one of them"
        )
        for name, claim in claims.items()
        if len(claim) > 1
    }
    return MappingProxyType(tables_by_name), MappingProxyType(problems)


def conform(rows: pa.Table, segment: Segment, schema: pa.Schema) -> pa.Table:
    """Convert a segment's rows to the table's partition columns and statistics, without a copy if the types agree.

    Args:
        rows: Rows of the segment, as `files_schema` has them for its layout.
        segment: The segment.
        schema: The result of `files_schema` for the table.

    Returns:
        As many rows, of this schema.
    """
    if rows.schema.equals(schema):
        return rows
    if rows.schema.field("partition").type != schema.field("partition").type:
        rows = _in_order(rows, schema)
    at = schema.get_field_index("stats")
    stats = schema.field(at).type
    chunks = [_conform_statistics(batch, stats, segment.layout.file) for batch in rows.to_batches()]
    return rows.set_column(at, schema.field(at), pa.chunked_array(chunks, stats))


def refused_events(name: TableName, state: AssetState) -> list[QueryError]:
    """Return a warning for each partition whose latest event was refused: it is left out."""
    refused = state.absent.filter(pc.is_valid(state.absent["reason"])).sort_by("event_id")
    warnings: list[QueryError] = [
        restored(
            row["code"],
            f"table {name} leaves out {partition_text(row['partition_key'])}, "
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


def fileless_events(name: TableName, state: AssetState, segments: Sequence[Segment]) -> list[QueryError]:
    """Return a warning if partitions of these segments have later events that name no file."""
    later = not_wiped(state)
    if not later.num_rows or not segments:
        return []
    later = later.filter(pc.is_in(later["partition_key"], value_set=_keys(segments))).sort_by("event_id")
    if not later.num_rows:
        return []
    last = later.slice(later.num_rows - 1).to_pylist()[0]
    return [
        MissingRecordError(
            f"table {name} shows an earlier materialization of {_key_list(later['partition_key'])}: "
            f"the latest one names no file (event {last['event_id']} of {partition_text(last['partition_key'])}, "
            f"{last['materialized_at']:%Y-%m-%d %H:%M:%S} UTC)"
        )
    ]


def other_definitions(name: TableName, shown: pa.Schema, others: Sequence[Segment]) -> list[QueryError]:
    """Return a warning for each other set of partition columns: its materializations are left out."""
    return [
        SchemaConflictError(
            f"table {name} is partitioned by {columns_text(shown)} in its latest materialization. It leaves out "
            f"{partitions_text(segments)}{f', partitioned by {columns_text(schema)}' if len(schema) else ''}. Wipe the "
            "asset and materialize it again to remove them for good"
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
        described = " and ".join(f"{kind} in {partitions_text([segments[i] for i in of])}" for kind, of in numbers)
        why[conflict.column] = SchemaConflictError(
            f"table {name} leaves out column {conflict.column!r}, because no type fits all of its partitions: it is "
            f"{described}. Cast the column in the asset and materialize the partitions of one side again"
        )
    for column, kinds in unreadable.items():
        described = " and ".join(f"{kind} in {partitions_text(of)}" for kind, of in kinds.items())
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


def columns_text(schema: pa.Schema) -> str:
    """Name partition columns and their types."""
    return f"({', '.join(f'{field.name} {field.type}' for field in schema)})"


def partitions_text(segments: Sequence[Segment]) -> str:
    """Name the first few partitions, and the number of the others."""
    return _key_list(_keys(segments))


def partition_text(partition_key: str | None) -> str:
    """Name one partition."""
    return "the unpartitioned materialization" if partition_key is None else f"partition {partition_key!r}"


def _in_order(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Put the partition values of rows into the table's order of columns."""
    kind = schema.field("partition").type
    values = rows["partition"].combine_chunks()
    partition = struct_array(kind, len(rows), [values.field(field.name) for field in kind])
    modified_ns = pc.multiply(rows["modified"].cast(pa.int64()), 1000).to_pylist()
    entries = encode_entries(rows["uri"].to_pylist(), rows["size_bytes"].to_pylist(), modified_ns, partition)
    for name, column in (("partition", partition), ("entry", entries)):
        rows = rows.set_column(rows.schema.get_field_index(name), schema.field(name), column)
    return rows


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


def _latest_event(segment: Segment) -> int:
    return max(int(pc.max(rows["event_id"]).as_py()) for rows in segment.live())


def _newest_definition(segments: Sequence[Segment]) -> tuple[list[Segment], list[Segment]]:
    """Separate the segments of the latest definition from those of others.

    Definitions differ in the names and types of their partition columns. The same columns in another order have the
    same keys, and are one definition.
    """
    newest = max(segments, key=_latest_event, default=None)
    if newest is None:
        return [], []
    shown = [segment for segment in segments if _definition(segment) == _definition(newest)]
    return shown, [segment for segment in segments if _definition(segment) != _definition(newest)]


def _definition(segment: Segment) -> frozenset[tuple[str, pa.DataType]]:
    return frozenset((field.name, field.type) for field in segment.layout.partition)


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
        f"table {name} cannot tell its partitions apart: {partition_text(keys[0])} and {partition_text(keys[1])} "
        f"name the same object, {shared.as_py()!r}. Write an object for each partition, or materialize the asset "
        "without partitions"
    )


def _keys(segments: Sequence[Segment]) -> pa.ChunkedArray:
    """Return the partition keys of segments, each once."""
    keys = [chunk for s in segments for rows in s.live() for chunk in rows["partition_key"].chunks]
    return pa.chunked_array([pc.unique(pa.chunked_array(keys, pa.string()))])


def _key_list(keys: pa.ChunkedArray) -> str:
    first = keys.take(pc.bottom_k_unstable(keys, k=min(_NAMED_PARTITIONS, len(keys)))).to_pylist()
    names = ", ".join(map(partition_text, first))
    return names if len(keys) == len(first) else f"{names} and {len(keys) - len(first)} more"

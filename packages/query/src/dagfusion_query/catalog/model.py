"""The catalog as values: an immutable snapshot of tables, each with one row for each partition.

A selection is chosen partitions of chosen assets, under names of the caller's choice, in place of the whole catalog.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile
from types import MappingProxyType

import pyarrow as pa
import pyarrow.compute as pc

from dagfusion_client.errors import PlanError, QueryError
from dagfusion_contract.consolidation import LargeObject, RowGroup
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import Layout
from dagfusion_contract.view import View
from dagfusion_query.event_log.event_log_interface import AssetKey, Consolidation

TIME = pa.timestamp("us", "UTC")
ABSENT_SCHEMA = pa.schema(
    {
        "event_id": pa.int64(),
        "partition_key": pa.string(),
        "materialized_at": TIME,
        "reason": pa.string(),
        "code": pa.string(),  # of the error whose text the reason is
    }
)
CONSOLIDATED_SCHEMA = pa.schema(
    {
        "event_id": pa.int64(),
        "logged_at": TIME,
        "run_id": pa.string(),
        "uri": pa.string(),
        "size_bytes": pa.int64(),
        "modified": TIME,
        "etag": pa.string(),
        "checksum": pa.string(),
        "offset": pa.int64(),
        "rows": pa.int64(),
        "times": pa.int64(),
        "events": pa.list_(pa.int64()),
        "has_field_ids": pa.bool_(),
    }
)
FILELESS_SCHEMA = pa.schema({"event_id": pa.int64(), "partition_key": pa.string(), "materialized_at": TIME})


def moment(at_us: int) -> pa.Scalar:
    """Return microseconds since 1970 in UTC as a value of the time columns, `timestamp[us, tz=UTC]`."""
    return pa.scalar(at_us, pa.int64()).cast(TIME)


def files_schema(partition: pa.Schema, stats: pa.DataType) -> pa.Schema:
    """Return the schema of `Table.files`, which has one row for each partition.

    `partition_key` is null for an unpartitioned asset, `etag` and `checksum` where the record has none, a value of
    `partition` where the partition has none, and a bound or a null count in `stats` where it is not known. `entry` is
    the encoded file of `encode_entries`. The other columns have no nulls. Times are microseconds since 1970 in UTC.

    Args:
        partition: The partition columns, which become the fields of the struct `partition`.
        stats: The result of `statistics_type`: a struct of bounds and null counts for each column.
    """
    return pa.schema(
        {
            "event_id": pa.int64(),
            "partition_key": pa.string(),
            "uri": pa.string(),
            "size_bytes": pa.int64(),
            "rows": pa.int64(),
            "modified": TIME,
            "etag": pa.string(),
            "checksum": pa.string(),
            "run_id": pa.string(),
            "materialized_at": TIME,
            "schema_fingerprint": pa.string(),
            "partition": pa.struct(list(partition)),
            "stats": stats,
            "entry": pa.binary(),
        }
    )


@dataclass(frozen=True, eq=False)
class Segment:
    """Files of one layout, immutable but for rows that later events replaced.

    Attributes:
        rows: One row for each file, as `files_schema` has it for this layout; may be a mapped file.
        dropped: Numbers of rows (from 0) that no longer count, ascending.
    """

    layout: Layout
    rows: pa.Table
    dropped: tuple[int, ...] = ()

    @property
    def live_count(self) -> int:
        """The number of files that count."""
        return int(self.rows.num_rows) - len(self.dropped)

    def live(self) -> list[pa.Table]:
        """Return the rows that count, as slices that share memory with `rows`."""
        ends = [*self.dropped, self.rows.num_rows]
        starts = [0, *(row + 1 for row in self.dropped)]
        return [self.rows.slice(start, end - start) for start, end in zip(starts, ends, strict=True) if end > start]


@dataclass(frozen=True)
class PublishedView:
    """A view, and the materialization that published it.

    Attributes:
        at_us: Microseconds since 1970 in UTC.
        run_id: Empty outside of a run.
    """

    event_id: int
    at_us: int
    run_id: str
    view: View

    @property
    def rank(self) -> tuple[int, int]:
        """The order of the events of a partition: the id, and the time, because SQLite reuses wiped ids."""
        return self.event_id, self.at_us


@dataclass(frozen=True, eq=False)
class AssetState:
    """The state of one asset after its events: what `fold` continues from.

    Attributes:
        segments: The files that count.
        absent: Partitions whose latest event that names a file gives none: wiped, by a tombstone too, or refused. One
            row for each partition, of `ABSENT_SCHEMA`; `reason` and `code` are null for a wipe.
        fileless: The latest event of each partition that names no file, unless a later one names a file. One row
            for each partition, of `FILELESS_SCHEMA`.
        wiped_at_us: Materializations up to this moment do not count; microseconds since 1970.
        consolidated: One row for each row group of large objects, of `CONSOLIDATED_SCHEMA`: the latest consolidations,
            whatever has become of what they hold. `etag` and `checksum` may be null; `RowGroup` has the units.
        view: The view that was published last, unless a later event without a partition names a file.
    """

    segments: tuple[Segment, ...] = ()
    absent: pa.Table = field(default_factory=ABSENT_SCHEMA.empty_table)
    fileless: pa.Table = field(default_factory=FILELESS_SCHEMA.empty_table)
    wiped_at_us: int | None = None
    consolidated: pa.Table = field(default_factory=CONSOLIDATED_SCHEMA.empty_table)
    view: PublishedView | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """One version of a table, or of a view, which has no files.

    Attributes:
        file_schema: The union of all files' columns, partition columns left out, every field nullable.
        partition_schema: The partition columns in path order.
        schema_id: Identifies the two schemas.
        files: One row for each partition, see `files_schema`; the order has no meaning.
        problem: Raised when a query names the table; `files` is empty then.
        warnings: What the table does not show: partitions, materializations and columns, and why.
        environment: Whose event log and object stores the table is of.
        left_out: Why columns that the files have are not in `file_schema`, by their names.
        consolidated: Row groups of large objects that may hold the rows of some files; see `AssetState.consolidated`.
        view: What the rows are the result of; None for a table.
        as_of: The event of a past state of the table; None for the current state.
    """

    asset_key: AssetKey
    name: TableName
    file_schema: pa.Schema
    partition_schema: pa.Schema
    schema_id: str
    files: pa.Table
    problem: QueryError | None = None
    warnings: Sequence[QueryError] = ()
    environment: str = ""
    left_out: Mapping[str, QueryError] = field(default_factory=lambda: MappingProxyType({}))
    consolidated: pa.Table = field(default_factory=CONSOLIDATED_SCHEMA.empty_table)
    view: PublishedView | None = None
    as_of: int | None = None


def layouts_of(table: Table, state: AssetState) -> list[Layout]:
    """Return the layouts of the files that a table shows: those with its partition columns."""
    shown = _definition(table.partition_schema)
    return [segment.layout for segment in state.segments if _definition(segment.layout.partition) == shown]


def _definition(partition: pa.Schema) -> frozenset[tuple[str, pa.DataType]]:
    return frozenset((field.name, field.type) for field in partition)


@dataclass(frozen=True)
class Snapshot:
    """One generation of the catalog; a query holds one from start to end.

    Attributes:
        tables: Every table by name.
        problems: Names that no table could be given, because two assets claim them.
        asset_states: What the next fold continues from, by asset key.
        unavailable: Why the tables of an environment are not among these, by its name.
        is_past: True if its tables are as of a past event, which is then the generation.
    """

    generation: int
    environment: str
    tables: Mapping[TableName, Table] = field(default_factory=lambda: MappingProxyType({}))
    problems: Mapping[TableName, QueryError] = field(default_factory=lambda: MappingProxyType({}))
    asset_states: Mapping[AssetKey, AssetState] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    unavailable: Mapping[str, QueryError] = field(default_factory=lambda: MappingProxyType({}))
    is_past: bool = False


def consolidated_rows(events: Iterable[Consolidation]) -> pa.Table:
    """Build the rows of `AssetState.consolidated`: one for each row group, of `CONSOLIDATED_SCHEMA`."""
    rows = [
        _consolidated_row(event, one, group) for event in events for one in event.objects for group in one.row_groups
    ]
    columns = list(zip(*rows, strict=True)) or [()] * len(CONSOLIDATED_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, CONSOLIDATED_SCHEMA, strict=True)]
    return pa.table(arrays, schema=CONSOLIDATED_SCHEMA)


def _consolidated_row(event: Consolidation, one: LargeObject, group: RowGroup) -> tuple[object, ...]:
    return (
        event.event_id,
        moment(event.at_us),
        event.run_id,
        one.uri,
        one.size_bytes,
        datetime.fromisoformat(one.modified),
        one.etag,
        one.checksum,
        group.offset,
        group.rows,
        group.times,
        list(group.events),
        one.has_field_ids,
    )


def common_folder(uris: pa.ChunkedArray) -> str:
    """Return the URI of the folder that holds some objects, at least one, without a slash at its end."""
    ends = pc.min_max(uris).as_py()
    first, last = (ends[end].split("/")[:-1] for end in ("min", "max"))  # what these share, all share
    return "/".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def common_location(table: Table) -> str | None:
    """Return the folder that holds all files of a table, or the file where there is one; None where there is none."""
    if not len(table.files):
        return None
    uris = table.files["uri"]
    if pc.all(pc.equal(uris, uris[0])).as_py():
        return str(uris[0])
    folder = common_folder(uris)
    names = table.partition_schema.names
    parent, found, _ = folder.partition(f"/{names[0]}=") if names else (folder, "", "")
    return f"{parent if found else folder}/"


@dataclass(frozen=True)
class Selection:
    """Some partitions of one asset.

    Attributes:
        asset_key: The asset.
        names: The names that a statement uses for its table.
        partitions: Dagster's keys of the partitions; None for all that there are.
    """

    asset_key: AssetKey
    names: tuple[TableName, ...]
    partitions: frozenset[str] | None = None


def find_table(snapshot: Snapshot, asset_key: AssetKey) -> Table | None:
    """Return the table of an asset, or None if the catalog has none."""
    return next((table for table in snapshot.tables.values() if table.asset_key == asset_key), None)


def missing_partitions(snapshot: Snapshot, selection: Selection) -> list[str]:
    """Return the partitions of a selection that the catalog has no file of, in the order of their keys."""
    table = find_table(snapshot, selection.asset_key)
    there = set() if table is None else set(table.files["partition_key"].to_pylist())
    return sorted((selection.partitions or frozenset()) - there)


def selected(snapshot: Snapshot, selections: Iterable[Selection]) -> Snapshot:
    """Return a catalog that has the selected files alone, and what selected views read.

    An asset without a table is left out.

    Raises:
        PlanError: A view needs all partitions of a table, some of which were selected under its own name.
    """
    tables: dict[TableName, Table] = {}
    for selection in selections:
        table = find_table(snapshot, selection.asset_key)
        if table is not None:
            part = _restricted(table, selection.partitions)
            tables |= {name: replace(part, name=name) for name in selection.names}
    for name, table in _read_by_views([*tables.values()], snapshot).items():
        if tables.setdefault(name, table).files is not table.files:
            raise PlanError(
                f"the statement selects partitions of {name}, and one of its views reads all of {name} under the same "
                "name: in the statement, name the table by its asset key in double quotes"
            )
    return replace(snapshot, tables=MappingProxyType(tables), problems=MappingProxyType({}))


def readable(tables: Mapping[TableName, Table], allow: Callable[[TableName], bool]) -> dict[TableName, Table]:
    """Return the tables that may be read, and the views all of whose tables may be.

    A view without tables has rights of its own.
    """
    views = {name: table.view.view for name, table in tables.items() if table.view is not None}
    names = {name for name in tables if name not in views and allow(name)}
    views = {name: view for name, view in views.items() if view.tables or allow(name)}
    while more := [name for name, view in views.items() if names.issuperset(view.tables)]:
        names.update(more)
        views = {name: view for name, view in views.items() if name not in names}
    return {name: table for name, table in tables.items() if name in names}


def _read_by_views(tables: Iterable[Table], snapshot: Snapshot) -> dict[TableName, Table]:
    """Return the tables and views below the views of some tables."""
    found: dict[TableName, Table] = {}
    left = [*tables]
    while left:
        view = left.pop().view
        for name in () if view is None else view.view.tables:
            if name in snapshot.tables and name not in found:
                found[name] = snapshot.tables[name]
                left.append(found[name])
    return found


def _restricted(table: Table, partitions: frozenset[str] | None) -> Table:
    if partitions is None:
        return table
    keys = pa.array(sorted(partitions), pa.string())
    return replace(table, files=table.files.filter(pc.is_in(table.files["partition_key"], value_set=keys)))

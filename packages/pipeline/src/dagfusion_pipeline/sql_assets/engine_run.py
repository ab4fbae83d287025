"""Runs the SQL of an asset in the query engine. Only this module of the package imports the query side.

The catalog is the run's own event log. The statement sees only the tables that it names, each with the partitions that
the asset's partition mappings give for the run, so the engine reads exactly their objects.
"""

import os
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg
import pyarrow as pa

from dagfusion_contract.arrow_types import field_entry, parse_field
from dagfusion_contract.errors import ContractError
from dagfusion_contract.naming import TableName
from dagfusion_contract.setting_declarations import as_variables, declaration
from dagfusion_contract.view import MAX_SQL, View
from dagfusion_pipeline.dimensions import metadata_value
from dagfusion_pipeline.errors import ConfigurationError, MissingObjectError, PartitionError, SqlError
from dagfusion_pipeline.event_metadata import COLUMN_LINEAGE_KEY
from dagfusion_pipeline.io_managers import ALLOW_MISSING_KEY
from dagfusion_pipeline.maintenance import Manager
from dagfusion_pipeline.sql_assets.column_lineage import column_lineage
from dagfusion_pipeline.sql_assets.definition import Defined
from dagfusion_pipeline.sql_assets.statement import Reference, Statement, with_tables
from dagfusion_pipeline.sql_assets.table_keys import names_of
from dagfusion_pipeline.sql_assets.upstreams import WINDOW, Upstream, time_dimension
from dagfusion_query.catalog.model import Selection, Snapshot, Table, find_table, missing_partitions
from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from dagfusion_query.embedded_result import EmbeddedResult
from dagfusion_query.settings import Settings

_DEFAULT_SCHEMA = "public"  # DataFusion's, of names in one part
_SHOWN = 5
_LEAVES_OUT = declaration(Settings, "archived_after_days").metadata["variable"]


def run_query(context: dg.AssetExecutionContext, query: Defined, manager: Manager) -> pa.RecordBatchReader:
    """Run the SQL of an asset for the partitions of a run.

    Returns:
        The rows, which the engine makes as they are read.

    Raises:
        ConfigurationError: The run's event log cannot be queried, or the SQL names another environment.
        PartitionError: An upstream partition is not materialized, or the partitions of an upstream are not known.
        MissingObjectError: An upstream has no materialization.
        dagfusion_query.QueryError: The engine refuses the statement, or it fails.
    """
    _check_environment(context, query, manager)
    settings = _variables(manager)
    connection = connect_embedded(_event_log(context.instance), environment=manager.environment, settings=settings)
    try:
        snapshot = connection.refresh()
        selections = [_selection(context, upstream, snapshot) for upstream in query.upstreams]
        result = connection.sql(query.statement.sql, _parameters(context, query.statement), selections=selections)
        _attach_lineage(context, query, snapshot, result.schema)
        rows = _Rows(context, connection, result)
    except BaseException:
        connection.close()
        raise
    return pa.RecordBatchReader.from_batches(rows.schema, rows)


def plan_view(context: dg.AssetExecutionContext, query: Defined, manager: Manager) -> View:
    """Plan the SQL of a view over the tables as they are, and return the view with the tables' full names.

    Raises:
        ConfigurationError: The run's event log cannot be queried, or the SQL names another environment.
        MissingObjectError: An upstream has no materialization.
        SqlError: Two columns have one name, or a column has a type that no table can have.
        dagfusion_query.QueryError: The engine refuses the statement.
    """
    _check_environment(context, query, manager)
    settings = _variables(manager)
    event_log = _event_log(context.instance)
    with connect_embedded(event_log, environment=manager.environment, settings=settings) as connection:
        snapshot = connection.refresh()
        names: dict[Reference, TableName] = {}
        for upstream in query.upstreams:
            table = find_table(snapshot, tuple(upstream.key.path))
            if table is None:
                raise _no_table(context, upstream, snapshot)
            names |= dict.fromkeys(upstream.references, table.name)
        sql = with_tables(query.statement, names)
        if len(sql) > MAX_SQL:
            name = context.asset_key.to_user_string()
            raise SqlError(
                f"the SQL of view {name!r} has {len(sql):,} characters, more than {MAX_SQL:,}: split the view"
            )
        schema = connection.sql(sql).schema
    _attach_lineage(context, query, snapshot, schema)
    _check_columns(context, schema)
    columns = pa.schema([field.with_nullable(nullable=True).remove_metadata() for field in schema])
    return View(sql, tuple(dict.fromkeys(names.values())), columns)


def _check_columns(context: dg.AssetExecutionContext, schema: pa.Schema) -> None:
    name = context.asset_key.to_user_string()
    twice = [column for column, number in Counter(schema.names).items() if number > 1]
    if twice:
        raise SqlError(f"the SQL of view {name!r} has two columns {twice[0]!r}: name one of them with AS")
    for field in schema:
        try:
            parse_field(field_entry(field), "its type")
        except ContractError as error:
            raise SqlError(f"the SQL of view {name!r}: cast column {field.name!r} to another type: {error}") from error


class _Rows:
    """The batches of a result. The connection is closed after the last batch, or when this object is deleted."""

    def __init__(
        self, context: dg.AssetExecutionContext, connection: EmbeddedConnection, result: EmbeddedResult
    ) -> None:
        self._context, self._result = context, result
        # The engine finds some columns without NULL in some partitions only. All objects of a table have one schema.
        self.schema = pa.schema([field.with_nullable(nullable=True) for field in result.schema])
        self._close = weakref.finalize(self, connection.close)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._result:
                yield pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)
            stats = self._result.stats
            self._context.log.info(
                "the SQL read %d files, %d bytes, and has %d rows", stats.files_read, stats.bytes_read, stats.rows
            )
        finally:
            self._close()


def _event_log(instance: dg.DagsterInstance) -> str:
    """Return the location of an instance's event log, as the query side names it."""
    storage: Any = instance.event_log_storage
    url = getattr(storage, "postgres_url", None)
    if url is not None:
        return str(url)
    if hasattr(storage, "path_for_shard"):
        return str(storage.path_for_shard("index"))
    raise ConfigurationError(
        f"an asset that is defined by SQL needs an event log in PostgreSQL or SQLite; that of this run is in"
        f" {type(storage).__name__}: run it with a DAGSTER_HOME, or in a test with"
        " instance=DagsterInstance.local_temp(folder)"
    )


def _variables(manager: Manager) -> Mapping[str, str]:
    """Return the settings of the engine: those of the process, with the IO manager's store.

    Archived objects are not left out: a run that reads one fails, and stores no incomplete rows.
    """
    fields = ("endpoint_url", "region", "access_key_id", "secret_access_key", "session_token")
    variables = {**os.environ}
    variables.pop(_LEAVES_OUT, None)
    if manager.access_key_id is not None:
        variables.pop("AWS_SESSION_TOKEN", None)  # of other keys
    return {**variables, **as_variables(Settings, {name: getattr(manager, name) for name in fields})}


def _check_environment(context: dg.AssetExecutionContext, query: Defined, manager: Manager) -> None:
    for upstream in query.upstreams:
        names = names_of(upstream.key, [manager.environment])
        other = [reference for reference in upstream.references if reference not in names]
        if other:
            raise ConfigurationError(
                f"the SQL of asset {context.asset_key.to_user_string()!r} names the table {str(other[0])!r}, which is"
                f" not in environment {manager.environment!r} of its IO manager: leave the environment out of the name"
            )


def _selection(context: dg.AssetExecutionContext, upstream: Upstream, snapshot: Snapshot) -> Selection:
    """Return the partitions of an upstream that the run reads."""
    table = find_table(snapshot, tuple(upstream.key.path))
    names = tuple(TableName(each.schema or _DEFAULT_SCHEMA, each.table) for each in upstream.references)
    allow_missing = bool(metadata_value(context.assets_def.metadata_by_key[context.asset_key].get(ALLOW_MISSING_KEY)))
    if table is None:
        raise _no_table(context, upstream, snapshot)
    for warning in table.warnings:
        context.log.warning("table of asset %s: %s", upstream.key.to_user_string(), warning)
    selection = Selection(tuple(upstream.key.path), names, _partitions(context, upstream, table))
    missing = missing_partitions(snapshot, selection)
    if missing and not allow_missing:
        raise _not_materialized(context, upstream, missing)
    return selection


def _partitions(context: dg.AssetExecutionContext, upstream: Upstream, table: Table) -> frozenset[str] | None:
    if upstream.is_whole or (upstream.mapping is None and context.assets_def.partitions_def is None):
        return None
    input_name = next(name for name, key in context.assets_def.keys_by_input_name.items() if key == upstream.key)
    if context.get_step_execution_context().has_asset_partitions_for_input(input_name):
        return frozenset(map(str, context.asset_partition_keys_for_input(input_name)))
    if not any(key is not None for key in table.files["partition_key"].unique().to_pylist()):
        return None
    name = upstream.key.to_user_string()
    raise PartitionError(
        f"asset {context.asset_key.to_user_string()!r} reads asset {name!r}, whose partitions this code location does"
        f" not know: add AssetSpec({upstream.key.path}, partitions_def=...) to its assets, or give"
        f" deps=[AssetDep({upstream.key.path}, partition_mapping=AllPartitionMapping())] to read the whole table"
    )


def _no_table(context: dg.AssetExecutionContext, upstream: Upstream, snapshot: Snapshot) -> MissingObjectError:
    asset, name = context.asset_key.to_user_string(), upstream.key.to_user_string()
    names = {str(reference) for reference in upstream.references}
    others = [
        "/".join(table.asset_key)
        for table in snapshot.tables.values()
        if names & set(map(str, names_of(dg.AssetKey(table.asset_key), [snapshot.environment])))
    ]
    if others:
        return MissingObjectError(
            f"the SQL of asset {asset!r} names the table {min(names)!r}. It was resolved to asset {name!r} when the"
            f" code location was loaded, but belongs to asset {others[0]!r}: add that asset to assets= or deps=, or"
            " write its key in double quotes"
        )
    return MissingObjectError(
        f"asset {asset!r} reads asset {name!r}, which has no materialization: materialize it first"
    )


def _not_materialized(context: dg.AssetExecutionContext, upstream: Upstream, missing: Sequence[str]) -> PartitionError:
    asset, name = context.asset_key.to_user_string(), upstream.key.to_user_string()
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return PartitionError(
        f"asset {asset!r} reads {len(missing)} partitions of asset {name!r} that are not materialized:"
        f" {', '.join(missing[:_SHOWN])}{more}: materialize them, or set the metadata {ALLOW_MISSING_KEY} to True"
    )


def _parameters(context: dg.AssetExecutionContext, statement: Statement) -> Mapping[str, object]:
    """Return the values of the parameters that a statement has."""
    values: dict[str, object] = {}
    if "partition_key" in statement.parameters:
        if len(context.partition_keys) != 1:
            raise PartitionError(
                f"the SQL of asset {context.asset_key.to_user_string()!r} has $partition_key, and this run has"
                f" {len(context.partition_keys)} partitions: run one at a time, or use $window_start and $window_end"
            )
        values["partition_key"] = context.partition_keys[0]
    if WINDOW & statement.parameters:
        start, end = _window(context)
        kind = pa.timestamp("us", "UTC")
        values |= {"window_start": pa.scalar(start, kind), "window_end": pa.scalar(end, kind)}
    return values


def _window(context: dg.AssetExecutionContext) -> tuple[datetime, datetime]:
    """Return the start and the end of the time that a run's partitions have."""
    definition = context.assets_def.partitions_def
    found = time_dimension(definition)
    if found is None:
        raise TypeError(definition)
    name, days = found
    keys: set[str] = set(context.partition_keys)
    if isinstance(definition, dg.MultiPartitionsDefinition):
        keys = {definition.get_partition_key_from_str(key).keys_by_dimension[str(name)] for key in keys}
    windows = [days.time_window_for_partition_key(key) for key in keys]
    return min(window.start for window in windows), max(window.end for window in windows)


def _attach_lineage(context: dg.AssetExecutionContext, query: Defined, snapshot: Snapshot, schema: pa.Schema) -> None:
    """Put the lineage of the columns on the events, as it follows from the tables' columns."""
    keys = {reference: upstream.key for upstream in query.upstreams for reference in upstream.references}
    tables = {upstream.key: find_table(snapshot, tuple(upstream.key.path)) for upstream in query.upstreams}
    columns = {
        key: [*table.file_schema.names, *table.partition_schema.names]
        for key, table in tables.items()
        if table is not None
    }
    lineage = column_lineage(query.statement, keys, columns, schema.names)
    if lineage is not None:
        context.add_output_metadata({COLUMN_LINEAGE_KEY: lineage})

"""Sessions: DataFusion contexts in which the catalog's tables have their names.

A session is made for a shape of the catalog (its tables and their columns), and all generations of that shape share it.
So new partitions need no new session, and DataFusion's cache of Parquet footers stays warm.

DataFusion's own `information_schema` would show its settings, and the hidden tables that stand behind some views. Its
tables are in memory, which a serialized plan cannot carry. Ours has the catalog's own tables, as local files.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext
from datafusion.catalog import Schema

from dagfusion_client.sql_text import qualified
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.engine.generate_series import SeriesFunctions
from dagfusion_query.engine.parse import READ_ONLY, ViewPlans, Views
from dagfusion_query.engine.runtime import Stores
from dagfusion_query.scan.archived_files import ArchiveRule, archive_rule, split_archived
from dagfusion_query.scan.listing_tables import ScanLayout, Scratch, Template, scan_layout, view
from dagfusion_query.scan.table_scan import ScannedTable
from dagfusion_query.settings import Settings

SESSIONS = 4  # kept at once: callers with other grants see other tables
PAST_SESSIONS = 4  # beside these, over past generations
Shape = frozenset[tuple[TableName, str, frozenset[str]]]
TableSchemas = Mapping[TableName, pa.Schema]
Rules = Mapping[str, ArchiveRule]
NAME = "information_schema"
CATALOG = "datafusion"
_TABLES = ("table_catalog", "table_schema", "table_name", "table_type")
_SCHEMATA = ("catalog_name", "schema_name")
_COLUMNS = pa.schema(
    {
        "table_catalog": pa.string(),
        "table_schema": pa.string(),
        "table_name": pa.string(),
        "column_name": pa.string(),
        "ordinal_position": pa.uint64(),
        "column_default": pa.string(),
        "is_nullable": pa.string(),
        "data_type": pa.string(),
    }
)


class SessionResources(NamedTuple):
    """The resources that all sessions share.

    Attributes:
        settings: Memory, parallelism, caches.
        stores: The object stores, which a context is given as they are needed.
        series: `generate_series` and `range`.
    """

    settings: Settings
    stores: Stores
    series: SeriesFunctions


class Session:
    """A DataFusion context over the tables of one shape of the catalog.

    Args:
        tables: The tables, of any generation of that shape.
        views: The views.
        resources: What all sessions share.
    """

    def __init__(self, tables: Sequence[Table], views: Views, resources: SessionResources) -> None:
        self.stores, self.views, self._resources = resources.stores, views, resources
        self._scratch = Scratch()
        self._contexts = count()
        # Without their files, which are one generation's.
        self._tables = [(replace(t, files=t.files.schema.empty_table()), scan_layout(t)) for t in tables]
        self._templates = {
            table.name: self._scratch.template(number, layout.partition_schema)
            for number, (table, layout) in enumerate(self._tables)
        }
        self.context = self._new_context()
        self.view_plans = ViewPlans(self.context, views, READ_ONLY)

    @cached_property
    def unreduced_views(self) -> ViewPlans:
        """The views of `unreduced`."""
        return ViewPlans(self.unreduced, self.views, READ_ONLY)

    @cached_property
    def unreduced(self) -> SessionContext:
        """A context over the same tables without the rules that replace parts without rows by an EmptyRelation.

        An EmptyRelation loses its columns when a plan is serialized.
        """
        context = self._new_context()
        for rule in ("eliminate_filter", "eliminate_join", "eliminate_limit"):
            context.remove_optimizer_rule(rule)
        return context

    @cached_property
    def counting(self) -> SessionContext:
        """A context that counts the rows of witnesses, for plans with small inputs of joins: see `scan.join_order`."""
        context = new_context(self._resources.settings)
        context.sql("SET datafusion.execution.collect_statistics = true").collect()
        context.sql("SET datafusion.optimizer.join_reordering = false").collect()  # the inputs are in order
        self._resources.series.register(context)
        return context

    def template(self, name: TableName) -> Template:
        """Return the template folders of a table."""
        return self._templates[name]

    def close(self) -> None:
        """Remove the templates."""
        self._scratch.close()

    def _new_context(self) -> SessionContext:
        context = new_context(self._resources.settings)
        self._resources.series.register(context)
        for table, layout in self._tables:
            register(context, table, layout, self._templates[table.name].home)
        columns = {table.name: pa.schema([*table.file_schema, *table.partition_schema]) for table, _ in self._tables}
        views = {name: view.columns for name, view in self.views.items()}
        described = information_schema(columns, views)
        register_information_schema(
            context, described, self._scratch.path / f"information_schema{next(self._contexts)}"
        )
        return context


@dataclass(frozen=True, eq=False)
class BoundSession:
    """A session bound to one catalog generation: what a query sees from its start to its end.

    Attributes:
        tables: The tables, without the files that `rules` leave out.
        rules: The rules for archived objects, by environment.
    """

    session: Session
    snapshot: Snapshot
    tables: Mapping[TableName, ScannedTable]
    rules: Rules

    @property
    def context(self) -> SessionContext:
        """The DataFusion context."""
        return self.session.context


class Sessions:
    """The sessions of the shapes of the catalog that were used last.

    What still fits is kept from one generation to the next.

    Args:
        settings: Memory, parallelism, caches.
        stores: The object stores.
        archived_after: By environment, the days after which objects are archived; 0 for never.
        now: Returns the time by which they are.
    """

    def __init__(
        self, settings: Settings, stores: Stores, archived_after: Mapping[str, int], now: Callable[[], datetime]
    ) -> None:
        self._archived_after = {name: days for name, days in archived_after.items() if days}
        self._now = now
        self._resources = SessionResources(settings, stores, SeriesFunctions())
        self._bound_sessions: OrderedDict[tuple[Shape, int | None], BoundSession] = OrderedDict()

    @property
    def bound_sessions(self) -> Collection[BoundSession]:
        """The latest generation of each shape, and the past generations that were used last."""
        return self._bound_sessions.values()

    def rules(self) -> Rules:
        """Return the rules for archived objects today, by environment."""
        now = self._now()
        return {name: archive_rule(days, now) for name, days in self._archived_after.items()}

    def bind(self, snapshot: Snapshot) -> BoundSession:
        """Return the session for a generation. Not thread-safe: the engine holds a lock."""
        rules = self.rules()
        for key, bound in self._bound_sessions.items():
            if bound.snapshot is snapshot and bound.rules == rules:
                self._bound_sessions.move_to_end(key)
                return bound
        readable = [table for table in snapshot.tables.values() if table.problem is None]
        tables = [table for table in readable if table.view is None]
        views = {table.name: table.view.view for table in readable if table.view is not None}
        layouts = {table.name: scan_layout(table) for table in tables}
        shape: Shape = frozenset(
            (table.name, table.schema_id, layouts[table.name].nullable) for table in tables
        ) | frozenset((table.name, table.schema_id, frozenset()) for table in readable if table.view is not None)
        # A new generation takes the place of the one before; a past one has a place of its own.
        key = (shape, id(snapshot) if snapshot.is_past else None)
        similar = self._bound_sessions.get(key) or next(
            (bound for (of, _), bound in self._bound_sessions.items() if of == shape), None
        )
        session = Session(tables, views, self._resources) if similar is None else similar.session
        tables_by_name = {
            table.name: _kept(table, session, similar, rules)
            or _scanned_table(table, layouts[table.name], session, rules.get(table.environment))
            for table in tables
        }
        self._bound_sessions[key] = bound = BoundSession(session, snapshot, tables_by_name, rules)
        self._bound_sessions.move_to_end(key)
        self._drop_unused(is_past=snapshot.is_past)
        return bound

    def _drop_unused(self, *, is_past: bool) -> None:
        """Drop the sessions of one kind that were not used for the longest time."""
        keys = [key for key in self._bound_sessions if (key[1] is not None) == is_past]
        for key in keys[: -PAST_SESSIONS if is_past else -SESSIONS]:
            # Queries may still run in the old session: it is collected after the last of them.
            del self._bound_sessions[key]

    def close(self) -> None:
        """Drop the sessions."""
        for bound in self._bound_sessions.values():
            bound.session.close()
        self._bound_sessions.clear()


def new_context(settings: Settings) -> SessionContext:
    """Return a context with this service's limits and caches and no tables."""
    runtime = RuntimeEnvBuilder().with_disk_manager_os().with_fair_spill_pool(settings.memory_limit_bytes)
    config = (
        SessionConfig()
        .with_information_schema(enabled=False)  # it would show settings; each session has its own
        .with_target_partitions(settings.parallelism)
        .set("datafusion.execution.collect_statistics", "false")  # the catalog has them
        .set("datafusion.execution.parquet.schema_force_view_types", "false")  # or batches disagree with their schema
        # Where a CASE cannot be NULL, the logical plan may know that, and the physical plan not: an error otherwise.
        .set("datafusion.execution.skip_physical_aggregate_schema_check", "true")
        # A plan in which it moved a struct's field below an aggregate does not survive serialization.
        .set("datafusion.optimizer.enable_leaf_expression_pushdown", "false")
    )
    context = SessionContext(config, runtime)
    # It fails where an aggregate of constants is grouped by a column and a cast of it: both have the column's name.
    context.remove_optimizer_rule("eliminate_group_by_constant")
    # Nothing but template folders is ever listed, and they are complete before they are.
    for setting in (
        "list_files_cache_limit = '0K'",
        f"metadata_cache_limit = '{settings.footer_cache_bytes // 1024}K'",
    ):
        context.sql(f"SET datafusion.runtime.{setting}").collect()
    return context


def register(context: SessionContext, table: Table, layout: ScanLayout, folder: str) -> None:
    """Register a table over a local folder."""
    if table.name.schema not in context.catalog().schema_names():
        context.catalog().register_schema(table.name.schema, Schema.memory_schema())
    context.register_listing_table(
        qualified(layout.name),
        folder,
        schema=table.file_schema,
        table_partition_cols=[(field.name, field.type) for field in layout.partition_schema],
    )
    if layout.is_hidden:
        context.register_view(qualified(table.name), view(context.table(qualified(layout.name)), table, layout))
        context.deregister_table(qualified(layout.name))  # the view holds it; no one else shall name it


def information_schema(tables: TableSchemas, views: TableSchemas) -> Mapping[str, pa.RecordBatch]:
    """Describe the columns of tables and views as `information_schema` does, by the names of its tables."""
    ordered = sorted([*tables.items(), *views.items()])
    listed = [(CATALOG, *name, "VIEW" if name in views else "BASE TABLE") for name, _ in ordered]
    schemata = [(CATALOG, schema) for schema in sorted({name.schema for name, _ in ordered})]
    columns = [row for name, schema in ordered for row in _column_rows(name, schema)]
    return {
        "tables": _batch(listed, pa.schema({name: pa.string() for name in _TABLES})),
        "columns": _batch(columns, _COLUMNS),
        "schemata": _batch(schemata, pa.schema({name: pa.string() for name in _SCHEMATA})),
    }


def register_information_schema(context: SessionContext, batches: Mapping[str, pa.RecordBatch], folder: Path) -> None:
    """Register the description of a context's tables, which is written to files in a folder of its own."""
    context.catalog().register_schema(NAME, Schema.memory_schema())
    folder.mkdir()
    for name, batch in batches.items():
        path = folder / f"{name}.arrow"
        with pa.ipc.new_file(path, batch.schema) as writer:
            writer.write_batch(batch)
        context.register_arrow(NAME, path, batch.schema)
        context.catalog().schema(NAME).register_table(name, context.table_provider(NAME))
        context.deregister_table(NAME)


def _kept(table: Table, session: Session, similar: BoundSession | None, rules: Rules) -> ScannedTable | None:
    """Return the table as the scan knew it before; None if something about it has changed."""
    if similar is None or similar.snapshot.tables.get(table.name) is not table:
        return None
    before, environment = similar.tables[table.name], table.environment
    is_same = similar.rules.get(environment) == rules.get(environment)
    return before if is_same and before.template is session.template(table.name) else None


def _scanned_table(table: Table, layout: ScanLayout, session: Session, rule: ArchiveRule | None) -> ScannedTable:
    """Return the table as the scan knows it; its layout is that of all files, also of those that are left out."""
    left, archive = (table, None) if rule is None else split_archived(table, rule)
    return ScannedTable(left, layout, session.template(table.name), archive)


def _column_rows(name: TableName, columns: pa.Schema) -> Iterable[tuple[object, ...]]:
    for position, field in enumerate(columns, 1):
        yield (CATALOG, *name, field.name, position, None, "YES", str(field.type))


def _batch(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)

"""Stages a statement whose physical plan does not serialize: it runs over local files with the rows of its scans.

Each mention of a table becomes a plan of its own (its columns, its filters), which is spliced like any other and whose
rows are written to a local Arrow file. In the logical plan, which serializes, the mention then reads that file. So
DataFusion evaluates every predicate, and objects are read and checked as they always are.

    LogicalPlanNode {listing_scan 1}
    ListingTableScanNode {paths 2, projection 4: {columns 1}, filters 6, table_name 14}
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from datafusion import DataFrame, Expr, LogicalPlan, SessionContext

from dagfusion_contract.uri import store_url
from dagfusion_query.catalog.model import Table
from dagfusion_query.plan_messages import ListingTableScanNode, LogicalPlanNode, ProjectionColumns
from dagfusion_query.scan.copied_objects import ScanReads
from dagfusion_query.scan.plan_faults import may_misplace_filters
from dagfusion_query.scan.prune import column_names
from dagfusion_query.scan.splice import (
    NotSpliceable,
    Planning,
    Spliced,
    answer_aggregates,
    encoded_plan,
    splice,
    without_faults,
)
from dagfusion_query.scan.table_scan import Scan, ScannedTable
from dagfusion_query.wire import children, fields, message, rewrite

_OF_MENTION = (
    ListingTableScanNode.PROJECTION,
    ListingTableScanNode.FILTERS,
    ListingTableScanNode.TABLE_NAME,
)


@dataclass(frozen=True)
class Stage:
    """One mention of a table, whose rows are written to a local file before the statement runs.

    Attributes:
        marker: The path that stands for the file in the logical plan.
        schema: The columns of the file.
        plans: The plans that give its rows, one for each store that the table's files are in.
    """

    marker: bytes
    schema: pa.Schema
    plans: Sequence[Spliced]
    table: Table

    @property
    def scans(self) -> Sequence[Scan]:
        """The scan that it reads; a scan of no file where the filters rule every row out."""
        return [scan for plan in self.plans for scan in plan.scans] or [Scan(self.table, pa.array([], pa.int64()), [])]


@dataclass(frozen=True)
class Staged:
    """A logical plan, and what has to be staged before it can run.

    Attributes:
        logical: The plan as bytes; each stage's marker stands in it once.
        answered: The scans that the catalog answered.
    """

    logical: bytes
    stages: Sequence[Stage]
    answered: Sequence[Scan]

    @property
    def scans(self) -> Sequence[Scan]:
        """The scans of the statement."""
        return [*self.answered, *(scan for stage in self.stages for scan in stage.scans)]

    @property
    def reads(self) -> Sequence[ScanReads]:
        """The scans of its stages, with the places of their objects."""
        return [read for stage in self.stages for plan in stage.plans for read in plan.reads]

    @property
    def stores(self) -> frozenset[tuple[str, str]]:
        """The environments and URLs of the stores that the statement reads from."""
        return frozenset(store for stage in self.stages for plan in stage.plans for store in plan.stores)

    @property
    def size_bytes(self) -> int:
        """Bytes of the encoded plans."""
        return len(self.logical) + sum(len(plan.plan) for stage in self.stages for plan in stage.plans)

    def frame(self, files: Sequence[Path], context: SessionContext) -> DataFrame:
        """Return the statement over staged files.

        Args:
            files: One Arrow file for each stage.
            context: The session that the plan was made in.
        """
        logical = self.logical
        for stage, file in zip(self.stages, files, strict=True):
            scan = _arrow_scan(file, stage.schema)
            logical = rewrite(logical, stage.marker, lambda node, s=stage, f=scan: _reading(node, s.marker, f))  # type: ignore[misc]
        return context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, logical))


def stage(optimized: LogicalPlan, planning: Planning) -> Staged:
    """Plan a statement over local files that hold the rows of its scans.

    Args:
        optimized: The statement's optimized logical plan over template tables.
        planning: What it is planned with.

    Raises:
        NotSpliceable: The logical plan does not serialize, or cannot be read again.
    """
    logical = encoded_plan(optimized)
    named = planning.named(logical)
    answered: list[Scan] = []
    for scan_table in named:
        logical = answer_aggregates(logical, scan_table, answered, planning.context)
    logical = _replannable(logical, optimized, planning.context)
    stages: list[Stage] = []
    for scan_table in named:
        home = scan_table.template.url

        def change(node: bytes, scan_table: ScannedTable = scan_table, home: bytes = home) -> bytes | None:
            if home not in children(node, ListingTableScanNode.PATHS):
                return None
            marker = f"file:///staged/{len(stages)}/".encode()
            stages.append(_stage(marker, node, scan_table, planning))
            return _with_paths(node, marker)

        logical = rewrite(logical, home, change)
    return Staged(logical, stages, answered)


def _replannable(logical: bytes, optimized: LogicalPlan, context: SessionContext) -> bytes:
    """Return an encoded plan that keeps its meaning when it is planned again, which is how an execution begins."""
    text = optimized.display_indent()
    try:
        misplaced = may_misplace_filters(optimized, text, context)
        logical = without_faults(logical, text, context, misplaced=misplaced)
        context.create_dataframe_from_logical_plan(LogicalPlan.from_bytes(context, logical)).execution_plan()
    except Exception as error:
        raise NotSpliceable(f"the logical plan cannot be planned again: {error}") from error
    return logical


def names_a_table(plan: LogicalPlan, tables: Sequence[ScannedTable]) -> bool:
    """Return True if a plan scans one of these tables."""
    heads = tuple(
        f"TableScan: {catalog}{scan_table.layout.name}{end}"
        for scan_table in tables
        for catalog in ("", "datafusion.")
        for end in (" ", ",", "\n")
    )
    return any(f"{line.strip()}\n".startswith(heads) for line in plan.display_indent().splitlines())


def _stage(marker: bytes, node: bytes, scan_table: ScannedTable, planning: Planning) -> Stage:
    context = planning.context
    filters = [Expr.from_bytes(data, context) for data in children(node, ListingTableScanNode.FILTERS)]
    leaf = LogicalPlan.from_bytes(
        context, message(LogicalPlanNode.LISTING_SCAN, _projecting(node, _columns(node, filters, scan_table)))
    )
    frame = context.create_dataframe_from_logical_plan(leaf)
    for expr in filters:
        frame = frame.filter(expr)
    optimized = frame.optimized_logical_plan()
    parts = (planning._replace(tables=[part], counting=None) for part in _by_store(scan_table))
    plans = [splice(optimized, part) for part in parts]
    return Stage(marker, context.create_dataframe_from_logical_plan(optimized).schema(), plans, scan_table.table)


def _columns(node: bytes, filters: Sequence[Expr], scan_table: ScannedTable) -> Sequence[str]:
    """Return the columns that a mention needs, in the table's order; one at least, whose rows can be counted."""
    every = [*scan_table.layout.partition_schema.names, *scan_table.table.file_schema.names]
    projected = {
        name.decode()
        for columns in children(node, ListingTableScanNode.PROJECTION)
        for name in children(columns, ProjectionColumns.COLUMNS)
    }
    try:
        needed = projected.union(*(column_names(expr) for expr in filters))
    except ValueError:  # a filter that cannot be looked into
        return every
    return [name for name in every if name in needed] or every[:1]


def _by_store(scan_table: ScannedTable) -> Iterator[ScannedTable]:
    """Split a table by the stores that its files are in: a scan reads from one."""
    if scan_table.store is not None or not len(scan_table.table.files):
        yield scan_table
        return
    uris = scan_table.table.files["uri"].to_pylist()
    stores, archive = pa.array([store_url(uri) for uri in uris]), scan_table.archive
    for store in stores.unique():
        files = scan_table.table.files.filter(pc.equal(stores, store))
        yield replace(scan_table, table=replace(scan_table.table, files=files), archive=archive)
        archive = None  # it is reported once


def _projecting(node: bytes, columns: Sequence[str]) -> bytes:
    rest = b"".join(field.raw for field in fields(node) if field.number != ListingTableScanNode.PROJECTION)
    return rest + message(
        ListingTableScanNode.PROJECTION, b"".join(message(ProjectionColumns.COLUMNS, name.encode()) for name in columns)
    )


def _with_paths(node: bytes, path: bytes) -> bytes:
    return message(ListingTableScanNode.PATHS, path) + b"".join(
        field.raw for field in fields(node) if field.number != ListingTableScanNode.PATHS
    )


def _arrow_scan(file: Path, schema: pa.Schema) -> bytes:
    """Return the encoded scan of an Arrow file, without what a mention brings."""
    context = SessionContext()
    context.register_arrow("staged", file, schema)
    (node,) = children(context.table("staged").logical_plan().to_bytes(), LogicalPlanNode.LISTING_SCAN)
    return b"".join(field.raw for field in fields(node) if field.number not in _OF_MENTION)


def _reading(node: bytes, marker: bytes, scan: bytes) -> bytes | None:
    """Return a mention that reads a staged file; None for a node that is not the marked one."""
    if marker not in children(node, ListingTableScanNode.PATHS):
        return None
    return scan + b"".join(field.raw for field in fields(node) if field.number in _OF_MENTION)

"""How a statement runs whose plan does not serialize: over a `pyarrow.dataset` of the files that its filters keep.

Slower than the splice (Arrow's scanner feeds DataFusion), with the same answer. Recursive CTEs over tables, laterals
with outer references and information_schema come this way.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from datafusion import DataFrame, Expr, LogicalPlan, SessionContext
from datafusion.catalog import Schema
from pyarrow import fs

from dagfusion_query.catalog.entry import object_path, store_url
from dagfusion_query.catalog.naming import TableName
from dagfusion_query.engine.information_schema import register_information_schema
from dagfusion_query.engine.session import Bound, new_context, register
from dagfusion_query.engine.stores import Stores
from dagfusion_query.scan.scanned import Scan, ScannedTable, prune_scan
from dagfusion_query.settings import Settings

Replan = Callable[[SessionContext], DataFrame]


def fall_back(
    plan: LogicalPlan, bound: Bound, settings: Settings, stores: Stores, replan: Replan
) -> tuple[DataFrame, list[Scan]]:
    """Plan a statement again over datasets.

    Args:
        plan: The statement's optimized logical plan over template tables.
        bound: The session and generation it was planned in.
        settings: How much memory there is.
        stores: Where the objects are.
        replan: Plans the statement in another context.

    Returns:
        The statement over real files, and what it scans.
    """
    text = plan.display_indent()
    scans = [_scan(scanned, plan, text) for scanned in bound.tables.values() if _mentions(text, scanned.layout.name)]
    scanned_tables = {scan.table.name: scan for scan in scans}
    context = new_context(settings)
    for name, scanned in bound.tables.items():
        if name in scanned_tables:
            _register_dataset(context, scanned_tables[name], stores)
        else:
            register(context, scanned.table, scanned.layout, scanned.template.home)
    register_information_schema(context, bound.session.information)
    return replan(context), scans


def _mentions(text: str, name: TableName) -> int:
    """Count the scans of a table in a plan's text, which shows those inside of subqueries too."""
    return sum(line.strip().startswith(_heads(name)) for line in text.splitlines())


def _heads(name: TableName) -> tuple[str, ...]:
    return tuple(f"TableScan: {catalog}{name}{end}" for catalog in ("", "datafusion.") for end in (" ", ","))


def _scan(scanned: ScannedTable, plan: LogicalPlan, text: str) -> Scan:
    """Prune by the filters of a table's scans, if the plan shows them all; else keep every file."""
    table = scanned.table
    found = [scan for scan in _walk(plan) if _names(scan.fqn(), scanned.layout.name)]
    if len(found) != _mentions(text, scanned.layout.name):
        return Scan(table, None, [])
    mentions = [prune_scan(scanned, _exprs(scan), _relation(scan.fqn())) for scan in found]
    filters = [applied for mention in mentions for applied in mention.filters]
    kept: set[int] = set()
    for mention in mentions:
        if mention.files is None:
            return Scan(table, None, filters)
        kept.update(mention.files.to_pylist())
    return Scan(table, pa.array(sorted(kept), pa.int64()), filters)


def _exprs(scan: Any) -> list[Expr]:
    return [expr if isinstance(expr, Expr) else Expr(expr) for expr in scan.filters()]


def _walk(plan: LogicalPlan) -> list[Any]:
    """Return every table scan among a plan's inputs."""
    try:
        variant = plan.to_variant()
    except Exception:  # noqa: BLE001  # a node that Python has no class for: it is no table scan
        variant = None
    here = [variant] if type(variant).__name__ == "TableScan" else []
    return here + [scan for child in plan.inputs() for scan in _walk(child)]


def _names(fqn: tuple[str | None, str | None, str], name: TableName) -> bool:
    return fqn[1:] == tuple(name)


def _relation(fqn: tuple[str | None, str | None, str]) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in fqn if part)


def _register_dataset(context: SessionContext, scan: Scan, stores: Stores) -> None:
    table = scan.table
    schema = pa.schema([*table.file_schema, *table.partition_schema])
    name = table.name
    if name.schema not in context.catalog().schema_names():
        context.catalog().register_schema(name.schema, Schema.memory_schema())
    dataset = _dataset(scan, schema, stores.settings(table.environment))
    context.register_dataset("dataset", dataset)
    context.catalog().schema(name.schema).register_table(name.table, context.table_provider("dataset"))
    context.deregister_table("dataset")


def _dataset(scan: Scan, schema: pa.Schema, settings: Settings) -> ds.Dataset:
    kept = scan.kept
    files = zip(kept["uri"].to_pylist(), kept["partition"].to_pylist(), strict=True)
    systems: dict[str, fs.FileSystem] = {}
    form = ds.ParquetFileFormat()
    fragments = []
    for uri, values in files:
        store = store_url(uri)
        if store not in systems:
            systems[store] = _file_system(store, settings)
        path = f"{store.partition('://')[2]}{object_path(uri)}" if store != "file:///" else f"/{object_path(uri)}"
        fragments.append(form.make_fragment(path, systems[store], partition_expression=_equals(values)))
    return ds.FileSystemDataset(fragments, schema, form)


def _equals(values: dict[str, Any]) -> pc.Expression:
    expression = pc.scalar(True)  # noqa: FBT003  # a literal
    for name, value in values.items():
        field = pc.field(name)
        expression = expression & (field.is_null() if value is None else field == pc.scalar(value))
    return expression


def _file_system(store: str, settings: Settings) -> fs.FileSystem:
    if store == "file:///":
        return fs.LocalFileSystem()
    options: dict[str, Any] = {"region": settings.region, "connect_timeout": 5, "request_timeout": 30}
    if settings.access_key_id:
        options |= {"access_key": settings.access_key_id, "secret_key": settings.secret_access_key}
        options |= {"session_token": settings.session_token} if settings.session_token else {}
    if settings.endpoint_url:
        scheme, _, host = settings.endpoint_url.partition("://")
        options |= {"endpoint_override": host.rstrip("/"), "scheme": scheme}
    return fs.S3FileSystem(**options)

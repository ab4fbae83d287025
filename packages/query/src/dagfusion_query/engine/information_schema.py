"""`information_schema` as callers see it: the catalog's own tables, and nothing of the engine or its settings.

DataFusion's own would show its settings, and the hidden tables that stand behind some views. Its tables are in memory,
which a serialized plan cannot carry; these are local files.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from datafusion import SessionContext
from datafusion.catalog import Schema

from dagfusion_query.catalog.model import Table

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


def information_schema(tables: Iterable[Table]) -> Mapping[str, pa.RecordBatch]:
    """Describe tables as `information_schema` does, by the names of its tables."""
    ordered = sorted(tables, key=lambda table: table.name)
    named = [(CATALOG, table.name.schema, table.name.table, "BASE TABLE") for table in ordered]
    schemata = [(CATALOG, schema) for schema in sorted({table.name.schema for table in ordered})]
    columns = [row for table in ordered for row in _columns(table)]
    return {
        "tables": _batch(named, pa.schema({name: pa.string() for name in _TABLES})),
        "columns": _batch(columns, _COLUMNS),
        "schemata": _batch(schemata, pa.schema({name: pa.string() for name in _SCHEMATA})),
    }


def register_information_schema(context: SessionContext, batches: Mapping[str, pa.RecordBatch], folder: Path) -> None:
    """Give a context the description of its tables, which is written to files in a folder of its own."""
    context.catalog().register_schema(NAME, Schema.memory_schema())
    folder.mkdir()
    for name, batch in batches.items():
        path = folder / f"{name}.arrow"
        with pa.ipc.new_file(path, batch.schema) as writer:
            writer.write_batch(batch)
        context.register_arrow(NAME, path, batch.schema)
        context.catalog().schema(NAME).register_table(name, context.table_provider(NAME))
        context.deregister_table(NAME)


def _columns(table: Table) -> Iterable[tuple[object, ...]]:
    fields = [*table.file_schema, *table.partition_schema]
    for position, field in enumerate(fields, 1):
        yield (CATALOG, *table.name, field.name, position, None, "YES", str(field.type))


def _batch(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)

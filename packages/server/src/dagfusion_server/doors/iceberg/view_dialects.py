"""The statements of views in the dialects of engines that read the Iceberg catalog."""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Mapping

import pyarrow as pa

from dagfusion_contract.naming import TableName
from dagfusion_interop.iceberg.iceberg_schema import iceberg_schema
from dagfusion_interop.spark.spark_sql import spark_view
from dagfusion_query.catalog.model import PublishedView, Snapshot, Table, layouts_of

_KEPT = 200  # statements
_WRITING = 1  # statements at a time


class ViewDialects:
    """Writes the statements of views in other dialects than DataFusion's, and keeps the last ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, str] = OrderedDict()
        self._writing = asyncio.Semaphore(_WRITING)

    async def of(self, view: PublishedView, snapshot: Snapshot) -> Mapping[str, str]:
        """Return the statements of a view by their dialects. A statement of 100 kB takes seconds on a thread.

        Args:
            view: The view.
            snapshot: Has its tables.
        """
        tables = {name: snapshot.tables[name] for name in view.view.tables if name in snapshot.tables}
        async with self._writing:
            return {"spark": await asyncio.to_thread(self._spark, view, tables, snapshot)}

    def _spark(self, view: PublishedView, tables: Mapping[TableName, Table], snapshot: Snapshot) -> str:
        columns = {name: pa.schema([*table.file_schema, *table.partition_schema]) for name, table in tables.items()}
        left_out = {
            name: iceberg_schema(table, layouts_of(table, snapshot.asset_states[table.asset_key])).left_out
            for name, table in tables.items()
            if table.view is None
        }
        of_tables = tuple((name, tables[name].schema_id, bool(left_out.get(name))) for name in sorted(tables))
        key = (view.rank, view.view.sql, of_tables)
        if key not in self._kept:
            self._kept[key] = spark_view(view.view, columns, left_out)
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]

"""The statements of views in other dialects: what they need of their tables, and where they are written."""

import asyncio
import threading

import pyarrow as pa
import pytest

from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_interop.spark.spark_sql import spark_view
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import PublishedView, Snapshot
from dagfusion_server.doors.iceberg import view_dialects
from dagfusion_server.doors.iceberg.view_dialects import ViewDialects
from tests.interop.iceberg.reading import Part, record
from tests.query.catalog.folding import EMPTY, written

ORDERS, WIDE = TableName("uat_silver", "orders"), TableName("uat_silver", "wide")
NESTED = "SELECT id FROM uat_silver.orders WHERE EXISTS (SELECT 1 FROM uat_silver.wide WHERE big > 5)"


def snapshot(kind: str) -> Snapshot:
    parts = {"orders": {"id": "int64"}, "wide": {"id": "int64", "big": kind}}
    events = [
        written(record(number, Part((), columns, {}), {}), number, ("Silver", name))
        for number, (name, columns) in enumerate(parts.items(), 1)
    ]
    return fold(EMPTY, events)


def view(sql: str, *tables: TableName, event_id: int = 9) -> PublishedView:
    return PublishedView(event_id, 0, "run", View(sql, tables, pa.schema({"id": pa.int64()})))


def test_a_table_without_a_column_in_iceberg_is_in_no_statement_for_spark() -> None:
    """Without `big`, Spark would take a column of the outer query of this name."""
    dialects = ViewDialects()
    for kind, is_published in (("int64", True), ("uint64", False), ("int64", True)):
        statement = asyncio.run(dialects.of(view(NESTED, ORDERS, WIDE), snapshot(kind)))["spark"]
        assert (" FROM `uat_silver`.`orders` WHERE EXISTS" in statement) is is_published
        assert ("may have other rows" in statement) is not is_published


def test_a_statement_is_written_once_and_not_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def noted(*arguments: object) -> str:
        threads.append(threading.current_thread())
        return spark_view(*arguments)  # type: ignore[arg-type]  # those of the caller

    monkeypatch.setattr(view_dialects, "spark_view", noted)
    dialects, seen = ViewDialects(), view("SELECT id FROM uat_silver.orders", ORDERS)
    later = view("SELECT id FROM uat_silver.orders", ORDERS, event_id=10)
    for one, state, count in ((seen, "int64", 1), (seen, "uint64", 1), (later, "int64", 2), (seen, "int64", 2)):
        asyncio.run(dialects.of(one, snapshot(state)))
        assert len(threads) == count
    assert threading.current_thread() not in threads

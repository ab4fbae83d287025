"""A view: a statement that is served as a table, as the entry `dagfusion/view` of a materialization. Pure.

A view has no object. The last materialization of its asset says what the view is, so a view changes with the event log
as tables do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dagfusion_contract.arrow_types import field_entry, parse_field
from dagfusion_contract.errors import MalformedRecordError
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import versioned

VIEW_ENTRY = "dagfusion/view"
VIEW_VERSION = 1
MAX_SQL = 100_000  # characters


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        sql: One SELECT statement. Each of its tables has its schema.
        tables: The tables and views that the statement reads.
        columns: The result's columns when the view was published, every field nullable.
    """

    sql: str
    tables: Sequence[TableName]
    columns: pa.Schema


def view_entry(view: View) -> dict[str, Any]:
    """Return the entry `dagfusion/view`."""
    return {
        "version": VIEW_VERSION,
        "sql": view.sql,
        "tables": [str(name) for name in view.tables],
        "columns": [field_entry(field) for field in view.columns],
    }


def read_view(record: object) -> View:
    """Read an entry.

    Args:
        record: The entry, parsed from JSON.

    Raises:
        RecordVersionError: Its version is not 1.
        MalformedRecordError: It breaks the contract; the message names the field.
    """
    record = versioned(record, VIEW_ENTRY, VIEW_VERSION)
    sql = record.get("sql")
    if not isinstance(sql, str) or not sql.strip() or len(sql) > MAX_SQL:
        raise MalformedRecordError(f"{VIEW_ENTRY}.sql must be text of 1 to {MAX_SQL} characters, got {sql!r:.200}")
    tables = tuple(_table(text) for text in _list(record, "tables"))
    fields = [parse_field(spec, f"{VIEW_ENTRY}.columns") for spec in _list(record, "columns")]
    names = [field.name for field in fields]
    if not names or len(set(names)) < len(names):
        raise MalformedRecordError(f"{VIEW_ENTRY}.columns must have one or more names, each once, got {names!r:.200}")
    return View(sql, tables, pa.schema(fields))


def _list(record: Mapping[str, Any], name: str) -> Sequence[object]:
    value = record.get(name)
    if not isinstance(value, list):
        raise MalformedRecordError(f"{VIEW_ENTRY}.{name} must be a list, got {value!r:.200}")
    return value


def _table(text: object) -> TableName:
    schema, dot, table = text.partition(".") if isinstance(text, str) else ("", "", "")
    if not (schema and dot and table) or "." in table:
        raise MalformedRecordError(f"{VIEW_ENTRY}.tables must be names such as 'uat_silver.orders', got {text!r:.200}")
    return TableName(schema, table)

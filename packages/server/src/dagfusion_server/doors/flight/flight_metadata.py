"""The results of Flight SQL's metadata commands, with the tables that the caller may read. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from dagfusion_client.errors import BadRequestError
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_server.doors.flight import sql_info
from dagfusion_server.doors.flight.sql_info import TYPES, sql_type, type_info_row

CATALOG = "datafusion"  # the engine's name for the only catalog that it has
TABLE, VIEW = "TABLE", "VIEW"
_TEXT = pa.utf8()


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_CATALOGS = pa.schema([_required("catalog_name", _TEXT)])
_SCHEMAS = pa.schema([pa.field("catalog_name", _TEXT), _required("db_schema_name", _TEXT)])
_TABLES = pa.schema(
    [
        pa.field("catalog_name", _TEXT),
        pa.field("db_schema_name", _TEXT),
        _required("table_name", _TEXT),
        _required("table_type", _TEXT),
    ]
)
_TABLES_WITH_SCHEMA = _TABLES.append(_required("table_schema", pa.binary()))
_TABLE_TYPES = pa.schema([_required("table_type", _TEXT)])
_PRIMARY_KEYS = pa.schema(
    [
        pa.field("catalog_name", _TEXT),
        pa.field("db_schema_name", _TEXT),
        _required("table_name", _TEXT),
        _required("column_name", _TEXT),
        pa.field("key_name", _TEXT),
        _required("key_sequence", pa.int32()),
    ]
)
_FOREIGN_KEYS = pa.schema(
    [
        pa.field("pk_catalog_name", _TEXT),
        pa.field("pk_db_schema_name", _TEXT),
        _required("pk_table_name", _TEXT),
        _required("pk_column_name", _TEXT),
        pa.field("fk_catalog_name", _TEXT),
        pa.field("fk_db_schema_name", _TEXT),
        _required("fk_table_name", _TEXT),
        _required("fk_column_name", _TEXT),
        _required("key_sequence", pa.int32()),
        pa.field("fk_key_name", _TEXT),
        pa.field("pk_key_name", _TEXT),
        _required("update_rule", pa.uint8()),
        _required("delete_rule", pa.uint8()),
    ]
)
_TYPE_INFO = pa.schema(
    [
        _required("type_name", _TEXT),
        _required("data_type", pa.int32()),
        pa.field("column_size", pa.int32()),
        pa.field("literal_prefix", _TEXT),
        pa.field("literal_suffix", _TEXT),
        pa.field("create_params", pa.list_(_required("item", _TEXT))),
        _required("nullable", pa.int32()),
        _required("case_sensitive", pa.bool_()),
        _required("searchable", pa.int32()),
        pa.field("unsigned_attribute", pa.bool_()),
        _required("fixed_prec_scale", pa.bool_()),
        pa.field("auto_increment", pa.bool_()),
        pa.field("local_type_name", _TEXT),
        pa.field("minimum_scale", pa.int32()),
        pa.field("maximum_scale", pa.int32()),
        _required("sql_data_type", pa.int32()),
        pa.field("datetime_subcode", pa.int32()),
        pa.field("num_prec_radix", pa.int32()),
        pa.field("interval_precision", pa.int32()),
    ]
)
_RESULTS: Mapping[str, pa.Schema] = {
    "CommandGetCatalogs": _CATALOGS,
    "CommandGetDbSchemas": _SCHEMAS,
    "CommandGetTableTypes": _TABLE_TYPES,
    "CommandGetSqlInfo": sql_info.SCHEMA,
    "CommandGetXdbcTypeInfo": _TYPE_INFO,
    "CommandGetPrimaryKeys": _PRIMARY_KEYS,
    "CommandGetImportedKeys": _FOREIGN_KEYS,
    "CommandGetExportedKeys": _FOREIGN_KEYS,
    "CommandGetCrossReference": _FOREIGN_KEYS,
}


def metadata_schema(name: str, command: Any) -> pa.Schema | None:
    """Return the columns of a metadata command's result; None when the command is not one."""
    if name == "CommandGetTables":
        return _TABLES_WITH_SCHEMA if command.include_schema else _TABLES
    return _RESULTS.get(name)


def needs_tables(name: str) -> bool:
    """Return True if the result of a command depends on the caller's grants."""
    return name in ("CommandGetDbSchemas", "CommandGetTables")


def metadata_result(name: str, command: Any, snapshots: Iterable[Snapshot], statement_limit_bytes: int) -> pa.Table:
    """Return the result of a metadata command.

    Args:
        name: The name of a command that `metadata_schema` knows.
        command: Its message.
        snapshots: What the caller may read, where `needs_tables`.
        statement_limit_bytes: Length of a statement.
    """
    schema = metadata_schema(name, command)
    match name:
        case "CommandGetCatalogs":
            rows: list[dict[str, Any]] = [{"catalog_name": CATALOG}]
        case "CommandGetDbSchemas":
            rows = _schema_rows(command, snapshots)
        case "CommandGetTables":
            rows = _table_rows(command, snapshots)
        case "CommandGetTableTypes":
            rows = [{"table_type": TABLE}, {"table_type": VIEW}]
        case "CommandGetSqlInfo":
            return sql_info.sql_info(frozenset(command.info), statement_limit_bytes)
        case "CommandGetXdbcTypeInfo":
            wanted = command.data_type if command.HasField("data_type") else None
            rows = [type_info_row(kind) for kind in TYPES if wanted is None or kind.code == wanted]
        case _:  # keys: there are none
            rows = []
    return pa.Table.from_pylist(rows, schema)


def _schema_rows(command: Any, snapshots: Iterable[Snapshot]) -> list[dict[str, Any]]:
    matches = _pattern(command, "db_schema_filter_pattern")
    names = {schema for schema, _, _ in _tables(snapshots)} if _is_ours(command) else set()
    return [{"catalog_name": CATALOG, "db_schema_name": name} for name in sorted(names) if matches(name)]


def _table_rows(command: Any, snapshots: Iterable[Snapshot]) -> list[dict[str, Any]]:
    if not _is_ours(command):
        return []
    kinds = command.table_types or (TABLE, VIEW)
    schemas, names = _pattern(command, "db_schema_filter_pattern"), _pattern(command, "table_name_filter_pattern")
    found = [(s, n, t) for s, n, t in _tables(snapshots) if schemas(s) and names(n) and _kind(t) in kinds]
    found.sort(key=lambda entry: entry[:2])
    rows = [
        {"catalog_name": CATALOG, "db_schema_name": s, "table_name": n, "table_type": _kind(t)} for s, n, t in found
    ]
    if command.include_schema:
        for row, (_, _, table) in zip(rows, found, strict=True):
            row["table_schema"] = columns(table).serialize().to_pybytes()
    return rows


def _tables(snapshots: Iterable[Snapshot]) -> Iterator[tuple[str, str, Table]]:
    for snapshot in snapshots:
        for name, table in snapshot.tables.items():
            yield name.schema, name.table, table


def _kind(table: Table) -> str:
    return TABLE if table.view is None else VIEW


def columns(table: Table) -> pa.Schema:
    """Return a table's columns with what JDBC and ODBC want to know of each; partition columns are last."""
    fields = [*table.file_schema, *table.partition_schema]
    return pa.schema([field.with_metadata(_column(field.type, table)) for field in fields])


def _column(kind: pa.DataType, table: Table) -> dict[str, str]:
    type_ = sql_type(kind)
    entries = {
        "CATALOG_NAME": CATALOG,
        "DB_SCHEMA_NAME": table.name.schema,
        "TABLE_NAME": table.name.table,
        "TYPE_NAME": type_.name,
        "PRECISION": type_.size,
        "SCALE": kind.scale if pa.types.is_decimal(kind) else None,
        "IS_AUTO_INCREMENT": 0,
        "IS_CASE_SENSITIVE": int(type_.name == "VARCHAR"),
        "IS_READ_ONLY": 1,
        "IS_SEARCHABLE": 1,
    }
    return {f"ARROW:FLIGHT:SQL:{name}": str(value) for name, value in entries.items() if value is not None}


def _is_ours(command: Any) -> bool:
    return not command.HasField("catalog") or command.catalog == CATALOG


def _pattern(command: Any, field: str) -> Callable[[str], bool]:
    return like(getattr(command, field) if command.HasField(field) else "%")


_LONGEST = 1024
_PART = re.compile(r"\\?.", re.DOTALL)


def like(pattern: str) -> Callable[[str], bool]:
    r"""Return what tells whether a whole text fits a pattern, in time of both their lengths multiplied at most.

    Raises:
        BadRequestError: The pattern is longer than any name.

    >>> [text for text in ("orders", "raw_orders", "raworders") if like(r"%\_ord%")(text)]
    ['raw_orders']
    """
    if len(pattern) > _LONGEST:
        raise BadRequestError(f"a pattern must have at most {_LONGEST} characters, got {len(pattern)}")
    parts = [part if part in ("%", "_") else part[-1:] + "\\" for part in _PART.findall(pattern)]
    return lambda text: _fits(parts, text)


def _fits(parts: list[str], text: str) -> bool:
    """Match greedily: only the last `%` passed ever has to take one more character."""
    part = at = 0
    last, resume = -1, 0
    while at < len(text):
        if part < len(parts) and parts[part] == "%":
            last, resume = part, at
            part += 1
        elif part < len(parts) and (parts[part] == "_" or (parts[part][0] == text[at] and len(parts[part]) > 1)):
            part, at = part + 1, at + 1
        elif last >= 0:
            resume += 1
            part, at = last + 1, resume
        else:
            return False
    return all(rest == "%" for rest in parts[part:])

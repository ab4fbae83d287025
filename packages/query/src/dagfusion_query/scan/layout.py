"""Partition columns as DataFusion's scan can have them: never NULL, with names that a folder can have.

ListingTable declares its partition columns NOT NULL, and the optimizer believes that: `state IS NULL` becomes false
before any file is looked at. It also looks for their names in folder names, where `größe` or `a b` stand escaped. So a
column with a NULL, or such a name, is scanned as a value and, where it has a NULL, a flag; a view over the scan makes
the column again. Filters on the view's column reach the scan as filters on these, and prune as exactly as any.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from datafusion import DataFrame, Expr, lit
from datafusion import functions as f

from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.entry import encode_entries
from dagfusion_query.catalog.model import Table
from dagfusion_query.sql_text import quoted

HIDDEN = "$scan"  # an identifier to DataFusion, and never the end of a table's name
_PLAIN = re.compile(r"\w+", re.ASCII)


@dataclass(frozen=True)
class ScanLayout:
    """How a table's partition columns stand in its scan.

    Attributes:
        name: The scan's name: the table's own, or a hidden one when a view stands before it.
        nullable: The partition columns that hold a NULL.
        partition_schema: The scan's partition columns.
    """

    name: TableName
    nullable: frozenset[str]
    partition_schema: pa.Schema

    @property
    def is_hidden(self) -> bool:
        """Whether a view stands before the scan."""
        return self.name.table.endswith(HIDDEN)


def scan_layout(table: Table) -> ScanLayout:
    """Return the layout that fits a table's partition values."""
    columns = zip(table.partition_schema, table.files["partition"].flatten(), strict=True)
    nullable = frozenset(field.name for field, column in columns if column.null_count)
    parts = [_parts(i, field, nullable) for i, field in enumerate(table.partition_schema)]
    if [fields for fields, _ in parts] == [[field] for field in table.partition_schema]:
        return ScanLayout(table.name, nullable, table.partition_schema)
    hidden = TableName(table.name.schema, f"{table.name.table}{HIDDEN}")
    return ScanLayout(hidden, nullable, pa.schema([field for fields, _ in parts for field in fields]))


def scan_files(table: Table, layout: ScanLayout) -> pa.Table:
    """Return a table's catalog, row for row, with partition values and entries as the scan's layout has them."""
    if not layout.is_hidden:
        return table.files
    files = table.files.combine_chunks()
    arrays: list[pa.Array] = []
    for field, column in zip(table.partition_schema, files["partition"].flatten(), strict=True):
        values = column.combine_chunks() if column.num_chunks else pa.array([], field.type)
        if field.name in layout.nullable:
            arrays += [pc.fill_null(values, _placeholder(field.type)), values.is_null()]
        else:
            arrays.append(values)
    partition = pa.StructArray.from_arrays(arrays, fields=list(layout.partition_schema))
    modified_ns = pc.multiply(files["modified"].cast(pa.int64()), 1000).to_pylist()
    entries = encode_entries(files["uri"].to_pylist(), files["size_bytes"].to_pylist(), modified_ns, partition)
    columns = {name: files[name] for name in files.column_names}
    return pa.table(columns | {"partition": partition, "entry": entries})


def view(scan: DataFrame, table: Table, layout: ScanLayout) -> DataFrame:
    """Return a table's own columns, made from those of its scan."""
    file_columns = [_column(name) for name in table.file_schema.names]
    return scan.select(
        *file_columns, *(_parts(i, field, layout.nullable)[1] for i, field in enumerate(table.partition_schema))
    )


def _parts(number: int, field: pa.Field, nullable: frozenset[str]) -> tuple[Sequence[pa.Field], Expr]:
    """Return the scan's columns for a partition column, and the expression that makes it of them."""
    value, flag = f"value${number}", f"null${number}"
    if field.name in nullable:
        fields = [pa.field(value, field.type), pa.field(flag, pa.bool_())]
        null = lit(pa.scalar(None, field.type))
        return fields, f.when(_column(flag), null).otherwise(_column(value)).alias(field.name)
    if _PLAIN.fullmatch(field.name):
        return [field], _column(field.name)
    return [pa.field(value, field.type)], _column(value).alias(field.name)


def _column(name: str) -> Expr:
    return Expr.column(quoted(name))


def _placeholder(kind: pa.DataType) -> pa.Scalar:
    """Return any value of a type; nobody sees it."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return pa.scalar("").cast(kind)
    if pa.types.is_decimal(kind):
        return pa.scalar(Decimal(0), kind)
    return pa.scalar(0, pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)

"""Casts of columns, made from the columns' values where Arrow's own casts are damaged."""

from collections.abc import Sequence

import pyarrow as pa


def cast_column(column: pa.ChunkedArray, data_type: pa.DataType) -> pa.ChunkedArray:
    """Return the column with another type and the same length.

    Arrow's cast of a null column below a list gives as many nulls as there are lists, however long the lists are.

    Raises:
        pyarrow.ArrowException: The type cannot hold the column's values.
    """
    if column.type.equals(data_type, check_metadata=True):
        return column
    try:
        cast = column.cast(data_type)
    except pa.ArrowIndexError:  # below a null list of fixed size are indices, even when the dictionary is empty
        return _from_values([column], data_type)
    return cast if _is_valid(cast) else _from_values([column], data_type)


def cast_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the table with the types of a schema, whose columns are in the table's order.

    Raises:
        pyarrow.ArrowException: A type cannot hold its column's values.
    """
    columns = [cast_column(column, field.type) for column, field in zip(table.columns, schema, strict=True)]
    return pa.table(columns, schema=schema)


def concat_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """Return all rows in one table, with null where a table lacks a column, and the wider of different types.

    Raises:
        pyarrow.ArrowException: A column has types that no type holds both of.
    """
    joined = pa.concat_tables(tables, promote_options="permissive")
    for place, field in enumerate(joined.schema):
        if not _is_valid(joined.column(place)):
            parts = [_column(table, field) for table in tables]
            joined = joined.set_column(place, field, _from_values(parts, field.type))
    return joined


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if field.name in table.column_names:
        return table.column(field.name)
    return pa.chunked_array([pa.nulls(table.num_rows, field.type)])


def _is_valid(column: pa.ChunkedArray) -> bool:
    try:
        column.validate()
    except pa.ArrowInvalid:
        return False
    return True


def _from_values(columns: Sequence[pa.ChunkedArray], data_type: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(column.to_pylist(), data_type) for column in columns], data_type)

"""Arrow tables to polars frames, the types that polars lacks included."""

import re

import polars as pl
import pyarrow as pa

from dagfusion_pipeline.casts import cast_table
from dagfusion_pipeline.errors import FrameError

_OFFSET = re.compile(r"[+-]\d{2}(:?\d{2})?|Z")
_HAS_MAPS = hasattr(pl, "Map")  # before it had, polars made a null map an empty list
_ADVICE = "annotate the input with pyarrow.Table"


def polars_from_arrow(table: pa.Table) -> pl.DataFrame:
    """Return the table as a polars frame; times whose zone is an offset are in UTC, as polars has no offsets.

    Raises:
        FrameError: polars cannot hold a column.
    """
    wide = [field.name for field in table.schema if _holds_wide_decimal(field.type)]
    if wide:
        raise FrameError(f"polars has no decimals of more than 38 digits, which columns {wide} are: {_ADVICE}")
    fields = [pa.field(field.name, _supported(field.type), field.nullable) for field in table.schema]
    try:
        frame = pl.from_arrow(cast_table(table, pa.schema(fields)))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).splitlines()[0]
        raise FrameError(f"polars cannot hold the columns {table.column_names}: {reason}: {_ADVICE}") from error
    if not isinstance(frame, pl.DataFrame):
        raise FrameError(f"polars made a {type(frame).__qualname__} of a table; a DataFrame is required")
    frame.columns = table.column_names  # polars renames a column without a name
    return frame


def _holds_wide_decimal(data_type: pa.DataType) -> bool:
    if pa.types.is_nested(data_type):
        return any(_holds_wide_decimal(data_type.field(index).type) for index in range(data_type.num_fields))
    return bool(pa.types.is_decimal256(data_type))


def _supported(data_type: pa.DataType) -> pa.DataType:
    """Return the type as polars has it, of a stored column, which nests lists, maps and structs only."""
    if pa.types.is_map(data_type):
        key, value = _field(data_type.key_field), _field(data_type.item_field)
        entry = pa.struct([key.with_name("key"), value.with_name("value")])
        return pa.map_(key, value) if _HAS_MAPS else pa.list_(entry)
    if pa.types.is_struct(data_type):
        return pa.struct([_field(data_type.field(index)) for index in range(data_type.num_fields)])
    if pa.types.is_list(data_type):
        return pa.list_(_field(data_type.value_field))
    if pa.types.is_timestamp(data_type) and _OFFSET.fullmatch(data_type.tz or ""):
        return pa.timestamp(data_type.unit, "UTC")
    return data_type


def _field(field: pa.Field) -> pa.Field:
    return field.with_type(_supported(field.type))

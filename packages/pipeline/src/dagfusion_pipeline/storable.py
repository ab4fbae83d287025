"""The types of a Parquet file's columns, and the columns that no file can have. Pure."""

from collections.abc import Sequence

import pyarrow as pa

from dagfusion_pipeline.errors import ColumnTypeError, FrameError


def storable_type(data_type: pa.DataType) -> pa.DataType | None:
    """Return the type that a Parquet file returns for a column of the given type; None when Parquet cannot hold it."""
    if _is_refused(data_type):
        return None
    if pa.types.is_nested(data_type):
        return _storable_nested(data_type)
    if isinstance(data_type, pa.BaseExtensionType):
        if data_type.extension_name == "pandas.period":
            return None  # its storage is a number that means nothing without the frequency
        return storable_type(data_type.storage_type)
    if pa.types.is_dictionary(data_type):
        return storable_type(data_type.value_type)
    return _storable_flat(data_type)


def _is_refused(data_type: pa.DataType) -> bool:
    # List views would be lists in a file, but Arrow's cast of a sliced one reads past its offsets.
    return any(
        kind(data_type)
        for kind in (
            pa.types.is_run_end_encoded,
            pa.types.is_union,
            pa.types.is_interval,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
        )
    )


def _storable_flat(data_type: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type):
        return pa.string()
    if pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type):
        return pa.binary()
    if pa.types.is_decimal(data_type) and data_type.precision <= pa.decimal128(38).precision:
        return pa.decimal128(data_type.precision, data_type.scale)
    # Parquet has no seconds, and one kind of date.
    if pa.types.is_timestamp(data_type) and data_type.unit == "s":
        return pa.timestamp("ms", data_type.tz)
    if pa.types.is_time(data_type) and data_type.unit == "s":
        return pa.time32("ms")
    return pa.date32() if pa.types.is_date64(data_type) else data_type


def _storable_nested(data_type: pa.DataType) -> pa.DataType | None:
    if pa.types.is_map(data_type):
        key, item = _storable_field(data_type.key_field), _storable_field(data_type.item_field)
        return pa.map_(key, item) if key and item else None
    if pa.types.is_struct(data_type):
        fields = [_storable_field(data_type.field(index)) for index in range(data_type.num_fields)]
        return pa.struct(fields) if fields and all(fields) else None
    value = _storable_field(data_type.value_field)
    return pa.list_(value.with_name("item")) if value else None


def _storable_field(field: pa.Field) -> pa.Field | None:
    data_type = storable_type(field.type)
    return None if data_type is None else pa.field(field.name, data_type, field.nullable)


def storable_schema(schema: pa.Schema, asset: str) -> pa.Schema:
    """Return the schema that a Parquet file returns for columns of the given one.

    Raises:
        FrameError: There are no columns, two of the same name, or a name with a NUL character.
        ColumnTypeError: Parquet cannot hold a column's type.
    """
    if not schema.names:
        raise FrameError(f"asset {asset!r} must return a frame with columns; got one without")
    check_repeated(schema.names, asset)
    fields = []
    for field in schema:
        if _has_nul(field):
            raise nul_in_name(asset, field.name)
        stored = _storable_field(field)
        if stored is None:
            raise unstorable(asset, field.name, field.type)
        fields.append(stored)
    return pa.schema(fields)


def _has_nul(field: pa.Field) -> bool:
    """Return True if a name has a NUL character, at any depth, because Arrow's C interface ends it there."""
    nested = pa.types.is_nested(field.type)
    return "\0" in field.name or (
        nested and any(_has_nul(field.type.field(index)) for index in range(field.type.num_fields))
    )


def nul_in_name(asset: str, column: str) -> FrameError:
    """Return the error for a column whose name, or the name of a field in it, has a NUL character."""
    return FrameError(f"asset {asset!r} must return columns without NUL characters in their names; got {column!r}")


def check_repeated(names: Sequence[str], asset: str) -> None:
    """Refuse columns of the same name.

    Raises:
        FrameError: Two columns have the same name.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise FrameError(f"asset {asset!r} must return columns of different names; got {repeated[0]!r} more than once")


def unstorable(asset: str, column: str, data_type: object) -> ColumnTypeError:
    """Return the error for a column whose type has no place in a Parquet file."""
    return ColumnTypeError(
        f"column {column!r} of asset {asset!r} has type {data_type}, which Parquet cannot hold: cast it or leave it out"
    )

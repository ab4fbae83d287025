"""The frames an asset may return or ask for, and the Arrow tables that files are written from."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from dagfusion_pipeline.errors import ColumnTypeError, FrameError

SUPPORTED = "polars.DataFrame, polars.LazyFrame, pyarrow.Table or pandas.DataFrame"
# Arrow's string offsets are 32 bits; a slice of this size stays far below.
_SLICE_BYTES = 256 << 20
_WITHOUT_ARROW_TYPE = (pl.Object, pl.Int128, pl.UInt128)


@dataclass(frozen=True)
class Frame:
    """What an asset returned: a schema and the tables that follow it.

    `streamed` says that the rows are made as they are asked for, so that holding them all may not be possible.
    """

    schema: pa.Schema
    tables: Iterator[pa.Table]
    streamed: bool


def read_frame(value: object, asset: str) -> Frame:
    """Normalise what an asset returned to tables of types that Parquet holds.

    Strings, binaries and lists get 32-bit offsets, dictionaries and extensions their plain type; metadata is dropped.

    Raises:
        FrameError: the value is no frame, has no columns, or two of the same name.
        ColumnTypeError: a column's type has no place in Parquet.
    """
    if isinstance(value, pl.LazyFrame):
        return _lazy(value, asset)
    if isinstance(value, pl.DataFrame):
        return _eager(_polars_to_arrow(value, asset), asset)
    if isinstance(value, pa.Table):
        return _eager(value, asset)
    if _is_pandas(value):
        return _eager(_pandas_to_arrow(value, asset), asset)
    hint = "; annotate the asset with -> None when there is nothing to store" if value is None else ""
    raise FrameError(f"asset {asset!r} must return a {SUPPORTED}; got {type(value).__qualname__}{hint}")


def check_frame_type(frame_type: object, asset: str) -> None:
    """Refuse an input's annotation that `write_frame` has no answer for, before anything is read.

    Raises:
        FrameError: the annotation names another type.
    """
    if frame_type in {Any, pl.DataFrame, pl.LazyFrame, pa.Table} or _is_pandas_type(frame_type):
        return
    name = getattr(frame_type, "__qualname__", None) or str(frame_type)
    raise FrameError(f"an input that loads asset {asset!r} must be annotated with {SUPPORTED}; got {name}")


def write_frame(table: pa.Table, frame_type: object) -> object:
    """The table as an input's annotation asks for it; a polars DataFrame when it asks for nothing."""
    if frame_type is pa.Table:
        return table
    if _is_pandas_type(frame_type):
        return table.to_pandas()
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise FrameError(f"polars made a {type(frame).__qualname__} of a table; a DataFrame is required")
    return frame.lazy() if frame_type is pl.LazyFrame else frame


def storable_type(data_type: pa.DataType) -> pa.DataType | None:
    """The type that a Parquet file returns for a column of the given type; None when Parquet cannot hold it."""
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


def _storable_schema(schema: pa.Schema, asset: str) -> pa.Schema:
    if not schema.names:
        raise FrameError(f"asset {asset!r} must return a frame with columns; got one without")
    _check_repeated(schema.names, asset)
    fields = []
    for field in schema:
        stored = _storable_field(field)
        if stored is None:
            raise _unstorable(asset, field.name, field.type)
        fields.append(stored)
    return pa.schema(fields)


def _check_repeated(names: Sequence[str], asset: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise FrameError(f"asset {asset!r} must return columns of different names; got {repeated[0]!r} more than once")


def _unstorable(asset: str, column: str, data_type: object) -> ColumnTypeError:
    return ColumnTypeError(
        f"column {column!r} of asset {asset!r} has type {data_type}, which Parquet cannot hold: cast it or leave it out"
    )


def _eager(table: pa.Table, asset: str) -> Frame:
    schema = _storable_schema(table.schema, asset)
    return Frame(schema, (_cast(part, schema, asset) for part in _slices(table)), streamed=False)


def _lazy(frame: pl.LazyFrame, asset: str) -> Frame:
    empty = pl.DataFrame(schema=frame.collect_schema())
    schema = _storable_schema(_polars_to_arrow(empty, asset).schema, asset)
    batches = frame.collect_batches(maintain_order=True, lazy=True, engine="streaming")
    parts = (part for batch in batches for part in _slices(_polars_to_arrow(batch, asset)))
    return Frame(schema, (_cast(part, schema, asset) for part in parts), streamed=True)


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    rows = max(1, table.num_rows * _SLICE_BYTES // max(table.nbytes, 1))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _cast(table: pa.Table, schema: pa.Schema, asset: str) -> pa.Table:
    if table.schema.equals(schema, check_metadata=True):
        return table
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            found = f"column {field.name!r} of asset {asset!r}"
            raise ColumnTypeError(f"{found} cannot be written as {field.type}: {error}") from error
    return pa.table(columns, schema=schema)


def _polars_to_arrow(frame: pl.DataFrame, asset: str) -> pa.Table:
    for name, data_type in frame.schema.items():
        if _holds_no_arrow_type(data_type):
            raise _unstorable(asset, name, data_type)
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _holds_no_arrow_type(data_type: pl.DataType) -> bool:
    if isinstance(data_type, pl.List | pl.Array):
        return _holds_no_arrow_type(pl.Series(dtype=data_type.inner).dtype)
    if isinstance(data_type, pl.Struct):
        return any(_holds_no_arrow_type(pl.Series(dtype=field.dtype).dtype) for field in data_type.fields)
    return isinstance(data_type, _WITHOUT_ARROW_TYPE)


def _pandas_to_arrow(frame: Any, asset: str) -> pa.Table:
    frame = _with_index_columns(frame, asset)
    _check_repeated([str(name) for name in frame.columns], asset)
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise ColumnTypeError(f"asset {asset!r} returned a pandas DataFrame that Arrow cannot hold: {error}") from error


def _with_index_columns(frame: Any, asset: str) -> Any:
    """Turn the levels of a named index into columns; a single index without a name only counts rows."""
    index = frame.index
    if index.nlevels == 1 and index.names[0] is None:
        return frame
    if None in index.names:
        raise FrameError(
            f"asset {asset!r} must return a pandas DataFrame whose index levels all have names; got"
            f" {list(index.names)}: name them with rename_axis, or drop them with reset_index(drop=True)"
        )
    # set_index(..., drop=False) keeps a level as a column too.
    repeated = [place for place in range(index.nlevels) if _is_column(frame, index.get_level_values(place))]
    if repeated:
        frame = frame.reset_index(level=repeated, drop=True)
    return frame if len(repeated) == index.nlevels else frame.reset_index(allow_duplicates=True)


def _is_column(frame: Any, level: Any) -> bool:
    return list(frame.columns).count(level.name) == 1 and bool(level.equals(frame.set_index(level.name).index))


def _is_pandas(value: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def _is_pandas_type(frame_type: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and frame_type is pandas.DataFrame

"""Converts the value of an asset to Arrow tables that Parquet can hold, and finds the frame type of an input."""

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

import pyarrow as pa

from dagfusion_pipeline.casts import cast_column
from dagfusion_pipeline.errors import ColumnTypeError, FrameError
from dagfusion_pipeline.frame_types import FRAME_TYPES, FrameType, Stream
from dagfusion_pipeline.storable import storable_schema

# Arrow's string offsets are 32 bits; a slice of this size stays far below.
_SLICE_BYTES = 256 << 20


@dataclass(frozen=True)
class Frame:
    """The value of an asset as a schema and tables of it.

    `streamed` says that the rows are made as they are asked for, so that holding them all may not be possible.
    """

    schema: pa.Schema
    tables: Iterator[pa.Table]
    streamed: bool


@dataclass(frozen=True)
class InputType:
    """The type that an input's annotation requests.

    Attributes:
        frame_type: The type of the frame, or of each partition's frame.
        optional: True if None is returned where no object is stored.
        by_partition: A dictionary of frames by partition key.
    """

    frame_type: FrameType
    optional: bool = False
    by_partition: bool = False


def is_frame(value: object, frame_types: Sequence[FrameType] = FRAME_TYPES) -> bool:
    """Return True if the value is a frame of one of the types."""
    return any(frame_type.holds(value) for frame_type in frame_types)


def read_frame(value: object, asset: str, frame_types: Sequence[FrameType] = FRAME_TYPES) -> Frame:
    """Normalise what an asset returned to tables of types that Parquet holds.

    Strings, binaries and lists get 32-bit offsets, dictionaries and extensions their plain type; metadata is dropped.

    Raises:
        FrameError: The value is no frame, has no columns, or two of the same name.
        ColumnTypeError: A column's type has no place in Parquet.
    """
    for frame_type in frame_types:
        if frame_type.holds(value):
            return _normalised(frame_type.to_arrow(value, asset), asset)
    hint = "; annotate the asset with -> None when there is nothing to store" if value is None else ""
    raise FrameError(
        f"asset {asset!r} must return a {_listed(frame_types)}; got {type(value).__qualname__}{hint}: use an IO manager"
        " for such values, or set this one's fallback to it, such as fallback=dagster.FilesystemIOManager()"
    )


def storable_table(table: pa.Table, asset: str) -> pa.Table:
    """Return a table with the types that `read_frame` gives it; it may be without rows.

    Raises:
        FrameError: It has no columns, or two of the same name.
        ColumnTypeError: A column's type has no place in Parquet.
    """
    frame = read_frame(table, asset)
    return pa.Table.from_batches([batch for part in frame.tables for batch in part.to_batches()], frame.schema)


def requested_type(annotation: object, asset: str, frame_types: Sequence[FrameType] = FRAME_TYPES) -> InputType:
    """Return the type of frame that an input's annotation asks for, before anything is read.

    Raises:
        FrameError: The annotation names no type of frame.
    """
    requested = _requested_type(annotation, frame_types)
    if requested is not None:
        return requested
    name = getattr(annotation, "__qualname__", None) if get_origin(annotation) is None else None
    raise FrameError(
        f"an input that loads asset {asset!r} must be annotated with {_listed(frame_types)}; got {name or annotation}:"
        " an Optional of it, or a dict[str, ...] of it by partition, is right too"
    )


def is_frame_type(annotation: object, frame_types: Sequence[FrameType] = FRAME_TYPES) -> bool:
    """Return True if the annotation asks for a frame, an Optional one, or frames by partition."""
    return _requested_type(annotation, frame_types) is not None


def is_optional(annotation: object) -> bool:
    """Return True if the annotation allows None."""
    return get_origin(annotation) in {Union, types.UnionType} and type(None) in get_args(annotation)


def _requested_type(annotation: object, frame_types: Sequence[FrameType]) -> InputType | None:
    if is_optional(annotation):
        others = [choice for choice in get_args(annotation) if choice is not type(None)]
        inner = _requested_type(others[0], frame_types) if len(others) == 1 else None
        return inner and InputType(inner.frame_type, optional=True, by_partition=inner.by_partition)
    if get_origin(annotation) in {dict, Mapping}:
        inner = _requested_type(get_args(annotation)[1], frame_types)
        return inner and InputType(inner.frame_type, optional=inner.optional, by_partition=True)
    if annotation is Any:
        return InputType(frame_types[0])
    return next((InputType(kind) for kind in frame_types if kind.matches(annotation)), None)


def _listed(frame_types: Sequence[FrameType]) -> str:
    *names, last = [frame_type.name for frame_type in frame_types if frame_type.name]
    return f"{', '.join(names)} or {last}" if names else last


def _normalised(rows: pa.Table | Stream, asset: str) -> Frame:
    schema = storable_schema(rows.schema, asset)
    tables = rows.tables if isinstance(rows, Stream) else iter([rows])
    parts = (part for table in tables for part in _slices(table))
    return Frame(schema, (_cast(part, schema, asset) for part in parts), streamed=isinstance(rows, Stream))


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    rows = max(1, table.num_rows * _SLICE_BYTES // max(_size_bytes(table), 1))
    for start in range(0, table.num_rows, rows):
        yield table.slice(start, rows)


def _size_bytes(table: pa.Table) -> int:
    try:
        return int(table.nbytes)
    except pa.ArrowException:  # before pyarrow 23 string and binary views had no size of their own
        return int(table.get_total_buffer_size())


def _cast(table: pa.Table, schema: pa.Schema, asset: str) -> pa.Table:
    if table.schema.equals(schema, check_metadata=True):
        return table
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        try:
            columns.append(cast_column(column, field.type))
        except (pa.ArrowException, ValueError) as error:
            found = f"column {field.name!r} of asset {asset!r}"
            raise ColumnTypeError(f"{found} cannot be written as {field.type}: {error}") from error
    return pa.table(columns, schema=schema)

"""The types of frames that assets return and inputs ask for, each with its way to Arrow and back.

An IO manager's `frame_types` lists them. To add one, subclass `FrameType`, and override `frame_types`.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from dagfusion_pipeline.errors import ColumnTypeError, FrameError
from dagfusion_pipeline.pandas_frames import pandas_to_arrow
from dagfusion_pipeline.polars_frames import polars_from_arrow
from dagfusion_pipeline.storable import nul_in_name, unstorable

_WITHOUT_ARROW_TYPE = tuple(getattr(pl, name) for name in ("Object", "Int128", "UInt128") if hasattr(pl, name))


@dataclass(frozen=True)
class Stream:
    """Rows that are made as they are asked for, so that holding them all may not be possible."""

    schema: pa.Schema
    tables: Iterator[pa.Table]


class FrameType(ABC):
    """One type of frame.

    Attributes:
        name: As error messages list it; None for types that they leave out.
    """

    name: str | None = None

    def __init_subclass__(cls) -> None:
        """Use an override of `is_asked` as one of `matches`."""
        super().__init_subclass__()
        names = {"matches", "is_asked"}
        if "matches" not in next(vars(base) for base in cls.__mro__ if names & vars(base).keys()):
            cls.matches = cls.is_asked  # type: ignore[method-assign]

    @abstractmethod
    def holds(self, value: object) -> bool:
        """Return True if the value, which an asset returned, is a frame of this type."""

    @abstractmethod
    def to_arrow(self, value: Any, asset: str) -> pa.Table | Stream:
        """Return the frame's rows.

        Args:
            value: The frame.
            asset: The asset's key as text, for messages.

        Raises:
            FrameError: Arrow cannot hold the frame.
        """

    @abstractmethod
    def matches(self, annotation: object) -> bool:
        """Return True if an input with the annotation gets this type."""

    def is_asked(self, annotation: object) -> bool:
        """Return `matches(annotation)`: the older name of `matches`. A subclass may override either."""
        return self.matches(annotation)

    @abstractmethod
    def from_arrow(self, table: pa.Table) -> object:
        """Return the table as a frame of this type."""


class _PolarsFrames(FrameType):
    """`polars.DataFrame`."""

    name = "polars.DataFrame"

    def holds(self, value: object) -> bool:
        return isinstance(value, pl.DataFrame)

    def to_arrow(self, value: Any, asset: str) -> pa.Table:
        return _polars_to_arrow(value, asset)

    def matches(self, annotation: object) -> bool:
        return annotation is pl.DataFrame

    def from_arrow(self, table: pa.Table) -> pl.DataFrame:
        return polars_from_arrow(table)


class _PolarsLazyFrames(FrameType):
    """`polars.LazyFrame`, which is collected a batch at a time."""

    name = "polars.LazyFrame"

    def holds(self, value: object) -> bool:
        return isinstance(value, pl.LazyFrame)

    def to_arrow(self, value: Any, asset: str) -> Stream:
        schema = _polars_to_arrow(pl.DataFrame(schema=value.collect_schema()), asset).schema
        batches = value.collect_batches(maintain_order=True, lazy=True, engine="streaming")
        return Stream(schema, (_polars_to_arrow(batch, asset) for batch in batches))

    def matches(self, annotation: object) -> bool:
        return annotation is pl.LazyFrame

    def from_arrow(self, table: pa.Table) -> pl.LazyFrame:
        return polars_from_arrow(table).lazy()


class _ArrowTables(FrameType):
    """`pyarrow.Table`."""

    name = "pyarrow.Table"

    def holds(self, value: object) -> bool:
        return isinstance(value, pa.Table)

    def to_arrow(self, value: Any, asset: str) -> pa.Table:  # noqa: ARG002 - a table is what is asked for
        return value

    def matches(self, annotation: object) -> bool:
        return annotation is pa.Table

    def from_arrow(self, table: pa.Table) -> pa.Table:
        return table


class _PandasFrames(FrameType):
    """`pandas.DataFrame`; it never imports pandas itself."""

    name = "pandas.DataFrame"

    def holds(self, value: object) -> bool:
        pandas = sys.modules.get("pandas")
        return pandas is not None and isinstance(value, pandas.DataFrame)

    def to_arrow(self, value: Any, asset: str) -> pa.Table:
        return pandas_to_arrow(value, asset)

    def matches(self, annotation: object) -> bool:
        pandas = sys.modules.get("pandas")
        return pandas is not None and annotation is pandas.DataFrame

    def from_arrow(self, table: pa.Table) -> object:
        try:
            return table.to_pandas()
        except (pa.ArrowException, LookupError, ValueError, OverflowError) as error:  # an unknown zone is a LookupError
            raise FrameError(
                f"pandas cannot hold the columns {table.column_names}: {error}: annotate the input with pyarrow.Table"
            ) from error


class _DuckDBRelations(FrameType):
    """`duckdb.DuckDBPyRelation`, which is executed a batch at a time."""

    def holds(self, value: object) -> bool:
        return self.matches(type(value))

    def to_arrow(self, value: Any, asset: str) -> Stream:  # noqa: ARG002 - Arrow holds every relation
        return _stream(value)

    def matches(self, annotation: object) -> bool:
        duckdb = sys.modules.get("duckdb")
        return duckdb is not None and annotation is duckdb.DuckDBPyRelation

    def from_arrow(self, table: pa.Table) -> object:
        return sys.modules["duckdb"].from_arrow(table)


class _ArrowStreams(FrameType):
    """Anything with `__arrow_c_stream__`, such as a `pyarrow.RecordBatchReader`; an input gets such a reader."""

    def holds(self, value: object) -> bool:
        is_column = isinstance(value, pl.Series | pa.ChunkedArray) or type(value).__name__ == "Series"
        return hasattr(value, "__arrow_c_stream__") and not isinstance(value, type) and not is_column

    def to_arrow(self, value: Any, asset: str) -> Stream:
        try:
            return _stream(value)
        except pa.ArrowException as error:
            kind = type(value).__qualname__
            raise ColumnTypeError(f"asset {asset!r} returned a {kind} that Arrow cannot import: {error}") from error

    def matches(self, annotation: object) -> bool:
        return annotation is pa.RecordBatchReader

    def from_arrow(self, table: pa.Table) -> pa.RecordBatchReader:
        return table.to_reader()


# The first that holds a value takes it. An input without an annotation gets the first.
FRAME_TYPES: Sequence[FrameType] = (
    _PolarsFrames(),
    _PolarsLazyFrames(),
    _ArrowTables(),
    _PandasFrames(),
    _DuckDBRelations(),
    _ArrowStreams(),
)


def _stream(value: Any) -> Stream:
    # A reader is read as it is: errors of its source would lose their types in Arrow's C stream.
    reader = value if isinstance(value, pa.RecordBatchReader) else pa.RecordBatchReader.from_stream(value)
    return Stream(reader.schema, (pa.Table.from_batches([batch]) for batch in reader))


def _polars_to_arrow(frame: pl.DataFrame, asset: str) -> pa.Table:
    for name, data_type in frame.schema.items():
        if _holds_no_arrow_type(data_type):
            raise unstorable(asset, name, data_type)
    try:
        return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    except pl.exceptions.PanicException as error:
        bad = [name for name in frame.columns if "\0" in name]
        if bad:
            raise nul_in_name(asset, bad[0]) from error
        raise FrameError(f"polars cannot make Arrow columns of asset {asset!r}: {error}") from error


def _holds_no_arrow_type(data_type: pl.DataType) -> bool:
    if isinstance(data_type, pl.List | pl.Array):
        return _holds_no_arrow_type(pl.Series(dtype=data_type.inner).dtype)
    if isinstance(data_type, pl.Struct):
        return any(_holds_no_arrow_type(pl.Series(dtype=field.dtype).dtype) for field in data_type.fields)
    return isinstance(data_type, _WITHOUT_ARROW_TYPE)

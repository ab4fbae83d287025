"""Converts pandas frames to Arrow, with their index and periods, and refuses names and values that do not fit."""

import sys
from typing import Any

import pyarrow as pa

from dagfusion_pipeline.errors import ColumnTypeError
from dagfusion_pipeline.storable import check_repeated


def pandas_to_arrow(frame: Any, asset: str) -> pa.Table:
    """Return the rows of a `pandas.DataFrame`, with the levels of its index as columns.

    A single index without a name is left out, unless it holds datetimes or periods: then it is the column `index`.
    Levels of a MultiIndex without a name are `level_0`, `level_1` and so on, as `reset_index` names them.
    A period is the timestamp of its start, as `to_timestamp` returns it.

    Raises:
        FrameError: Two columns have the same name.
        ColumnTypeError: Arrow has no type for a column.
    """
    frame = _with_index_columns(frame)
    check_repeated([str(name) for name in frame.columns], asset)
    try:
        table = pa.Table.from_pandas(_with_timestamps(frame), preserve_index=False)
        _check_inferred(frame, table)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise ColumnTypeError(f"asset {asset!r} returned a pandas DataFrame that Arrow cannot hold: {error}") from error
    return table


def _check_inferred(frame: Any, table: pa.Table) -> None:
    """Check the columns whose types Arrow inferred, because it makes strings of nested texts mixed with bytes."""
    for column, dtype in zip(table.columns, frame.dtypes, strict=True):
        if dtype == "object":
            column.validate(full=True)


def _with_index_columns(frame: Any) -> Any:
    """Turn the levels of the index into columns, unless it only counts rows."""
    index = frame.index
    if index.nlevels == 1 and index.names[0] is None and not _holds_times(index):
        return frame
    unnamed = ["index"] if index.nlevels == 1 else [f"level_{place}" for place in range(index.nlevels)]
    names = [default if name is None else name for name, default in zip(index.names, unnamed, strict=True)]
    frame = frame.set_axis(index.set_names(names))
    index = frame.index
    # set_index(..., drop=False) keeps a level as a column too.
    repeated = [place for place in range(index.nlevels) if _is_column(frame, index.get_level_values(place))]
    if repeated:
        frame = frame.reset_index(level=repeated, drop=True)
    return frame if len(repeated) == index.nlevels else frame.reset_index(allow_duplicates=True)


def _is_column(frame: Any, level: Any) -> bool:
    return list(frame.columns).count(level.name) == 1 and bool(level.equals(frame.set_index(level.name).index))


def _holds_times(index: Any) -> bool:
    pandas = sys.modules["pandas"]
    return isinstance(index, pandas.DatetimeIndex | pandas.PeriodIndex)


def _with_timestamps(frame: Any) -> Any:
    """Replace periods by the timestamps of their starts, because a stored period is a number without its frequency."""
    starts = {place: _starts(frame.iloc[:, place]) for place in range(frame.shape[1])}
    frame = frame.copy(deep=False)
    for place, column in starts.items():
        if column is not None:
            frame.isetitem(place, column)
    return frame


def _starts(column: Any) -> Any:
    """Return the starts of a column's periods; None for a column of another type."""
    period = sys.modules["pandas"].PeriodDtype
    categories = getattr(column.dtype, "categories", None)
    if categories is not None and isinstance(categories.dtype, period):
        column = column.astype(categories.dtype)
    return column.dt.to_timestamp(how="start") if isinstance(column.dtype, period) else None

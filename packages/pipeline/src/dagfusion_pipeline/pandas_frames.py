"""pandas frames to Arrow: what is in the index, and which names and values are refused."""

from typing import Any

import pyarrow as pa

from dagfusion_pipeline.errors import ColumnTypeError, FrameError
from dagfusion_pipeline.storable import check_repeated


def pandas_to_arrow(frame: Any, asset: str) -> pa.Table:
    """The rows of a `pandas.DataFrame`, with the levels of a named index as columns.

    Raises:
        FrameError: an index level has no name, or two columns have the same.
        ColumnTypeError: Arrow has no type for a column.
    """
    frame = _with_index_columns(frame, asset)
    check_repeated([str(name) for name in frame.columns], asset)
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

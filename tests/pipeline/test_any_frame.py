"""Any frame, of any types and partitions, through the IO managers and back: equal, or refused with an error of ours.

The default run draws a few examples. FRAME_EXAMPLES=2000 draws more.
"""

import itertools
import os
from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dagfusion_pipeline.errors import FrameError
from dagfusion_pipeline.frame_types import FRAME_TYPES
from dagfusion_pipeline.frames import read_frame
from tests.pipeline.any_frame import (
    Layout,
    Library,
    Returned,
    is_refused,
    is_too_wide_for_polars,
    layouts,
    returned,
    tables,
)
from tests.pipeline.in_memory import Flat, Hive
from tests.tiers import examples

EXAMPLES = int(os.environ.get("FRAME_EXAMPLES", "20"))
NO_CONSOLE_LOG = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_prefixes = itertools.count()
libraries: st.SearchStrategy[Library] = st.sampled_from(["arrow", "polars", "lazy", "pandas", "pandas[pyarrow]"])


def manager_of(draw: st.DataObject, *, hive: bool) -> dg.ConfigurableIOManager:
    return (Hive if hive else Flat)(
        bucket="lake",
        prefix=f"any-{next(_prefixes)}",
        compression=draw.draw(st.sampled_from(["zstd", "snappy"])),
        file_naming=draw.draw(st.sampled_from(["stable", "per_run"])),
    )


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """One for all examples, whose assets have keys of their own: to make one takes longer than an example."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def through(
    frame: Returned, layout: Layout, manager: dg.ConfigurableIOManager, frame_type: Any, instance: dg.DagsterInstance
) -> Any:
    """Materialize an asset that returns the frame, and one that loads it; give what the second was given."""
    prefix = [manager.prefix]  # type: ignore[attr-defined]  # of both IO managers

    @dg.asset(partitions_def=layout.definition, key_prefix=prefix)
    def written() -> Any:
        return frame.value

    kept: list[Any] = []

    def loaded(written):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - the annotation is the parameter
        kept.append(written)

    loaded.__annotations__ = {"written": frame_type, "return": None}
    ins = {"written": dg.AssetIn(written.key)}
    assets = [written, dg.asset(partitions_def=layout.definition, key_prefix=prefix, ins=ins)(loaded)]
    dg.materialize(
        assets,
        partition_key=layout.key,
        resources={"io_manager": manager},
        instance=instance,
        run_config=NO_CONSOLE_LOG,
    )
    return kept[0]


def plain(value: Any) -> Any:  # noqa: PLR0911 - one a kind of value
    """A value that is equal to what it became on its way: maps are lists of pairs in polars, and a NaN is a NaN."""
    if isinstance(value, dict):
        items = list(value.values())
        return (
            tuple(map(plain, items)) if list(value) == ["key", "value"] else {key: plain(v) for key, v in value.items()}
        )
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if isinstance(value, pd.Timedelta | pd.Timestamp):
        return value.value if value.unit == "ns" else value.as_unit("ns").value
    if hasattr(value, "tzinfo") and hasattr(value, "year"):
        return plain(pd.Timestamp(value))
    if type(value).__name__ == "timedelta":
        return plain(pd.Timedelta(value))
    return repr(value) if isinstance(value, float) else value


def as_pandas(table: pa.Table) -> pd.DataFrame | None:
    """The stored table as pandas has it; None where pyarrow cannot make a pandas frame of it."""
    read = read_frame(table, "written", FRAME_TYPES)
    try:
        stored: pd.DataFrame = pa.concat_tables([read.schema.empty_table(), *read.tables]).to_pandas()
    except (pa.ArrowException, LookupError, ValueError, OverflowError):
        return None
    return stored


def in_pandas(value: Any) -> Any:
    """A value of a pandas frame as text in which a number beside a null, which is a float there, is that number."""
    if isinstance(value, dict):
        return {key: in_pandas(item) for key, item in value.items()}
    if isinstance(value, pd.Series | np.ndarray | list | tuple):
        return [in_pandas(item) for item in value]
    if isinstance(value, np.generic):
        return in_pandas(value.item()) if value.dtype.kind in "biuf" else repr(value)
    if isinstance(value, int | float):
        return repr(float(value))
    return "nan" if value is None or value is pd.NA else repr(value)


def rows_of(table: pa.Table) -> list[Any]:
    return [[plain(value) for value in column.to_pylist()] for column in table.columns]


@pytest.mark.usefixtures("heavy")
@settings(max_examples=examples(EXAMPLES), suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_frame_comes_back_equal_or_is_refused(instance: dg.DagsterInstance, data: st.DataObject) -> None:
    hive = data.draw(st.booleans())
    layout = data.draw(layouts(dimensions=2 if hive else 1))
    table = data.draw(tables(without=list(layout.columns)))
    library = data.draw(libraries)
    frame = returned(table, library)
    assume(frame is not None)
    assert frame is not None
    frame_type = data.draw(st.sampled_from([pa.Table, pl.DataFrame, pl.LazyFrame, pd.DataFrame]))
    manager = manager_of(data, hive=hive)
    refused = [
        *(["cast it or leave it out"] if any(map(is_refused, frame.table.schema.types)) else []),
        *(["NUL"] if any("\0" in name for name in frame.table.column_names) else []),
    ]
    if refused:  # with the reason of the first column that has one
        with pytest.raises(FrameError, match="|".join(refused)):
            through(frame, layout, manager, frame_type, instance)
        return
    if frame_type in {pl.DataFrame, pl.LazyFrame} and any(map(is_too_wide_for_polars, frame.table.schema.types)):
        with pytest.raises(FrameError, match="polars has no decimals of more than 38 digits"):
            through(frame, layout, manager, frame_type, instance)
        return
    expected = as_pandas(frame.table) if frame_type is pd.DataFrame else None
    if frame_type is pd.DataFrame and expected is None:
        with pytest.raises(FrameError, match="pandas cannot hold"):
            through(frame, layout, manager, frame_type, instance)
        return
    loaded = through(frame, layout, manager, frame_type, instance)
    if isinstance(loaded, pd.DataFrame):
        stored = expected
        assert stored is not None
        assert len(loaded) == frame.table.num_rows
        assert list(loaded.columns) == [*frame.table.column_names, *(layout.columns if hive else ())]
        assert {name: in_pandas(loaded[name]) for name in stored} == {name: in_pandas(stored[name]) for name in stored}
        return
    result = loaded if isinstance(loaded, pa.Table) else pl.DataFrame(loaded.lazy().collect()).to_arrow()
    columns = layout.columns if hive else {}
    assert result.column_names == [*frame.table.column_names, *columns]
    assert rows_of(result.select(frame.table.column_names)) == rows_of(frame.table)
    for name, value in columns.items():
        assert rows_of(result.select([name])) == [[plain(value.as_py())] * result.num_rows]

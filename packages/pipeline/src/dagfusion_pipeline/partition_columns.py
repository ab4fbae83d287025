"""Finds the column of a frame for each dimension, and the partition column that the dimension becomes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dagfusion_contract.naming import find_column
from dagfusion_contract.values import is_partition_type
from dagfusion_pipeline.dimensions import Dimension
from dagfusion_pipeline.errors import ConfigurationError

RecordedTypes = Callable[[], Mapping[str, pa.DataType]]


@dataclass(frozen=True)
class PartitionColumn:
    """A partition column of the table.

    Attributes:
        dimension: Whose keys its values stand for.
        name: In the path, the event and the table.
        data_type: The type of its values.
        source: The frame's column that says which partition a row belongs to; None when no column does.
        source_type: The type of that column.
        is_window: The source holds times within the partition's window; otherwise it is the partition column itself.
    """

    dimension: Dimension
    name: str
    data_type: pa.DataType
    source: str | None = None
    source_type: pa.DataType | None = None
    is_window: bool = False


def partition_column(
    dimension: Dimension, keys: Sequence[str], schema: pa.Schema, recorded: RecordedTypes, asset: str
) -> PartitionColumn:
    """Find the column of a dimension.

    A column that `partition_expr` names is looked for as SQL does, whatever its case. Times in it are of the
    partition's window, as in Dagster's database IO managers, unless the table has it as its partition column already.
    A column that only happens to have the default's name is data when its type cannot be the partition's.

    Args:
        dimension: One of the asset's.
        keys: The dimension's keys in this run.
        schema: The frame's.
        recorded: Gives the partition columns' types in the asset's latest event; called where that matters.
        asset: For messages.

    Raises:
        ConfigurationError: The frame has the columns that a new partition column would be called.
    """
    source = find_column(dimension.column, schema.names) if dimension.is_declared else dimension.column
    if source is None or source not in schema.names:
        return PartitionColumn(dimension, dimension.column, _derived_type(dimension, dimension.column, recorded))
    kind = schema.field(source).type
    if dimension.is_declared and dimension.has_windows_of(kind) and source not in recorded():
        name = _free_name(dimension.default_column, schema, asset)
        return PartitionColumn(dimension, name, _derived_type(dimension, name, recorded), source, kind, is_window=True)
    if not dimension.is_named and not (is_partition_type(kind) and dimension.can_be(kind, keys)):
        name = _free_name(f"partition_{dimension.column.removeprefix('partition') or 'key'}", schema, asset)
        return PartitionColumn(dimension, name, _derived_type(dimension, name, recorded))
    return PartitionColumn(dimension, source, kind, source, kind)


def _derived_type(dimension: Dimension, name: str, recorded: RecordedTypes) -> pa.DataType:
    default = dimension.default_type
    if pa.types.is_timestamp(default) and default.tz is not None:
        # Older events have local time here. A table keeps the type of its column until it is wiped.
        local = pa.timestamp(default.unit)
        return local if recorded().get(name) == local else default
    return default


def _free_name(name: str, schema: pa.Schema, asset: str) -> str:
    for choice in (name, f"partition_{name}"):
        if find_column(choice, schema.names) is None:
            return choice
    raise ConfigurationError(
        f"asset {asset!r} has the columns {name!r} and 'partition_{name}', so that none of these names is left for its"
        " partition column: name a column of your own in the metadata partition_expr"
    )

"""The partitions one run writes or reads of an asset, and what they are in columns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
import pyarrow as pa

from dagfusion_pipeline.dimensions import Dimension, dimension_keys, dimensions, in_definition_order
from dagfusion_pipeline.errors import PartitionError
from dagfusion_pipeline.split import PartitionIndex


@dataclass(frozen=True)
class RunPartitions:
    """An asset's partitions in one run, in Dagster's order; of an unpartitioned asset one without a key.

    Attributes:
        asset: the asset's key as text, for messages.
        dimensions: in path order; none for an unpartitioned asset.
        keys: the partition keys.
        dimension_keys: for each partition key, its key in each of the dimensions.
    """

    asset: str
    dimensions: Sequence[Dimension]
    keys: Sequence[str | None]
    dimension_keys: Sequence[Sequence[str]]

    @classmethod
    def of(
        cls,
        context: dg.OutputContext | dg.InputContext,
        metadata: Mapping[str, object],
        preferred_order: Sequence[str],
    ) -> "RunPartitions":
        """The partitions of an output, or of the asset that an input loads.

        Raises:
            ConfigurationError: the asset's metadata and its partitions do not agree.
        """
        asset = context.asset_key.to_user_string()
        if not context.has_asset_partitions:
            return cls(asset, (), [None], [()])
        definition = context.asset_partitions_def
        order = dimensions(definition, metadata, preferred_order, asset)
        keys = in_definition_order(context.asset_partition_keys, definition)
        return cls(asset, order, keys, [dimension_keys(key, definition, order) for key in keys])

    def check_any(self) -> None:
        """Refuse a run that writes nothing.

        Raises:
            PartitionError: the run selects no partition.
        """
        if not self.keys:
            raise PartitionError(
                f"the partition range of this run selects no partition of asset {self.asset!r}: it ends before it"
                " begins, and a range over several dimensions does so when one of them does: start a run whose range"
                " has partitions"
            )

    def columns_of(self, position: int) -> list[tuple[str, str]]:
        """The partition columns and their keys of one partition, in path order."""
        columns = [dimension.column for dimension in self.dimensions]
        return list(zip(columns, self.dimension_keys[position], strict=True))

    def names_of(self, position: int) -> dict[str, str] | str | None:
        """The partition key as a person reads it: by dimension where there are several."""
        if len(self.dimensions) > 1:
            names = [dimension.name for dimension in self.dimensions]
            return dict(zip(names, self.dimension_keys[position], strict=True))
        return self.keys[position]

    def values(
        self, schema: pa.Schema, recorded_types: Callable[[], Mapping[str, pa.DataType]] = dict
    ) -> dict[str, pa.Array]:
        """For each partition column in path order, the value that stands for each partition.

        It has the type of the frame's column, or the dimension's own where the frame has none.

        Args:
            schema: the frame's.
            recorded_types: the partition columns' types in the asset's latest event; called where that matters.
        """
        by_dimension = zip(*self.dimension_keys, strict=True) if self.keys else ()
        return {
            dimension.column: dimension.values(keys, _column_type(dimension, schema, recorded_types), self.asset)
            for dimension, keys in zip(self.dimensions, by_dimension, strict=True)
        }

    def index(self, schema: pa.Schema, values: Mapping[str, pa.Array]) -> PartitionIndex:
        """What finds a row's partition in a frame of the schema.

        Raises:
            PartitionError: the run has several partitions, and the frame lacks a column that tells them apart.
        """
        missing = [column for column in values if column not in schema.names]
        if missing and len(self.keys) > 1:
            raise PartitionError(
                f"asset {self.asset!r} must return the partition columns {list(values)} in a run of {len(self.keys)}"
                f" partitions; {missing} are missing from {schema.names}: add them, or name other columns in the"
                " metadata partition_expr"
            )
        present = {column: array for column, array in values.items() if column in schema.names}
        return PartitionIndex(self.asset, list(present), [str(key) for key in self.keys], list(present.values()))


def _column_type(
    dimension: Dimension, schema: pa.Schema, recorded_types: Callable[[], Mapping[str, pa.DataType]]
) -> pa.DataType:
    if dimension.column in schema.names:
        return schema.field(dimension.column).type
    default = dimension.default_type
    if pa.types.is_timestamp(default) and default.tz is not None:
        # Older events have local time here. A table keeps the type of its column until it is wiped.
        local = pa.timestamp(default.unit)
        return local if recorded_types().get(dimension.column) == local else default
    return default

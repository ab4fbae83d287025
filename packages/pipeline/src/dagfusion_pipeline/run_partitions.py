"""The partitions of an asset that one run writes or reads, and their values in the partition columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
import pyarrow as pa

from dagfusion_pipeline.dimensions import Dimension, dimension_keys, dimensions, in_definition_order
from dagfusion_pipeline.errors import ConfigurationError, PartitionError
from dagfusion_pipeline.partition_columns import PartitionColumn, RecordedTypes, partition_column
from dagfusion_pipeline.split import PartitionIndex, Windows


@dataclass(frozen=True)
class RunPartitions:
    """An asset's partitions in one run, in Dagster's order; of an unpartitioned asset one without a key.

    Attributes:
        asset: The asset's key as text, for messages.
        dimensions: In path order; none for an unpartitioned asset.
        keys: The partition keys.
        dimension_keys: For each partition key, its key in each of the dimensions.
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
        """Return the partitions of an output, or of the asset that an input loads.

        Raises:
            ConfigurationError: The asset's metadata and its partitions do not agree.
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
            PartitionError: The run selects no partition.
        """
        if not self.keys:
            raise PartitionError(
                f"the partition range of this run selects no partition of asset {self.asset!r}, because its end is"
                " before its start (in a range over several dimensions: in at least one of them): start a run whose"
                " range has partitions"
            )

    def path_of(self, position: int, columns: Sequence[PartitionColumn] = ()) -> list[tuple[str, str]]:
        """Return the partition columns and their keys of one partition, in path order.

        Without `columns` they are called as the definition and its metadata call them.
        """
        names = [column.name for column in columns] or [dimension.column for dimension in self.dimensions]
        return list(zip(names, self.dimension_keys[position], strict=True))

    def names_of(self, position: int) -> dict[str, str] | str | None:
        """Return the partition key as a person reads it: by dimension where there are several."""
        if len(self.dimensions) > 1:
            names = [dimension.name for dimension in self.dimensions]
            return dict(zip(names, self.dimension_keys[position], strict=True))
        return self.keys[position]

    def columns(self, schema: pa.Schema, recorded: RecordedTypes = dict) -> list[PartitionColumn]:
        """Return the partition columns of the table that a frame of the schema becomes, in path order.

        Args:
            schema: The frame's.
            recorded: Gives the partition columns' types in the asset's latest event; called where that matters.

        Raises:
            ConfigurationError: A partition column has no name.
        """
        found = [
            partition_column(dimension, keys, schema, recorded, self.asset)
            for dimension, keys in zip(self.dimensions, self._keys_by_dimension, strict=True)
        ]
        names = [column.name for column in found]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                f"partition_expr of asset {self.asset!r} must name a column of its own for each dimension; got {names}"
            )
        return found

    def values(self, columns: Sequence[PartitionColumn]) -> dict[str, pa.Array]:
        """Return for each partition column an array of its values, one element for each partition."""
        return {
            column.name: column.dimension.values(keys, column.data_type, self.asset)
            for column, keys in zip(columns, self._keys_by_dimension, strict=True)
        }

    @property
    def _keys_by_dimension(self) -> Sequence[Sequence[str]]:
        return list(zip(*self.dimension_keys, strict=True)) if self.keys else [()] * len(self.dimensions)

    def index(self, columns: Sequence[PartitionColumn], schema: pa.Schema) -> PartitionIndex:
        """Return an index from rows to partitions, for frames of this schema.

        Raises:
            PartitionError: The run has several partitions, and the frame lacks a column that tells them apart.
        """
        missing = [column.name for column in columns if column.source is None]
        if missing and len(self.keys) > 1:
            raise PartitionError(
                f"asset {self.asset!r} must return the partition columns {[column.name for column in columns]} in a run"
                f" of {len(self.keys)} partitions; {missing} are missing from {schema.names}: add them, or name other"
                " columns in the metadata partition_expr"
            )
        values: dict[str, pa.Array] = {}
        windows = {}
        for column, keys in zip(columns, self._keys_by_dimension, strict=True):
            if column.source is None:
                continue
            if column.is_window:
                starts, ends = column.dimension.windows(keys, column.source_type, self.asset)
                values[column.source], windows[column.source] = starts, Windows(starts, ends)
            else:
                values[column.source] = column.dimension.values(keys, column.data_type, self.asset)
        return PartitionIndex(self.asset, list(values), [str(key) for key in self.keys], list(values.values()), windows)

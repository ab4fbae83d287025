"""The layouts of an asset's objects: the object key of a partition, and the columns in its file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from dagfusion_contract import errors as contract
from dagfusion_contract.layout import file_key, hive_key
from dagfusion_pipeline.errors import FrameError, LayoutError, PartitionError

PartitionValues = Sequence[tuple[str, str]]
"""The partition columns and their keys, in path order; none for an unpartitioned asset."""


@dataclass(frozen=True)
class ObjectLayout:
    """The mapping of an asset to objects.

    Attributes:
        key_of: The object key of an asset and its partition.
        most_dimensions: How many dimensions of partitions fit; None for any number.
        writes_partition_to_footer: Whether the rows of a file may leave the partition columns out, so that its footer
            has them.
    """

    key_of: Callable[[str, Sequence[str], PartitionValues, str | None], str]
    most_dimensions: int | None
    writes_partition_to_footer: bool

    def key(self, prefix: str, asset_key: Sequence[str], partition: PartitionValues, run_id: str | None) -> str:
        """Return the key of one partition's object.

        Args:
            prefix: What every key begins with; may be empty.
            asset_key: Its components become folders.
            partition: The partition.
            run_id: Named in the object's name where every run writes objects of its own.

        Raises:
            LayoutError: The key would be empty, longer than S3 allows, or not valid UTF-8.
        """
        try:
            return self.key_of(prefix, asset_key, partition, run_id)
        except contract.LayoutError as error:
            raise LayoutError(str(error)) from error

    def check_dimensions(self, dimensions: Sequence[str], asset: str) -> None:
        """Refuse an asset whose partitions have no place in this layout.

        Raises:
            PartitionError: It has more dimensions than this layout takes.
        """
        if self.most_dimensions is not None and len(dimensions) > self.most_dimensions:
            raise PartitionError(
                f"S3ParquetIOManager keeps assets with one dimension of partitions; asset {asset!r} has"
                f" {list(dimensions)}: use PartitionedS3ParquetIOManager"
            )

    def file_schema(self, frame: pa.Schema, partition: pa.Schema, asset: str, *, has_partition: bool) -> pa.Schema:
        """Return the columns that are written to the files.

        Args:
            frame: The frame's columns.
            partition: The partition columns.
            asset: For messages.
            has_partition: The files have the partition columns, also where the frame or the layout has none.

        Raises:
            FrameError: The frame has only partition columns.
        """
        if not self.writes_partition_to_footer:
            lacking = [column for column in partition if has_partition and column.name not in frame.names]
            return pa.schema([*frame, *lacking])
        fields = [field for field in frame if field.name not in partition.names]
        if not fields:
            raise FrameError(
                f"asset {asset!r} must return columns besides its partition columns {sorted(partition.names)}; got none"
            )
        return pa.schema([*fields, *(partition if has_partition else ())])


def _file_key(prefix: str, asset_key: Sequence[str], partition: PartitionValues, run_id: str | None) -> str:
    return file_key(prefix, asset_key, partition[0] if partition else None, run_id)


FILE_LAYOUT = ObjectLayout(_file_key, most_dimensions=1, writes_partition_to_footer=False)
"""`{prefix}/{asset key}[/{partition key}].parquet`, with all columns of the frame."""

HIVE_LAYOUT = ObjectLayout(hive_key, most_dimensions=None, writes_partition_to_footer=True)
"""`{prefix}/{asset key}/{column}={value}/.../data.parquet`, without the partition columns."""

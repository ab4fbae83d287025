"""The layouts of an asset's objects: the object key of a partition, and the columns in its file."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import pyarrow as pa

from dagfusion_contract import errors as contract
from dagfusion_contract.layout import file_key, hive_key
from dagfusion_pipeline.errors import FrameError, LayoutError, PartitionError

Partition = Sequence[tuple[str, str]]
"""The partition columns and their keys, in path order; none for an unpartitioned asset."""


class ObjectLayout(ABC):
    """How an asset becomes objects."""

    writes_partition_to_footer: bool
    """Whether the partition columns are in the files' footers, because their rows leave them out."""

    def key(self, prefix: str, asset_key: Sequence[str], partition: Partition, run_id: str | None) -> str:
        """Return the key of one partition's object.

        Args:
            prefix: what every key begins with; may be empty.
            asset_key: its components become folders.
            partition: the partition.
            run_id: named in the object's name where every run writes objects of its own.

        Raises:
            LayoutError: the key would be empty, longer than S3 allows, or not valid UTF-8.
        """
        try:
            return self._key(prefix, asset_key, partition, run_id)
        except contract.LayoutError as error:
            raise LayoutError(str(error)) from error

    @abstractmethod
    def _key(self, prefix: str, asset_key: Sequence[str], partition: Partition, run_id: str | None) -> str: ...

    @abstractmethod
    def check_dimensions(self, dimensions: Sequence[str], asset: str) -> None:
        """Refuse an asset whose partitions have no place in this layout.

        Raises:
            PartitionError: it has other dimensions than this layout takes.
        """

    @abstractmethod
    def file_schema(self, frame: pa.Schema, partition_columns: Sequence[str], asset: str) -> pa.Schema:
        """Return the columns of a frame that are written to the files.

        Raises:
            FrameError: there are none.
        """


class FileLayout(ObjectLayout):
    """`{prefix}/{asset key}[/{partition key}].parquet`, with all columns of the frame."""

    writes_partition_to_footer = False

    def _key(self, prefix: str, asset_key: Sequence[str], partition: Partition, run_id: str | None) -> str:
        return file_key(prefix, asset_key, partition[0] if partition else None, run_id)

    def check_dimensions(self, dimensions: Sequence[str], asset: str) -> None:
        """Refuse several dimensions: a file's name has one partition key."""
        if len(dimensions) > 1:
            raise PartitionError(
                f"S3ParquetIOManager keeps assets with one dimension of partitions; asset {asset!r} has"
                f" {list(dimensions)}: use PartitionedS3ParquetIOManager"
            )

    def file_schema(self, frame: pa.Schema, partition_columns: Sequence[str], asset: str) -> pa.Schema:  # noqa: ARG002
        """Return all columns."""
        return frame


class HiveLayout(ObjectLayout):
    """`{prefix}/{asset key}/{column}={value}/.../data.parquet`, without the partition columns."""

    writes_partition_to_footer = True

    def _key(self, prefix: str, asset_key: Sequence[str], partition: Partition, run_id: str | None) -> str:
        return hive_key(prefix, asset_key, partition, run_id)

    def check_dimensions(self, dimensions: Sequence[str], asset: str) -> None:
        """Take all of them: each has a folder."""

    def file_schema(self, frame: pa.Schema, partition_columns: Sequence[str], asset: str) -> pa.Schema:
        """Return the columns that are no partition columns."""
        fields = [field for field in frame if field.name not in partition_columns]
        if not fields:
            raise FrameError(
                f"asset {asset!r} must return columns besides its partition columns {sorted(partition_columns)}; got"
                " none"
            )
        return pa.schema(fields)

"""The errors of this package, and how their texts list names.

docs/reference/errors.md has a table of the errors, which scripts/reference.py writes.
"""

from collections.abc import Sequence


class PipelineError(Exception):
    """The base of every error of this package."""


class ConfigurationError(PipelineError):
    """An environment variable, an IO manager's field or an asset's metadata is not usable."""


class SecretUnavailableError(PipelineError):
    """A secret that a field or an environment variable refers to cannot be read from AWS Secrets Manager."""


class MissingExtraError(PipelineError):
    """A library is needed that only an extra of this package installs."""


class SqlError(PipelineError):
    """The SQL of an asset, or what it depends on, is not usable."""


class BusyAssetError(PipelineError):
    """A run that may write an asset is in progress, or wrote it meanwhile, so that it cannot be changed."""


class LayoutError(PipelineError):
    """An asset key or a partition value cannot become an object key."""


class FrameError(PipelineError):
    """A value that the IO managers cannot store or load."""


class ColumnTypeError(FrameError):
    """A column whose type Parquet cannot hold, or that cannot be a partition column."""


class PartitionError(PipelineError):
    """The rows of a frame and the partitions of the run do not agree."""


class UnsortedStreamError(PartitionError):
    """A lazy frame came back to a partition whose file was already written."""


class StoreError(PipelineError):
    """A request to the object store failed."""


class MissingObjectError(StoreError):
    """An input's object is not in the store."""


class ArchivedObjectError(StoreError):
    """An input's object is in an archive storage class, such as S3's GLACIER."""


class CorruptObjectError(StoreError):
    """An input's object does not hold the bytes that its materialization wrote."""


def shortened(names: Sequence[str], most: int) -> list[str]:
    """Return at most so many names, followed by `...` if there are more.

    >>> shortened(["CA", "NY", "TX"], 2)
    ['CA', 'NY', '...']
    """
    return [*names[:most], *(["..."] if len(names) > most else [])]

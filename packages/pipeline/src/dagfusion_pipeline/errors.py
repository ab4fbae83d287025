"""Every error of this package, as one tree.

PipelineError
|-- ConfigurationError      an environment variable, an IO manager's field or an asset's metadata is not usable
|-- SecretUnavailableError  a secret that a field or a variable refers to cannot be read
|-- MissingExtraError       a library of an extra of this package is not installed
|-- SqlError                the SQL of an asset, or what it depends on, is not usable
|-- BusyAssetError          a run may write the asset that is to be changed
|-- LayoutError             an asset key or a partition value cannot become an object key
|-- FrameError              a value that the IO managers cannot store or load
|   `-- ColumnTypeError     a column whose type Parquet cannot hold, or not as a partition column
|-- PartitionError          rows and partitions do not agree
|   `-- UnsortedStreamError a lazy frame came back to a partition that was already written
`-- StoreError              the object store did not do what was asked
    |-- MissingObjectError  an input's object is not there
    |-- ArchivedObjectError an input's object has to be restored from an archive storage class first
    `-- CorruptObjectError  an input's object does not hold the bytes that were written
"""


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
    """The object store did not do what was asked."""


class MissingObjectError(StoreError):
    """An input's object is not in the store."""


class ArchivedObjectError(StoreError):
    """An input's object is in an archive storage class, such as S3's GLACIER."""


class CorruptObjectError(StoreError):
    """An input's object does not hold the bytes that its materialization wrote."""

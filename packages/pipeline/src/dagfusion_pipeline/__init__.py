"""Dagster IO managers that write HIVE-partitioned Parquet to S3 and log exactly what they wrote."""

from dagfusion_pipeline.consolidate import build_consolidate_job, build_consolidate_schedule
from dagfusion_pipeline.frame_types import FRAME_TYPES, FrameType, Stream
from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.partition_events import BULK_EVENT_SETTINGS
from dagfusion_pipeline.vacuum import build_vacuum_job

__all__ = [
    "BULK_EVENT_SETTINGS",
    "FRAME_TYPES",
    "FrameType",
    "PartitionedS3ParquetIOManager",
    "S3ParquetIOManager",
    "Stream",
    "build_consolidate_job",
    "build_consolidate_schedule",
    "build_vacuum_job",
]

"""Dagster IO managers that write HIVE-partitioned Parquet to S3 and log exactly what they wrote."""

from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.partition_events import BULK_EVENT_SETTINGS

__all__ = ["BULK_EVENT_SETTINGS", "PartitionedS3ParquetIOManager", "S3ParquetIOManager"]

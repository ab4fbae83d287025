"""Dagster IO managers that write HIVE-partitioned Parquet to S3 and log exactly what they wrote.

A module is imported when one of its names is used: the command `dagfusion` imports this package for one of its own
commands, and the others need not wait for Dagster.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dagfusion_pipeline.asset_checks import partition_checks
    from dagfusion_pipeline.components import Maintenance, ParquetTables
    from dagfusion_pipeline.consolidate import build_consolidate_job, build_consolidate_schedule
    from dagfusion_pipeline.erase import build_erasure_job
    from dagfusion_pipeline.frame_types import FRAME_TYPES, FrameType, Stream
    from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager, S3ParquetIOManager
    from dagfusion_pipeline.landing_sensor import build_landing_sensor
    from dagfusion_pipeline.partition_events import BULK_EVENT_SETTINGS
    from dagfusion_pipeline.retention import build_retention_job, build_retention_schedule
    from dagfusion_pipeline.sql_assets.sql_asset import sql_asset
    from dagfusion_pipeline.sql_assets.sql_asset_component import SqlAssetComponent
    from dagfusion_pipeline.sql_assets.sql_view import sql_view
    from dagfusion_pipeline.vacuum import build_vacuum_job
    from dagfusion_pipeline.wipe import build_wipe_job, wipe_partitions

__all__ = [
    "BULK_EVENT_SETTINGS",
    "FRAME_TYPES",
    "FrameType",
    "Maintenance",
    "ParquetTables",
    "PartitionedS3ParquetIOManager",
    "S3ParquetIOManager",
    "SqlAssetComponent",
    "Stream",
    "build_consolidate_job",
    "build_consolidate_schedule",
    "build_erasure_job",
    "build_landing_sensor",
    "build_retention_job",
    "build_retention_schedule",
    "build_vacuum_job",
    "build_wipe_job",
    "partition_checks",
    "sql_asset",
    "sql_view",
    "wipe_partitions",
]

_MODULES = {
    "BULK_EVENT_SETTINGS": "partition_events",
    "FRAME_TYPES": "frame_types",
    "FrameType": "frame_types",
    "Maintenance": "components",
    "ParquetTables": "components",
    "PartitionedS3ParquetIOManager": "io_managers",
    "S3ParquetIOManager": "io_managers",
    "SqlAssetComponent": "sql_assets.sql_asset_component",
    "Stream": "frame_types",
    "build_consolidate_job": "consolidate",
    "build_consolidate_schedule": "consolidate",
    "build_erasure_job": "erase",
    "build_landing_sensor": "landing_sensor",
    "build_retention_job": "retention",
    "build_retention_schedule": "retention",
    "build_vacuum_job": "vacuum",
    "build_wipe_job": "wipe",
    "partition_checks": "asset_checks",
    "sql_asset": "sql_assets.sql_asset",
    "sql_view": "sql_assets.sql_view",
    "wipe_partitions": "wipe",
}


def __getattr__(name: str) -> Any:
    """Import a public name."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

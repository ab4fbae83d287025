"""Discovery: reads the footers of Parquet that other IO managers wrote, and makes records of event metadata v1."""

from pathlib import Path

from dagfusion_query.discovery.discovery import Discovery
from dagfusion_query.discovery.foreign_objects import ForeignObjects
from dagfusion_query.discovery.foreign_records import ForeignRecords
from dagfusion_query.discovery.record_cache import RecordCache
from dagfusion_query.settings import Settings

__all__ = ["Discovery", "open_discovery"]


def open_discovery(settings: Settings, state_dir: Path | None, bucket: str | None = None) -> Discovery:
    """Return the discovery of one environment.

    Args:
        settings: Where the objects are.
        state_dir: Where the records are kept; None keeps them in memory.
        bucket: The one bucket that may be read; None allows any, and local files.

    Raises:
        SnapshotError: The state folder cannot be used.
    """
    return Discovery(ForeignRecords(ForeignObjects(settings), bucket), RecordCache(state_dir))

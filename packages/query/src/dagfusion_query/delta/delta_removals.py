"""The files that an export may remove from a Delta log: those that the event log knows something newer of. Pure.

An event log that was restored, purged or begun anew lacks events of files that are still current. So a file that the
catalog does not have is no reason to remove it: there must be an event that replaced, refused or wiped it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from dagfusion_query.catalog.model import AssetState
from dagfusion_query.catalog.segments import find_partitions
from dagfusion_query.delta.delta_actions import EVENT_TAG, PARTITION_TAG

_MS = 1000  # microseconds


class LoggedFile(NamedTuple):
    """A file as a Delta log has it.

    Attributes:
        digest: A digest of its line.
        partition_key: Dagster's key of the partition; None for an unpartitioned asset.
        event_id: The event that named it.
        modified_ms: The time of the object, milliseconds since 1970.
    """

    digest: bytes
    partition_key: str | None
    event_id: int
    modified_ms: int

    @classmethod
    def of(cls, digest: bytes, add: Mapping[str, Any]) -> "LoggedFile":
        """Return the file that an `add` of `add_lines` describes.

        Raises:
            KeyError, TypeError, ValueError: It has none of the tags.
        """
        tags = add["tags"]
        return cls(digest, tags.get(PARTITION_TAG), int(tags[EVENT_TAG]), int(add["modificationTime"]))


def unexplained(files: Iterable[LoggedFile], asset: AssetState) -> list[LoggedFile]:
    """Return the files that may still be current: the asset has no event that came after them.

    An event came after a file if its id is as high, or its time as late as that of the object. Either is enough,
    because SQLite gives the ids of wiped events again, and clocks differ.
    """
    left = [file for file in files if asset.wiped_at_us is None or asset.wiped_at_us < file.modified_ms * _MS]
    keys = pa.array({file.partition_key for file in left}, pa.string())
    latest: dict[str | None, tuple[int, int]] = defaultdict(lambda: (-1, -1))
    rows = [*(rows for segment in asset.segments for rows in segment.live()), asset.absent]
    for _, key, (event_id, at_us) in (found for part in rows for found in find_partitions(part, keys)):
        latest[key] = max(latest[key][0], event_id), max(latest[key][1], at_us)

    def has_later(file: LoggedFile) -> bool:
        event_id, at_us = latest[file.partition_key]
        return event_id >= file.event_id or at_us >= file.modified_ms * _MS

    return [file for file in left if not has_later(file)]

"""Finds landed objects that were wiped with their partition, from the tombstones in the event log."""

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import dagster as dg

from dagfusion_contract.record import ENTRY
from dagfusion_pipeline.store import StoredObject
from dagfusion_pipeline.tombstones import is_tombstone

_KEYS_A_QUERY = 500
_PAGE = 1_000
_SECOND = timedelta(seconds=1)


class Wipe(NamedTuple):
    """The last time that a partition was wiped.

    Attributes:
        at: The time of the wipe.
        etag: The etag of the object that was recorded before the wipe; None if it is not known.
    """

    at: datetime
    etag: str | None

    def took(self, found: StoredObject) -> bool:
        """Return True if an object existed when the partition was wiped.

        S3 reports times in whole seconds. Of the objects of the same second as the wipe, only the recorded one counts
        as older than the wipe.
        """
        if found.modified > self.at:
            return False
        is_exact = found.modified.microsecond != 0 or found.modified + _SECOND <= self.at
        return is_exact or found.etag == self.etag


def last_wipes(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partition_keys: Collection[str | None]
) -> Mapping[str | None, Wipe]:
    """Return the last wipe of each partition that was ever wiped, even if it was written again since.

    Args:
        instance: The Dagster instance whose event log is read.
        asset_key: The asset.
        partition_keys: Only these partitions; None among them for an unpartitioned asset.
    """
    keys = [None if key is None else str(key) for key in partition_keys]
    found: dict[str | None, Wipe] = {}
    for start in range(0, len(keys), _KEYS_A_QUERY):
        found |= _of_page(instance, asset_key, {*keys[start : start + _KEYS_A_QUERY]})
    return found


def _of_page(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Collection[str | None]
) -> dict[str | None, Wipe]:
    found: dict[str | None, Wipe] = {}
    missing = {*keys}
    for record in _newest_first(instance, asset_key, keys):
        materialization, key = record.asset_materialization, record.partition_key
        if key not in missing:
            continue
        if is_tombstone(materialization):
            found.setdefault(key, Wipe(datetime.fromtimestamp(record.timestamp, UTC), None))
        elif key in found:
            entry = materialization.metadata.get(ENTRY) if materialization else None
            data = entry.data if isinstance(entry, dg.JsonMetadataValue) else None
            found[key] = Wipe(found[key].at, data.get("etag") if isinstance(data, Mapping) else None)
            missing.remove(key)
            if not missing:
                break
    return found


def _newest_first(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Collection[str | None]
) -> Iterator[dg.EventLogRecord]:
    partitioned = [key for key in keys if key is not None]
    filter_ = dg.AssetRecordsFilter(asset_key, asset_partitions=partitioned) if partitioned else asset_key
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(filter_, _PAGE, cursor)
        yield from page.records
        cursor, more = page.cursor, page.has_more

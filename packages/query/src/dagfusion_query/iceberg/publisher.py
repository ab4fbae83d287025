"""Writes the Iceberg metadata of tables to an object store, when it is asked for, and only what changed.

All objects are named by their content. So several services may write to one prefix at a time, a crash leaves nothing
that is named by anything, and writing an object twice changes nothing. `metadata.json` is written last.
"""

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import obstore
import pyarrow as pa
import pyarrow.compute as pc
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from dagfusion_contract.iceberg_names import manifest_list_name, manifest_name, metadata_name
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import Layout
from dagfusion_query.catalog.model import Table
from dagfusion_query.errors import StoreUnavailableError, UnsupportedTypeError
from dagfusion_query.iceberg.iceberg_manifest import content_key, encode_manifest_file, manifest_groups
from dagfusion_query.iceberg.iceberg_schema import IcebergSchema, iceberg_schema
from dagfusion_query.iceberg.scan_filter import ScanFilter
from dagfusion_query.iceberg.table_metadata import (
    WrittenManifest,
    encode_manifest_list,
    encode_metadata,
    version_of,
)
from dagfusion_query.object_store import object_path, open_store, store_url
from dagfusion_query.settings import Settings

_log = logging.getLogger(__name__)

_WRITES = 16  # at once
_RECENT = 4  # versions of a table, of which scans can be planned
_COLUMNS = ("uri", "size_bytes", "rows", "partition", "stats")  # all that is in a manifest


@dataclass(frozen=True)
class Published:
    """One version of a table, whose metadata is in the object store.

    Attributes:
        uri: Of `metadata.json`.
        metadata: Its content.
        snapshot_id: Of its one snapshot.
        table: The table as it was.
        schema: What Iceberg says of its columns.
    """

    uri: str
    metadata: bytes
    snapshot_id: int
    table: Table = field(compare=False)
    schema: IcebergSchema

    @cached_property
    def scan_filter(self) -> ScanFilter:
        """Evaluates filters of scans over its files."""
        return ScanFilter(self.table.files, self.schema)

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """The numbers of its files, in an order that is the same in all services."""
        return np.asarray(pc.sort_indices(self.table.files["uri"]), np.int64)


@dataclass
class _Known:
    """What was written last of a table: its manifests by what identifies their content, and the latest versions."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    manifests: Mapping[str, WrittenManifest] = field(default_factory=dict)
    recent: deque[Published] = field(default_factory=lambda: deque(maxlen=_RECENT))


class Publisher:
    """The Iceberg metadata of one environment's tables. Thread-safe.

    Args:
        prefix: The URI of the folder that metadata is written to.
        settings: Endpoint, region and credentials of its store.
    """

    def __init__(self, prefix: str, settings: Settings) -> None:
        self.prefix = prefix.rstrip("/")
        self._store: ObjectStore = open_store(
            store_url(self.prefix), settings, connect_timeout="5s", timeout="30s", max_retries=3
        )
        self._pool = ThreadPoolExecutor(_WRITES, thread_name_prefix="dagfusion-iceberg")
        self._lock = threading.Lock()
        self._known: dict[TableName, _Known] = {}

    def publish(self, table: Table, layouts: Sequence[Layout]) -> Published:
        """Return the metadata of a table, after everything it names is in the object store.

        Args:
            table: One version; asked for again, it is not looked at again.
            layouts: Those of its files.

        Raises:
            UnsupportedTypeError: Iceberg has none of the table's columns.
            StoreUnavailableError: The metadata cannot be written.
        """
        with self._lock:
            known = self._known.setdefault(table.name, _Known())
        with known.lock:
            if not known.recent or known.recent[-1].table is not table:
                known.recent.append(self._written(known, table, iceberg_schema(table, layouts)))
            return known.recent[-1]

    def recent(self, name: TableName, snapshot_id: int) -> Published | None:
        """Return one of the last versions of a table that this service wrote; None if there is none of this id."""
        with self._lock:
            known = self._known.setdefault(name, _Known())
        with known.lock:
            return next((one for one in known.recent if one.snapshot_id == snapshot_id), None)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _written(self, known: _Known, table: Table, schema: IcebergSchema) -> Published:
        if not schema.columns and not schema.partition:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in schema.left_out.items())
            raise UnsupportedTypeError(f"table {table.name} has no column that Iceberg has a type for: {reasons}")
        try:
            manifests = self._write_manifests(known.manifests, table, schema)
            listed = list(manifests.values())
            version = version_of(table, schema, listed)
            content = encode_manifest_list(version, listed)
            list_uri = self._put(table, manifest_list_name(_digest(content)), content)
            metadata = encode_metadata(table, schema, version, listed, list_uri)
            uri = self._put(table, metadata_name(version.sequence, _digest(metadata)), metadata)
        except (BaseError, OSError) as error:
            _log.warning("the Iceberg metadata of table %s cannot be written: %s", table.name, error)
            raise StoreUnavailableError(f"the Iceberg metadata of table {table.name} cannot be written now") from error
        known.manifests = manifests
        return Published(uri, metadata, version.snapshot_id, table, schema)

    def _write_manifests(
        self, before: Mapping[str, WrittenManifest], table: Table, schema: IcebergSchema
    ) -> dict[str, WrittenManifest]:
        """Write the manifests that were not there before, and return all of the table."""
        leading = schema.partition[0].name if schema.partition else None
        groups = manifest_groups(table.files.select(_COLUMNS), leading)
        keyed = {content_key(files, schema): files for files in groups}
        waiting = {
            key: self._pool.submit(self._write_manifest, table, files, schema)
            for key, files in keyed.items()
            if key not in before
        }
        try:
            return {key: waiting[key].result() if key in waiting else before[key] for key in keyed}
        finally:
            for future in waiting.values():
                future.cancel()

    def _write_manifest(self, table: Table, files: pa.Table, schema: IcebergSchema) -> WrittenManifest:
        made = encode_manifest_file(files, schema)
        uri = self._put(table, manifest_name(_digest(made.content)), made.content)
        return WrittenManifest(uri, len(made.content), made.files, made.rows, made.partitions)

    def _put(self, table: Table, name: str, content: bytes) -> str:
        uri = f"{self.prefix}/{table.name.schema}/{table.name.table}/{name}"
        obstore.put(self._store, object_path(uri), content)
        return uri


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]

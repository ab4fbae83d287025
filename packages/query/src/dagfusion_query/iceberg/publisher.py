"""Writes the Iceberg metadata of tables to an object store, when it is asked for, and only what changed.

All objects are named by their content. So several services may write to one prefix at a time, a crash leaves nothing
that is named by anything, and writing an object twice changes nothing. `metadata.json` is written last.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256

import obstore
import pyarrow as pa
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore

from dagfusion_contract.iceberg_names import manifest_list_name, manifest_name, metadata_name, metadata_of_version
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import Layout
from dagfusion_contract.uri import object_path, store_url
from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.model import PublishedView, Table
from dagfusion_query.config import Config
from dagfusion_query.errors import StoreUnavailableError, UnsupportedTypeError
from dagfusion_query.iceberg.data_files import SnapshotFiles, data_files
from dagfusion_query.iceberg.iceberg_manifest import content_key, encode_manifest_file, manifest_groups
from dagfusion_query.iceberg.iceberg_schema import IcebergSchema, NotInIcebergError, iceberg_schema, view_columns
from dagfusion_query.iceberg.past_states import PastState
from dagfusion_query.iceberg.scan_plan import ScannedSnapshot
from dagfusion_query.iceberg.table_metadata import (
    WrittenManifest,
    WrittenSnapshot,
    encode_manifest_list,
    encode_metadata,
    encode_view,
    fitting,
    version_of,
)
from dagfusion_query.object_store import open_store
from dagfusion_query.settings import Settings

_log = logging.getLogger(__name__)

_WRITES = 16  # at once
_RECENT = 4  # versions of a table, of which scans can be planned
_SURELY_KEPT_S = 1800.0  # half of the shortest time that the vacuum keeps metadata which was replaced
_SNAPSHOTS = 16  # of a table that are known


@dataclass(frozen=True)
class Published:
    """One version of a table, whose metadata is in the object store.

    Attributes:
        uri: The URI of `metadata.json`.
        metadata: Its content.
        snapshot: The current one.
        table: The table as it was.
        older: Older snapshots in the metadata, the oldest first.
    """

    uri: str
    metadata: bytes
    snapshot: WrittenSnapshot
    table: Table = field(compare=False)
    older: Sequence[WrittenSnapshot] = field(default=(), compare=False)

    @property
    def snapshot_id(self) -> int:
        """The id of the current snapshot."""
        return self.snapshot.version.snapshot_id

    @property
    def schema(self) -> IcebergSchema:
        """The columns in Iceberg."""
        return self.snapshot.schema

    @cached_property
    def scanned(self) -> ScannedSnapshot:
        """The current snapshot, for plans of its scans."""
        return ScannedSnapshot(self.snapshot_id, self.schema, self.table)


@dataclass
class _TableMetadata:
    """The last written state of a table.

    Attributes:
        manifests: By the identity of their content.
        past: Likewise, of the snapshot of the past that was written last.
        states: The states that were written or needed last, by their latest events.
        named_s: The monotonic clock when metadata with these manifests was written.
        recent: The latest versions.
        view: The name of the metadata of the view of this name that was written last. The vacuum keeps the newest.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    manifests: Mapping[str, WrittenManifest] = field(default_factory=dict)
    past: Mapping[str, WrittenManifest] = field(default_factory=dict)
    states: OrderedDict[int, PastState] = field(default_factory=OrderedDict)
    named_s: float = float("-inf")
    recent: deque[Published] = field(default_factory=lambda: deque(maxlen=_RECENT))
    view: str = ""


class Publisher:
    """The Iceberg metadata of one environment's tables. Thread-safe.

    Args:
        prefix: The URI of the folder that metadata is written to.
        settings: Endpoint, region and credentials of its store.
        is_consolidated: Says for which tables metadata names large objects in place of the files that they replace.
    """

    def __init__(
        self, prefix: str, settings: Settings, is_consolidated: Callable[[TableName], bool] = lambda _: False
    ) -> None:
        self.prefix = prefix.rstrip("/")
        self._store: ObjectStore = open_store(
            store_url(self.prefix), settings, connect_timeout="5s", timeout="30s", max_retries=3
        )
        self._pool = ThreadPoolExecutor(_WRITES, thread_name_prefix="dagfusion-iceberg")
        self._is_consolidated = is_consolidated
        self._lock = threading.Lock()
        self._tables: dict[TableName, _TableMetadata] = {}

    def folder(self, name: TableName) -> str:
        """Return the URI of the folder of a table's metadata, without a slash at its end."""
        return f"{self.prefix}/{name.schema}/{name.table}"

    def publish(self, table: Table, layouts: Sequence[Layout]) -> Published:
        """Return the metadata of a table, after everything it names is in the object store.

        Args:
            table: One version; asked for again, it is not looked at again.
            layouts: The layouts of its files.

        Raises:
            UnsupportedTypeError: Iceberg has none of the table's columns.
            StoreUnavailableError: The metadata cannot be written.
        """
        entry = self._metadata_of(table.name)
        with entry.lock:
            if not entry.recent or entry.recent[-1].table is not table:
                entry.recent.append(self._written(entry, table, iceberg_schema(table, layouts)))
            return entry.recent[-1]

    def recent(self, name: TableName, snapshot_id: int) -> Published | None:
        """Return one of the last versions of a table that this service wrote; None if there is none of this id."""
        entry = self._metadata_of(name)
        with entry.lock:
            return next((one for one in entry.recent if one.snapshot_id == snapshot_id), None)

    def past(self, name: TableName, event_id: int, at_ms: int) -> PastState | None:
        """Return the state of a table as of an event of this time, if this service has written it.

        The time tells events apart that have one id, which SQLite gives again after a wipe.
        """
        entry = self._metadata_of(name)
        with entry.lock:
            found = entry.states.get(event_id)
            if found is None or found.written.version.at_ms != at_ms:
                return None
            entry.states.move_to_end(event_id)
            return found

    def publish_past(self, past: Table, layouts: Sequence[Layout]) -> PastState | None:
        """Return a past state, after its snapshot is in the object store; None if Iceberg has no column of it.

        Args:
            past: The table as of an event.
            layouts: The layouts of its files.

        Raises:
            StoreUnavailableError: The metadata cannot be written.
        """
        entry, schema = self._metadata_of(past.name), iceberg_schema(past, layouts)
        if not schema.columns and not schema.partition:
            return None
        with entry.lock, _store_errors(past):
            before = self._kept(entry, past, {**entry.manifests, **entry.past})
        manifests, written = self._write_snapshot(before, past, schema)
        with entry.lock:
            entry.past = manifests
            return self._note(entry, written, past)

    def with_older(self, current: Published, older: Sequence[WrittenSnapshot]) -> Published:
        """Return the metadata of a version that also has older snapshots.

        Args:
            current: The version.
            older: Its older snapshots, the oldest first.

        Raises:
            StoreUnavailableError: The metadata cannot be written.
        """
        fit = fitting(current.snapshot, older)
        return self._with_metadata(current.table, current.snapshot, fit) if fit else current

    def publish_view(self, table: Table, view: PublishedView, dialects: Mapping[str, str]) -> tuple[str, bytes]:
        """Return the URI and the content of a view's metadata, after it is in the object store.

        Args:
            table: The view as a table.
            view: The view.
            dialects: Its statement in other dialects than DataFusion's.

        Raises:
            UnsupportedTypeError: Iceberg has no type for one of its columns.
            StoreUnavailableError: The metadata cannot be written.
        """
        try:
            columns = view_columns(view.view.columns)
        except NotInIcebergError as error:
            raise UnsupportedTypeError(f"view {table.name} is no view of Iceberg: {error}") from error
        content = encode_view(view, columns, table.name, self.folder(table.name), dialects)
        name, entry = metadata_name(view.event_id, _digest(content)), self._metadata_of(table.name)
        with entry.lock:
            if entry.view != name:
                with _store_errors(table):
                    self._put(table, name, content)
                entry.view = name
        return self._uri(table, name), content

    def read(self, name: TableName, version: str) -> tuple[str, bytes] | None:
        """Return the URI and the content of the `metadata.json` of a version of a table; None if there is none.

        Any service that shares the folder may have written it.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        if (file_name := metadata_of_version(version)) is None:
            return None
        uri = f"{self.folder(name)}/{file_name}"
        try:
            return uri, bytes(obstore.get(self._store, object_path(uri)).bytes())
        except (NotFoundError, FileNotFoundError):
            return None
        except (BaseError, OSError) as error:
            raise StoreUnavailableError(f"the Iceberg metadata of table {name} cannot be read now") from error

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _metadata_of(self, name: TableName) -> _TableMetadata:
        with self._lock:
            return self._tables.setdefault(name, _TableMetadata())

    def _written(self, entry: _TableMetadata, table: Table, schema: IcebergSchema) -> Published:
        if not schema.columns and not schema.partition:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in schema.left_out.items())
            raise UnsupportedTypeError(f"table {table.name} has no column that Iceberg has a type for: {reasons}")
        with _store_errors(table):
            before = self._kept(entry, table, entry.manifests)
        is_consolidated = self._is_consolidated(table.name)
        manifests, written = self._write_snapshot(before, table, schema, is_consolidated=is_consolidated)
        published = self._with_metadata(table, written)
        entry.manifests, entry.named_s = manifests, time.monotonic()
        if written.large_folder is None:  # the vacuum may delete the large objects of older snapshots
            self._note(entry, written, table)
        return published

    def _kept(
        self, entry: _TableMetadata, table: Table, manifests: Mapping[str, WrittenManifest]
    ) -> Mapping[str, WrittenManifest]:
        """Return the manifests that are still in the object store.

        The vacuum may delete one that no metadata of another service names, from an hour after this service named it.
        """
        if not manifests or time.monotonic() - entry.named_s < _SURELY_KEPT_S:
            return manifests
        folder = self.folder(table.name)
        listing = obstore.list(self._store, f"{object_path(folder)}/", chunk_size=1000)
        names = {meta["path"].rpartition("/")[2] for page in listing for meta in page}
        return {key: one for key, one in manifests.items() if one.uri.rpartition("/")[2] in names}

    def _note(self, entry: _TableMetadata, written: WrittenSnapshot, table: Table) -> PastState:
        state = entry.states[written.version.sequence] = PastState.of(written, table)
        entry.states.move_to_end(written.version.sequence)
        while len(entry.states) > _SNAPSHOTS:
            entry.states.popitem(last=False)
        return state

    def _write_snapshot(
        self,
        before: Mapping[str, WrittenManifest],
        table: Table,
        schema: IcebergSchema,
        *,
        is_consolidated: bool = False,
    ) -> tuple[Mapping[str, WrittenManifest], WrittenSnapshot]:
        """Write the manifests that were not there before, and the manifest list."""
        files = data_files(table, schema, is_consolidated=is_consolidated)
        with _store_errors(table):
            manifests = self._write_manifests(before, table, schema, files)
            listed = list(manifests.values())
            version = version_of(table, schema, listed, files.objects)
            content = encode_manifest_list(version, listed, files.large["uri"].to_pylist())
            list_uri = self._put(table, manifest_list_name(_digest(content)), content)
        rows = sum(manifest.rows for manifest in listed)
        return manifests, WrittenSnapshot(
            version, schema, list_uri, rows, files.count, files.size_bytes, files.large_folder
        )

    def _with_metadata(
        self, table: Table, current: WrittenSnapshot, older: Sequence[WrittenSnapshot] = ()
    ) -> Published:
        metadata = encode_metadata(table, current, older)
        with _store_errors(table):
            uri = self._put(table, metadata_name(current.version.sequence, _digest(metadata)), metadata)
        return Published(uri, metadata, current, table, older)

    def _write_manifests(
        self, before: Mapping[str, WrittenManifest], table: Table, schema: IcebergSchema, files: SnapshotFiles
    ) -> dict[str, WrittenManifest]:
        """Write the manifests that were not there before, and return all of the table."""
        leading = schema.partition[0].name if schema.partition else None
        groups = [(group, schema) for group in manifest_groups(files.small, leading)]
        groups += [(group, schema.of_large_objects) for group in manifest_groups(files.large, None)]
        keyed = {content_key(*group): group for group in groups}
        waiting = {
            key: self._pool.submit(self._write_manifest, table, *group)
            for key, group in keyed.items()
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
        return WrittenManifest(uri, len(made.content), made.files, made.rows, made.partitions, schema.spec_id)

    def _uri(self, table: Table, name: str) -> str:
        return f"{self.folder(table.name)}/{name}"

    def _put(self, table: Table, name: str, content: bytes) -> str:
        uri = self._uri(table, name)
        obstore.put(self._store, object_path(uri), content)
        return uri


def open_publishers(config: Config) -> dict[str, Publisher]:
    """Return the publishers of the environments that have a folder for metadata, by their names."""
    return {
        one.name: Publisher(
            one.iceberg_metadata, one.settings, partial(Grants(one.iceberg_consolidated).allow, one.name)
        )
        for one in config.environments
        if one.iceberg_metadata
    }


@contextmanager
def _store_errors(table: Table) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        _log.warning("the Iceberg metadata of table %s cannot be written: %s", table.name, error)
        raise StoreUnavailableError(f"the Iceberg metadata of table {table.name} cannot be written now") from error


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]

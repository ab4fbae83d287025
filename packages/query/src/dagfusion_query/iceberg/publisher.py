"""Writes the Iceberg metadata of tables to an object store, when it is asked for, and only what changed.

All objects are named by their content. So several services may write to one prefix at a time, a crash leaves nothing
that is named by anything, and writing an object twice changes nothing. `metadata.json` is written last.
"""

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

from dagfusion_contract.iceberg_names import metadata_name, metadata_of_version, past_metadata_name
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import Layout
from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.model import PublishedView, Table
from dagfusion_query.config import Config
from dagfusion_query.errors import UnsupportedTypeError
from dagfusion_query.iceberg.iceberg_schema import IcebergSchema, NotInIcebergError, iceberg_schema, view_columns
from dagfusion_query.iceberg.manifest_list import WrittenManifest
from dagfusion_query.iceberg.metadata_writer import MetadataWriter, digest
from dagfusion_query.iceberg.past_states import PastState
from dagfusion_query.iceberg.scan_plan import ScannedSnapshot
from dagfusion_query.iceberg.table_metadata import WrittenSnapshot, encode_metadata, encode_view
from dagfusion_query.settings import Settings

_RECENT = 4  # versions of a table, of which scans can be planned
_SURELY_KEPT_S = 1800.0  # half of the shortest time that the vacuum keeps metadata which was replaced
_SNAPSHOTS = 16  # of a table that are known


K = TypeVar("K")
V = TypeVar("V")


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
        before: Likewise, of the version before it.
        past: Likewise, of the snapshot of the past that was written last.
        of_child: Likewise, of the snapshot that was written last with its parent.
        states: The states that were written or needed last, by their latest events.
        children: The snapshots that were written last with their parents, by the ids of both.
        named_s: The monotonic clock when metadata with these manifests was written.
        recent: The latest versions.
        as_of: The past states that statements read last, by their events: the table, its version, and the monotonic
            clock when the metadata was written.
        view: The name of the metadata of the view of this name that was written last. The vacuum keeps the newest.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    manifests: Mapping[str, WrittenManifest] = field(default_factory=dict)
    before: Mapping[str, WrittenManifest] = field(default_factory=dict)
    past: Mapping[str, WrittenManifest] = field(default_factory=dict)
    of_child: Mapping[str, WrittenManifest] = field(default_factory=dict)
    states: OrderedDict[int, PastState] = field(default_factory=OrderedDict)
    children: OrderedDict[tuple[int, int], WrittenSnapshot] = field(default_factory=OrderedDict)
    named_s: float = float("-inf")
    recent: tuple[Published, ...] = ()
    as_of: OrderedDict[int, tuple[weakref.ref[Table], Callable[[Table], Published], float]] = field(
        default_factory=OrderedDict
    )
    view: str = ""

    @property
    def known(self) -> Mapping[str, WrittenManifest]:
        """All manifests."""
        return {**self.manifests, **self.before, **self.past, **self.of_child}

    def forget(self, is_gone: Callable[[str], bool]) -> None:
        """Drop what names an object that is gone, by its URI."""

        def kept(known: Mapping[str, WrittenManifest]) -> Mapping[str, WrittenManifest]:
            return {key: one for key, one in known.items() if not is_gone(one.uri)}

        self.manifests, self.before, self.past = kept(self.manifests), kept(self.before), kept(self.past)
        self.of_child = kept(self.of_child)
        self.states = OrderedDict((key, one) for key, one in self.states.items() if not is_gone(one.written.list_uri))
        self.children = OrderedDict((key, one) for key, one in self.children.items() if not is_gone(one.list_uri))


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
        self._writer = MetadataWriter(prefix, settings)
        self._is_consolidated = is_consolidated
        self._lock = threading.Lock()
        self._tables: dict[TableName, _TableMetadata] = {}

    def folder(self, name: TableName) -> str:
        """Return the URI of the folder of a table's metadata, without a slash at its end."""
        return self._writer.folder(name)

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
                written = self._written(entry, table, _with_columns(table, iceberg_schema(table, layouts)))
                entry.recent = (*entry.recent[1 - _RECENT :], written)
            return entry.recent[-1]

    def recent(self, name: TableName, snapshot_id: int) -> Published | None:
        """Return one of the last versions of a table that this service wrote; None if there is none of this id.

        It does not wait for a version that is being written.
        """
        recent = self._metadata_of(name).recent
        return next((one for one in recent if one.snapshot_id == snapshot_id), None)

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
        manifests, written = self._writer.write(self._known(entry, past.name), past, schema)
        with entry.lock:
            entry.past = manifests
            return self._note(entry, written, past)

    def publish_as_of(self, past: Table, layouts: Sequence[Layout]) -> Published:
        """Return the metadata of a past state as a table of its own, for a statement that begins now.

        What it names stays for half an hour at least. Its files are those that runs wrote, because the vacuum may have
        deleted large objects.

        Args:
            past: The table as of an event; asked for again soon, it is not looked at again.
            layouts: The layouts of its files.

        Raises:
            UnsupportedTypeError: Iceberg has none of the table's columns.
            StoreUnavailableError: The metadata cannot be written.
        """
        entry, key = self._metadata_of(past.name), past.as_of or 0
        with entry.lock:
            kept = entry.as_of.get(key)
        if kept is not None and kept[0]() is past and time.monotonic() - kept[2] < _SURELY_KEPT_S:
            return kept[1](past)
        schema = _with_columns(past, iceberg_schema(past, layouts))
        manifests, written = self._writer.write(self._known(entry, past.name), past, schema)
        now, metadata = time.monotonic(), encode_metadata(past, written)
        uri = self._writer.put(past.name, past_metadata_name(written.version.sequence, digest(metadata)), metadata)
        version: Callable[[Table], Published] = partial(Published, uri, metadata, written)
        with entry.lock:
            entry.past = manifests
            _keep_last(entry.as_of, key, (weakref.ref(past), version, now))
        return version(past)

    def child(self, name: TableName, parent: PastState, snapshot: WrittenSnapshot) -> WrittenSnapshot | None:
        """Return a snapshot of a table with this parent, if this service has written it as such."""
        entry = self._metadata_of(name)
        with entry.lock:
            return entry.children.get(_pair(parent, snapshot))

    def publish_child(self, parent: PastState, snapshot: WrittenSnapshot, table: Table) -> WrittenSnapshot:
        """Return a snapshot with its parent, after its manifest list is in the object store.

        Args:
            parent: The state before it, `fitting` for one document.
            snapshot: The snapshot, without large objects.
            table: The table as of the snapshot.

        Raises:
            StoreUnavailableError: The metadata cannot be written.
        """
        entry = self._metadata_of(table.name)
        manifests, written = self._writer.write_child(self._known(entry, table.name), parent, snapshot, table)
        with entry.lock:
            entry.of_child = manifests
            _keep_last(entry.children, _pair(parent, snapshot), written)
        return written

    def with_older(self, current: Published, snapshots: Sequence[WrittenSnapshot]) -> Published:
        """Return the metadata of a version that also has older snapshots.

        Args:
            current: The version.
            snapshots: The older ones that are `fitting`, the oldest first, and its own.

        Raises:
            StoreUnavailableError: The metadata cannot be written.
        """
        *older, own = snapshots
        return self._with_metadata(current.table, own, older) if older else current

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
        name, entry = metadata_name(view.event_id, digest(content)), self._metadata_of(table.name)
        with entry.lock:
            if entry.view != name:
                self._writer.put(table.name, name, content)
                entry.view = name
        return self._writer.uri(table.name, name), content

    def read(self, name: TableName, version: str) -> tuple[str, bytes] | None:
        """Return the URI and the content of the `metadata.json` of a version of a table; None if there is none.

        Any service that shares the folder may have written it.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        file_name = metadata_of_version(version)
        return None if file_name is None else self._writer.read(name, file_name)

    def close(self) -> None:
        """End the threads."""
        self._writer.close()

    def _metadata_of(self, name: TableName) -> _TableMetadata:
        with self._lock:
            return self._tables.setdefault(name, _TableMetadata())

    def _written(self, entry: _TableMetadata, table: Table, schema: IcebergSchema) -> Published:
        self._forget_deleted(entry, table.name)
        is_consolidated = self._is_consolidated(table.name)
        manifests, written = self._writer.write(entry.known, table, schema, is_consolidated=is_consolidated)
        published = self._with_metadata(table, written)
        entry.before, entry.manifests, entry.named_s = entry.manifests, manifests, time.monotonic()
        if written.large_folder is None:  # the vacuum may delete the large objects of older snapshots
            self._note(entry, written, table)
        return published

    def _known(self, entry: _TableMetadata, name: TableName) -> Mapping[str, WrittenManifest]:
        with entry.lock:
            self._forget_deleted(entry, name)
            return entry.known

    def _forget_deleted(self, entry: _TableMetadata, name: TableName) -> None:
        """Forget what is no longer in the object store.

        The vacuum may delete what no metadata of another service names, from an hour after this service named it.
        """
        if not entry.known or time.monotonic() - entry.named_s < _SURELY_KEPT_S:
            return
        names = self._writer.names(name)
        entry.forget(lambda uri: uri.rpartition("/")[2] not in names)

    def _note(self, entry: _TableMetadata, written: WrittenSnapshot, table: Table) -> PastState:
        state = PastState.of(written, table)
        _keep_last(entry.states, written.version.sequence, state)
        return state

    def _with_metadata(
        self, table: Table, current: WrittenSnapshot, older: Sequence[WrittenSnapshot] = ()
    ) -> Published:
        metadata = encode_metadata(table, current, older)
        uri = self._writer.put(table.name, metadata_name(current.version.sequence, digest(metadata)), metadata)
        return Published(uri, metadata, current, table, older)


def open_publishers(config: Config) -> dict[str, Publisher]:
    """Return the publishers of the environments that have a folder for metadata, by their names."""
    return {
        one.name: Publisher(
            one.iceberg_metadata, one.settings, partial(Grants(one.iceberg_consolidated).allow, one.name)
        )
        for one in config.environments
        if one.iceberg_metadata
    }


def _with_columns(table: Table, schema: IcebergSchema) -> IcebergSchema:
    """Return the columns of a table.

    Raises:
        UnsupportedTypeError: Iceberg has none of them.
    """
    if schema.columns or schema.partition:
        return schema
    reasons = "; ".join(f"{name}: {reason}" for name, reason in schema.left_out.items())
    raise UnsupportedTypeError(f"table {table.name} has no column that Iceberg has a type for: {reasons}")


def _pair(parent: PastState, snapshot: WrittenSnapshot) -> tuple[int, int]:
    return parent.written.version.snapshot_id, snapshot.version.snapshot_id


def _keep_last(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _SNAPSHOTS:
        kept.popitem(last=False)

"""Writes the Iceberg metadata of tables to an object store, on request, and only what changed.

The names of all objects are computed from their content. So several services can write to one prefix at the same time,
and writing an object twice changes nothing. `metadata.json` is written last, so no metadata names the objects that a
crash leaves behind.
"""

import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from dagfusion_client.errors import UnsupportedTypeError
from dagfusion_contract.iceberg_names import metadata_name, metadata_of_version, past_metadata_name
from dagfusion_contract.naming import TableName
from dagfusion_contract.record import Layout
from dagfusion_interop.iceberg.iceberg_schema import IcebergSchema, NotInIcebergError, iceberg_schema, view_columns
from dagfusion_interop.iceberg.known_metadata import SURELY_KEPT_S, KnownMetadata, keep_last
from dagfusion_interop.iceberg.manifest_list import WrittenManifest
from dagfusion_interop.iceberg.manifest_reuse import GroupedFiles
from dagfusion_interop.iceberg.metadata_writer import MetadataWriter, digest
from dagfusion_interop.iceberg.past_states import PastState
from dagfusion_interop.iceberg.scan_plan import TableSnapshot
from dagfusion_interop.iceberg.table_metadata import WrittenSnapshot, encode_metadata, encode_view
from dagfusion_query.access.grants import Grants
from dagfusion_query.catalog.model import PublishedView, Snapshot, Table
from dagfusion_query.config import Config
from dagfusion_query.settings import Settings

_RECENT = 4  # versions of a table, of which scans can be planned


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
    def table_snapshot(self) -> TableSnapshot:
        """The current snapshot, for plans of its scans."""
        return TableSnapshot(self.snapshot_id, self.schema, self.table)


@dataclass
class _TableMetadata(KnownMetadata):
    """The last written state of a table.

    Attributes:
        recent: The latest versions.
        as_of: The past states that statements read last, by their events: the table, its version, and the time of the
            clock when the metadata was written.
        view: The name of the last written metadata of the view with this name. The vacuum keeps the newest.
    """

    recent: tuple[Published, ...] = ()
    as_of: OrderedDict[int, tuple[weakref.ref[Table], Callable[[Table], Published], float]] = field(
        default_factory=OrderedDict
    )
    view: str = ""


class Publisher:
    """The Iceberg metadata of one environment's tables. Thread-safe.

    Args:
        prefix: The URI of the folder that metadata is written to.
        settings: Endpoint, region and credentials of its store.
        is_consolidated: Says for which tables metadata names large objects in place of the files that they replace.
        clock: Returns seconds, which only grow.
    """

    def __init__(
        self,
        prefix: str,
        settings: Settings,
        is_consolidated: Callable[[TableName], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = MetadataWriter(prefix, settings)
        self._is_consolidated, self._clock = is_consolidated, clock
        self._lock = threading.Lock()
        self._tables: dict[TableName, _TableMetadata] = {}
        self._generation = 0

    def folder(self, name: TableName) -> str:
        """Return the URI of the folder of a table's metadata, without a slash at its end."""
        return self._writer.folder(name)

    def publish(self, table: Table, layouts: Sequence[Layout]) -> Published:
        """Return the metadata of a table, after everything it names is in the object store.

        Args:
            table: One version. A second call with the same version returns the same metadata at once.
            layouts: The layouts of its files.

        Raises:
            UnsupportedTypeError: Iceberg has none of the table's columns.
            StoreUnavailableError: The metadata cannot be written.
        """
        entry = self._metadata_of(table.name)
        with entry.lock:
            if not entry.recent or entry.recent[-1].table is not table:
                written = self._written(entry, table, _with_columns(table, iceberg_schema(table, layouts)))
                others = [one for one in entry.recent if one.snapshot_id != written.snapshot_id]
                entry.recent = (*others[1 - _RECENT :], written)
            return entry.recent[-1]

    def recent(self, name: TableName, snapshot_id: int) -> Published | None:
        """Return the version with this snapshot id, if it is one of the last that this service has written; else None.

        Does not wait for a version that is being written.
        """
        recent = self._metadata_of(name).recent
        return next((one for one in recent if one.snapshot_id == snapshot_id), None)

    def past(self, name: TableName, event_id: int, at_ms: int) -> PastState | None:
        """Return the state of a table as of an event of this time, if this service has written it.

        The time is needed because SQLite reuses event ids after a wipe.
        """
        entry = self._metadata_of(name)
        with entry.lock:
            found = entry.states.get(event_id)
            if found is None or found.written.version.at_ms != at_ms:
                return None
            if not self._is_there(entry, name, found.written):
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
        written = self._writer.write(*self._known(entry, past.name), past, schema)
        with entry.lock:
            entry.past, entry.past_s = written.manifests, self._clock()
            return self._note(entry, written.snapshot, past)

    def publish_as_of(self, past: Table, layouts: Sequence[Layout]) -> Published:
        """Return the metadata of a past state as a separate table, for a statement that begins now.

        The vacuum keeps the objects that the metadata names for at least half an hour. The metadata names the objects
        of runs, because the vacuum may have deleted large objects.

        Args:
            past: The table as of an event. A second call soon after returns the same metadata at once.
            layouts: The layouts of its files.

        Raises:
            UnsupportedTypeError: Iceberg has none of the table's columns.
            StoreUnavailableError: The metadata cannot be written.
        """
        entry, key = self._metadata_of(past.name), past.as_of or 0
        with entry.lock:
            kept = entry.as_of.get(key)
        if kept is not None and kept[0]() is past and self._clock() - kept[2] < SURELY_KEPT_S:
            return kept[1](past)
        schema = _with_columns(past, iceberg_schema(past, layouts))
        manifests, _, written = self._writer.write(*self._known(entry, past.name), past, schema)
        now, metadata = self._clock(), encode_metadata(past, written)
        uri = self._writer.put(past.name, past_metadata_name(written.version.sequence, digest(metadata)), metadata)
        version: Callable[[Table], Published] = partial(Published, uri, metadata, written)
        with entry.lock:
            entry.past, entry.past_s = manifests, now
            keep_last(entry.as_of, key, (weakref.ref(past), version, now))
        return version(past)

    def child(self, name: TableName, parent: PastState, snapshot: WrittenSnapshot) -> WrittenSnapshot | None:
        """Return a snapshot of a table with this parent, if this service has written it as such."""
        entry = self._metadata_of(name)
        with entry.lock:
            found = entry.children.get(_pair(parent, snapshot))
            return found if found is not None and self._is_there(entry, name, found) else None

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
        manifests, written = self._writer.write_child(*self._known(entry, table.name), parent, snapshot, table)
        with entry.lock:
            entry.of_child, entry.past_s = manifests, self._clock()
            keep_last(entry.children, _pair(parent, snapshot), written)
            entry.note_named([written])
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
        if not older:
            return current
        published, entry = self._with_metadata(current.table, own, older), self._metadata_of(current.table.name)
        with entry.lock:
            entry.note_named(snapshots)
        return published

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
            raise UnsupportedTypeError(f"view {table.name} cannot be an Iceberg view: {error}") from error
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

    def forget_dropped(self, snapshot: Snapshot) -> None:
        """Forget the state of tables and views that are not in the catalog. The vacuum deletes their objects.

        An older generation than that of another call changes nothing: a newer table may not be in it.

        Args:
            snapshot: The catalog.
        """
        with self._lock:
            if snapshot.generation >= self._generation:
                self._generation = snapshot.generation
                self._tables = {name: entry for name, entry in self._tables.items() if name in snapshot.tables}

    def close(self) -> None:
        """End the threads."""
        self._writer.close()

    def _metadata_of(self, name: TableName) -> _TableMetadata:
        with self._lock:
            return self._tables.setdefault(name, _TableMetadata(self._clock))

    def _written(self, entry: _TableMetadata, table: Table, schema: IcebergSchema) -> Published:
        self._forget_deleted(entry, table.name)
        is_consolidated = self._is_consolidated(table.name)
        manifests, groups, written = self._writer.write(
            entry.known, entry.groups, table, schema, is_consolidated=is_consolidated
        )
        entry.groups = groups
        published = self._with_metadata(table, written)
        entry.before, entry.manifests, entry.named_s = entry.manifests, manifests, self._clock()
        if written.large_folder is None:  # the vacuum may delete the large objects of older snapshots
            self._note(entry, written, table)
        return published

    def _known(
        self, entry: _TableMetadata, name: TableName
    ) -> tuple[Mapping[str, WrittenManifest], GroupedFiles | None]:
        with entry.lock:
            self._forget_deleted(entry, name)
            return entry.known, entry.groups

    def _forget_deleted(self, entry: _TableMetadata, name: TableName) -> None:
        """Forget manifests and snapshots that are no longer in the object store.

        An hour after this service last named an object, the vacuum may delete it if no other metadata names it.
        Manifests of past snapshots are written again instead, so that a vacuum that runs now sees a new time of
        modification.
        """
        if self._clock() - entry.past_s >= SURELY_KEPT_S:
            entry.past, entry.of_child = {}, {}
        if entry.known and self._clock() - entry.named_s >= SURELY_KEPT_S:
            self._forget_unlisted(entry, name)

    def _forget_unlisted(self, entry: _TableMetadata, name: TableName) -> None:
        names = self._writer.names(name)
        entry.forget(lambda uri: uri.rpartition("/")[2] not in names)

    def _is_there(self, entry: _TableMetadata, name: TableName, snapshot: WrittenSnapshot) -> bool:
        """Return True if the list of a snapshot is in the object store."""
        if entry.is_surely_kept(snapshot):
            return True
        self._forget_unlisted(entry, name)
        listed = (*(one.written for one in entry.states.values()), *entry.children.values())
        return any(one.list_uri == snapshot.list_uri for one in listed)

    def _note(self, entry: _TableMetadata, written: WrittenSnapshot, table: Table) -> PastState:
        state = PastState.of(written, table)
        keep_last(entry.states, written.version.sequence, state)
        entry.note_named([written])
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
            one.own.iceberg_metadata, one.settings, partial(Grants(one.own.iceberg_consolidated).allow, one.name)
        )
        for one in config.environments
        if one.own.iceberg_metadata
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

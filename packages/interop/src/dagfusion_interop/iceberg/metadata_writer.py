"""Writes manifests and manifest lists of snapshots to the folders of their tables."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

import obstore
import pyarrow.compute as pc
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from dagfusion_client.errors import StoreUnavailableError
from dagfusion_contract.iceberg_names import manifest_list_name, manifest_name
from dagfusion_contract.naming import TableName
from dagfusion_contract.uri import object_path, store_url
from dagfusion_interop.iceberg.data_files import data_files
from dagfusion_interop.iceberg.file_groups import new_after
from dagfusion_interop.iceberg.iceberg_manifest import Block, ManifestEncoder
from dagfusion_interop.iceberg.iceberg_schema import IcebergSchema
from dagfusion_interop.iceberg.manifest_list import WrittenManifest, encode_child_list, encode_manifest_list, version_of
from dagfusion_interop.iceberg.manifest_reuse import GroupedFiles
from dagfusion_interop.iceberg.past_states import FileChange, PastState
from dagfusion_interop.iceberg.table_metadata import Change, WrittenSnapshot
from dagfusion_query.catalog.model import Table
from dagfusion_query.object_store import is_absent, open_store
from dagfusion_query.settings import Settings

_log = logging.getLogger(__name__)

_WRITES = 16  # at once
Manifests = Mapping[str, WrittenManifest]  # by the identity of their content


class WrittenVersion(NamedTuple):
    """A version of a table whose manifests are in the object store.

    Attributes:
        manifests: Its manifests.
        groups: How the files are grouped, from which the next version can start.
        snapshot: Its snapshot.
    """

    manifests: Manifests
    groups: GroupedFiles
    snapshot: WrittenSnapshot


class MetadataWriter:
    """Writes to the folders of one environment's tables. Thread-safe.

    Args:
        prefix: The URI of the folder that has them.
        settings: Endpoint, region and credentials of its store.
    """

    def __init__(self, prefix: str, settings: Settings) -> None:
        self._prefix = prefix.rstrip("/")
        self._store: ObjectStore = open_store(
            store_url(self._prefix), settings, connect_timeout="5s", timeout="30s", max_retries=3
        )
        self._pool = ThreadPoolExecutor(_WRITES, thread_name_prefix="dagfusion-iceberg")

    def folder(self, name: TableName) -> str:
        """Return the URI of the folder of a table's metadata, without a slash at its end."""
        return f"{self._prefix}/{name.schema}/{name.table}"

    def uri(self, name: TableName, file_name: str) -> str:
        """Return the URI of an object in the folder of a table."""
        return f"{self.folder(name)}/{file_name}"

    def write(
        self,
        known: Manifests,
        before: GroupedFiles | None,
        table: Table,
        schema: IcebergSchema,
        *,
        is_consolidated: bool = False,
    ) -> WrittenVersion:
        """Write the manifest list of a table, and the manifests that are not known.

        Args:
            known: Manifests that are in the object store.
            before: Another version of the table, of which to use what is the same.
            table: The table.
            schema: Its columns.
            is_consolidated: Name large objects in place of the files that they replace.

        Raises:
            StoreUnavailableError: They cannot be written.
        """
        files = data_files(table, schema, is_consolidated=is_consolidated)
        small, large = ManifestEncoder(schema), ManifestEncoder(schema.of_large_objects)
        groups = GroupedFiles.of(files.small, small, new_after(table.files["event_id"]), before)
        manifests = self._write_manifests(known, table.name, small, groups)
        manifests |= self._write_manifests(known, table.name, large, GroupedFiles.of(files.large, large, None))
        listed = list(manifests.values())
        version = version_of(table, schema, listed, files.objects)
        content = encode_manifest_list(version, listed, files.large["uri"].to_pylist())
        list_uri = self.put(table.name, manifest_list_name(digest(content)), content)
        rows = sum(manifest.rows for manifest in listed)
        event_sum = pc.sum(table.files["event_id"], min_count=0).as_py()
        snapshot = WrittenSnapshot(
            version, schema, list_uri, rows, files.count, files.size_bytes, event_sum, files.large_folder
        )
        return WrittenVersion(manifests, groups, snapshot)

    def write_child(
        self,
        known: Manifests,
        before: GroupedFiles | None,
        parent: PastState,
        snapshot: WrittenSnapshot,
        table: Table,
    ) -> tuple[Manifests, WrittenSnapshot]:
        """Write the manifest list of a snapshot after its parent, and the manifests that are not known.

        Args:
            known: Manifests that are in the object store.
            before: Another version of the table, of which to use what is the same.
            parent: The state before it.
            snapshot: The snapshot, without large objects.
            table: The table as of the snapshot.

        Returns:
            The manifests of the files that both have, and the snapshot with its parent.

        Raises:
            StoreUnavailableError: They cannot be written.
        """
        schema, version, name = snapshot.schema, snapshot.version, table.name
        earlier = parent.written.version
        files = FileChange.of(parent, data_files(table, schema, is_consolidated=False).small)
        after = new_after(table.files["event_id"])
        as_before = ManifestEncoder(schema)
        as_added, as_removed = (
            ManifestEncoder(schema, version.snapshot_id, is_removed=is_removed) for is_removed in (False, True)
        )
        kept = self._write_manifests(known, name, as_before, GroupedFiles.of(files.kept, as_before, after, before))
        added = self._write_manifests(known, name, as_added, GroupedFiles.of(files.added, as_added, after))
        removed = self._write_manifests(known, name, as_removed, GroupedFiles.of(files.removed, as_removed, None))
        changed = [*added.values(), *removed.values()]
        content = encode_child_list(version, earlier, list(kept.values()), changed)
        list_uri = self.put(table.name, manifest_list_name(digest(content)), content)
        added_rows, removed_rows = (sum(one.rows for one in some.values()) for some in (added, removed))
        change = Change(earlier.snapshot_id, len(files.added), added_rows, len(files.removed), removed_rows)
        return kept, replace(snapshot, list_uri=list_uri, change=change)

    def put(self, name: TableName, file_name: str, content: bytes) -> str:
        """Write an object to the folder of a table, and return its URI.

        Raises:
            StoreUnavailableError: It cannot be written.
        """
        uri = self.uri(name, file_name)
        with _store_errors(name, "written"):
            obstore.put(self._store, object_path(uri), content)
        return uri

    def read(self, name: TableName, file_name: str) -> tuple[str, bytes] | None:
        """Return the URI and the content of an object in the folder of a table; None if there is none.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        uri = self.uri(name, file_name)
        with _store_errors(name, "read"):
            try:
                return uri, bytes(obstore.get(self._store, object_path(uri)).bytes())
            except (BaseError, OSError) as error:
                if is_absent(self._store, object_path(uri), error):
                    return None
                raise

    def names(self, name: TableName) -> set[str]:
        """Return the names of the objects in the folder of a table.

        Raises:
            StoreUnavailableError: The store does not answer.
        """
        with _store_errors(name, "written"):
            listing = obstore.list(self._store, f"{object_path(self.folder(name))}/", chunk_size=1000)
            return {meta["path"].rpartition("/")[2] for page in listing for meta in page}

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _write_manifests(
        self, known: Manifests, name: TableName, encoder: ManifestEncoder, groups: GroupedFiles
    ) -> dict[str, WrittenManifest]:
        """Write the manifests that are not known, and return all."""
        waiting: list[Future[str]] = []
        try:
            # Encoding takes a core, and threads would only contend for it.
            made = {
                key: known[key] if key in known else self._written(name, encoder, blocks, waiting)
                for blocks in groups.manifests
                for key in (encoder.key(blocks),)
            }
            for future in waiting:
                future.result()
            return made
        finally:
            for future in waiting:
                future.cancel()

    def _written(
        self, name: TableName, encoder: ManifestEncoder, blocks: Sequence[Block], waiting: "list[Future[str]]"
    ) -> WrittenManifest:
        """Return a manifest that is being written."""
        made = encoder.manifest(blocks)
        file_name = manifest_name(digest(made.content))
        waiting.append(self._pool.submit(self.put, name, file_name, made.content))
        uri, spec_id = self.uri(name, file_name), encoder.schema.spec_id
        return WrittenManifest(
            uri, len(made.content), made.files, made.rows, made.partitions, spec_id, encoder.is_removed
        )


def digest(content: bytes) -> str:
    """Return the digest of content in the names of objects."""
    return sha256(content).hexdigest()[:32]


@contextmanager
def _store_errors(name: TableName, done: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        _log.warning("the Iceberg metadata of table %s cannot be %s: %s", name, done, error)
        raise StoreUnavailableError(f"the Iceberg metadata of table {name} cannot be {done} now") from error

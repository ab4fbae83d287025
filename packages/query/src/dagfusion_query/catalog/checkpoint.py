"""The checkpoint of a catalog in an object store, from which a new process starts if the event log was purged.

    {prefix}/checkpoint.json                  which objects have the rows of each asset, and the cursor
    {prefix}/rows/{sha256}-{random}.arrow.zst rows of one layout, as in the state folder, compressed

Objects of rows never change, and are written before the manifest that names them. The manifest is replaced only if it
is the one that was read last (a conditional PUT), so a crash, or another writer, leaves a manifest with its objects.
An object that a manifest stops naming is deleted an hour later, and never named again.
"""

import logging
import secrets
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import obstore
import pyarrow as pa
import pyarrow.compute as pc
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import ObjectStore

from dagfusion_client.errors import SnapshotError, StoreUnavailableError
from dagfusion_contract.record import Layout
from dagfusion_contract.uri import object_path, store_url
from dagfusion_query.catalog.manifest import (
    FORMAT,
    File,
    decode_asset,
    decode_cursor,
    decode_manifest,
    encode_asset,
    encode_cursor,
    encode_manifest,
    files_of,
    layout_metadata,
)
from dagfusion_query.catalog.model import TIME, Snapshot
from dagfusion_query.catalog.snapshot import Stored
from dagfusion_query.event_log.event_log_interface import Cursor
from dagfusion_query.object_store import is_absent, open_store, store_error
from dagfusion_query.settings import Settings

if TYPE_CHECKING:
    from obstore import GetResult  # a type alone

_log = logging.getLogger(__name__)

MANIFEST, ROWS_FOLDER = "checkpoint.json", "rows"
GRACE_S = 3600.0  # a reader may still need what the last manifest stopped naming
_ORPHAN_AGE = timedelta(hours=24)  # of an object that no manifest names; longer than any attempt to write
_ORPHANS_EVERY_S = 6 * 3600.0
_DIGEST = 32
_TRANSFERS = 4  # at once


@dataclass(frozen=True)
class Head:
    """The manifest as it was read or written last.

    Attributes:
        etag: Its version in the object store.
        manifest: Its content.
    """

    etag: str
    manifest: Mapping[str, Any]

    @property
    def cursor(self) -> Cursor:
        """The position in the event log up to which the checkpoint has all events."""
        return decode_cursor(self.manifest["cursor"])

    @property
    def writer(self) -> str:
        """The process that wrote it."""
        return str(self.manifest["writer"])

    @property
    def written_at_s(self) -> float:
        """The time when it was written, seconds since 1970 by the clock of the writer."""
        return float(self.manifest["written_at_s"])

    @property
    def files(self) -> Mapping[str, File]:
        """The files that it names, by the digest of their content."""
        files = [file for asset in self.manifest["assets"] for file in files_of(asset)]
        return {file.name[:_DIGEST]: file for file in files}


def open_checkpoint(settings: Settings) -> "CheckpointStore | None":
    """Return the checkpoint of an environment, or None if none is configured; nothing is read yet."""
    if settings.catalog_checkpoint is None:
        return None
    url = store_url(settings.catalog_checkpoint)
    connect = partial(open_store, url, settings, connect_timeout="5s", timeout="60s", max_retries=3)
    return CheckpointStore(connect, settings.catalog_checkpoint)


class CheckpointStore:
    """Reads and writes the checkpoint of one environment. Used by one thread at a time.

    Args:
        connect: Returns a client of its bucket. Called once, before the first request: a client loads the root
            certificates of TLS, which takes longer than a point query.
        prefix: `s3://bucket/folder`.
        now: The clock, seconds since 1970.

    Attributes:
        name: The prefix.
        writer: Identifies this process among those that write the checkpoint.
        known_etag: The version of the manifest that was read or written last.
    """

    def __init__(self, connect: Callable[[], ObjectStore], prefix: str, now: Callable[[], float] = time.time) -> None:
        self.name = prefix.rstrip("/")
        self.writer = secrets.token_hex(8)
        self.known_etag: str | None = None
        self._connect, self._folder, self._now = connect, object_path(self.name), now
        # What is in the store already, by the identity of the rows in memory; they are kept, so no others take it over.
        self._placed: dict[int, tuple[pa.Table, File]] = {}
        # Objects that no manifest has named yet, by the digest of their content, and when they were written.
        self._unnamed: dict[str, tuple[File, float]] = {}
        self._orphans_at_s = float("-inf")

    @cached_property
    def _store(self) -> ObjectStore:
        return self._connect()

    def head(self) -> Head | None:
        """Return the manifest, or None if there is no checkpoint yet.

        Raises:
            StoreUnavailableError: The object store does not answer, or refuses.
            SnapshotError: The manifest is damaged, or of another format.
        """
        try:
            found = self._get(MANIFEST)
            stored, etag = bytes(found.bytes()), found.meta["e_tag"] or ""
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._unreadable(error) from error
        try:
            return Head(etag, decode_manifest(stored, f"{self.name}/{MANIFEST}"))
        except (KeyError, TypeError, ValueError) as error:
            raise self._unusable(error) from error

    def load(self, head: Head, environment: str) -> Stored:
        """Read the snapshot that a manifest names.

        Raises:
            StoreUnavailableError: The object store does not answer, or refuses.
            SnapshotError: An object is gone or damaged.
        """
        manifest = head.manifest
        try:
            files = list(head.files.values())
            with ThreadPoolExecutor(_TRANSFERS, "dagfusion-checkpoint") as pool:
                tables = dict(zip([file.name for file in files], pool.map(self._read_rows, files), strict=True))
            states = {
                tuple(asset["key"]): decode_asset(asset, lambda file: tables[file.name])[0]
                for asset in manifest["assets"]
            }
            cursor, identity = head.cursor, manifest["identity"]
            is_current = manifest["format"] == FORMAT and not manifest["undiscovered"]
        except (pa.ArrowException, KeyError, TypeError, ValueError, FileNotFoundError) as error:
            raise self._unusable(error) from error
        except (BaseError, OSError) as error:
            raise self._unreadable(error) from error
        self.known_etag = head.etag
        return Stored(Snapshot(0, environment, asset_states=states), cursor, identity, is_current)

    def write(self, latest: Stored, before: Head | None, undiscovered: int = 0) -> Head | None:
        """Write a checkpoint.

        Args:
            latest: The snapshot, its cursor and the event log's identity.
            before: The manifest that it replaces.
            undiscovered: The number of materializations that the snapshot has not, though the cursor is past them.

        Returns:
            The new manifest, or None if another process replaced the one before.

        Raises:
            StoreUnavailableError: The object store does not answer, or refuses.
        """
        try:
            assets = self._write_rows(latest.snapshot, self._reusable(before))
            names = {file.name for asset in assets for file in files_of(asset)}
            retired, expired = self._retired(before, names)
            body = {
                "identity": latest.identity,
                "cursor": encode_cursor(latest.cursor),
                "assets": assets,
                "undiscovered": undiscovered,
                "writer": self.writer,
                "written_at_s": self._now(),
                "retired": retired,
            }
            encoded = encode_manifest(body)
            mode: Any = "create" if before is None else {"e_tag": before.etag}
            try:
                put = obstore.put(self._store, f"{self._folder}/{MANIFEST}", encoded, mode=mode, use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                self._placed.clear()  # what was written for it will not be named
                return None
            head = Head(put["e_tag"] or "", decode_manifest(encoded, self.name))
            self.known_etag = head.etag
            self._unnamed.clear()
        except (BaseError, OSError) as error:
            raise store_error(error, f"the checkpoint {self.name} cannot be written") from error
        try:
            self._delete(expired)
            self._delete_orphans(names | retired.keys())
        except (BaseError, OSError) as error:  # as orphans, they are tried again
            _log.warning("the checkpoint %s is written, but old objects of it cannot be deleted: %s", self.name, error)
        return head

    def _reusable(self, before: Head | None) -> dict[str, File]:
        """Return the objects that a new manifest may name: those of the one before, and what a failed attempt left.

        What was written an hour ago may have been named, retired and deleted by another process since.
        """
        retired = () if before is None else before.manifest["retired"]
        now_s = self._now()
        self._unnamed = {
            digest: (file, at_s)
            for digest, (file, at_s) in self._unnamed.items()
            if now_s - at_s < GRACE_S and file.name not in retired
        }
        left = {digest: file for digest, (file, _) in self._unnamed.items()}
        return left if before is None else {**left, **before.files}

    def _unreadable(self, error: Exception) -> StoreUnavailableError:
        return store_error(error, f"the checkpoint {self.name} of the catalog cannot be read")

    def _unusable(self, error: Exception) -> SnapshotError:
        return SnapshotError(
            f"the checkpoint {self.name} of the catalog cannot be used, and is not written over: {error!r:.300}"
        )

    def _write_rows(self, snapshot: Snapshot, reusable: Mapping[str, File]) -> list[dict[str, Any]]:
        """Write the rows that no known object has; return the assets of the manifest."""
        names = {file.name for file in reusable.values()}
        placed: dict[int, tuple[pa.Table, File]] = {}

        def place(rows: pa.Table, layout: Layout | None) -> File:
            found = self._placed.get(id(rows))
            if found is None or found[1].name not in names:
                found = (rows, self._write_file(rows, layout, reusable))
            placed[id(rows)] = found
            return found[1]

        assets = [encode_asset(key, state, place) for key, state in snapshot.asset_states.items()]
        self._placed = placed
        return assets

    def _write_file(self, rows: pa.Table, layout: Layout | None, reusable: Mapping[str, File]) -> File:
        """Write rows, unless a known object has the same content."""
        tagged = rows.replace_schema_metadata(None if layout is None else layout_metadata(layout))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, tagged.schema) as writer:
            writer.write_table(tagged)
        content = sink.getvalue()
        digest = sha256(content).hexdigest()[:_DIGEST]
        if digest in reusable:
            return reusable[digest]
        file = File(f"{digest}-{secrets.token_hex(8)}.arrow.zst", content.size, zlib.crc32(content))
        compressed = pa.compress(content, codec="zstd", asbytes=True)
        obstore.put(self._store, f"{self._folder}/{ROWS_FOLDER}/{file.name}", compressed)
        self._unnamed[digest] = file, self._now()
        return file

    def _read_rows(self, file: File) -> pa.Table:
        compressed = self._get(f"{ROWS_FOLDER}/{file.name}").bytes()
        try:
            content = pa.decompress(memoryview(compressed), decompressed_size=file.size, codec="zstd")
        except OSError as error:  # of damaged bytes, not of a store that does not answer
            raise ValueError(f"{file.name} is damaged: {error}") from error
        if sha256(content).hexdigest()[:_DIGEST] != file.name[:_DIGEST]:
            raise ValueError(f"{file.name} is not the object that was written")
        return pa.ipc.open_file(content).read_all()

    def _get(self, name: str) -> "GetResult":
        """Request an object; an absent one raises FileNotFoundError, however the store says so."""
        path = f"{self._folder}/{name}"
        try:
            return obstore.get(self._store, path)
        except (BaseError, OSError) as error:
            if is_absent(self._store, path, error):
                raise FileNotFoundError(f"{name} is gone") from error
            raise

    def _retired(self, before: Head | None, current_names: set[str]) -> tuple[dict[str, float], list[str]]:
        """Return when manifests stopped naming objects, and those that can be deleted once the new one is there."""
        if before is None:
            return {}, []
        now_s = self._now()
        dropped = {file.name: now_s for file in before.files.values() if file.name not in current_names}
        retired = {**before.manifest["retired"], **dropped}
        expired = [name for name, at_s in retired.items() if now_s - at_s >= GRACE_S]
        return {name: at_s for name, at_s in retired.items() if name not in expired}, expired

    def _delete(self, names: list[str]) -> None:
        if names:
            obstore.delete(self._store, [f"{self._folder}/{ROWS_FOLDER}/{name}" for name in names])

    def _delete_orphans(self, current_names: set[str]) -> None:
        """Delete the objects of writers that stopped before they replaced the manifest."""
        now_s = self._now()
        if now_s - self._orphans_at_s < _ORPHANS_EVERY_S:
            return
        self._orphans_at_s = now_s
        found = [meta for page in obstore.list(self._store, f"{self._folder}/{ROWS_FOLDER}/") for meta in page]
        orphans = [
            name
            for meta in found
            if (name := meta["path"].rpartition("/")[2]) not in current_names
            and now_s - meta["last_modified"].timestamp() > _ORPHAN_AGE.total_seconds()
        ]
        self._delete(orphans)


def last_event_read(cursor: Cursor) -> int:
    """Return the latest event that has been read."""
    return max(cursor.watermark.settled, *cursor.watermark.seen, 0)


def events_after(snapshot: Snapshot, event_id: int, before_us: int) -> int:
    """Count the partitions whose file is of an event later than `event_id` and older than `before_us`."""
    latest = pa.scalar(before_us, pa.int64()).cast(TIME)
    return sum(
        pc.sum(pc.and_(pc.greater(rows["event_id"], event_id), pc.less(rows["materialized_at"], latest))).as_py() or 0
        for state in snapshot.asset_states.values()
        for segment in state.segments
        for rows in segment.live()
    )

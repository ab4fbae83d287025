"""Snapshots on disk: immutable Arrow IPC files that are mapped on load, and for each generation a manifest of them.

    {state_dir}/segments/{hash}.arrow        rows of one layout; the layout is in the schema's metadata
    {state_dir}/manifest-{generation}.json   which segments each asset has, and the cursor they belong to

A file is written under a temporary name, synced and renamed, so a crash leaves the previous generation. The manifest
has the size and checksum of each segment, and its first line has its own, so damaged files are found on load. Several
processes may share a folder: segments never change, and a lock guards manifests and the removal of old files.
"""

import fcntl
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dagfusion_client.errors import SnapshotError
from dagfusion_contract.record import Layout
from dagfusion_query.catalog.fold import with_asset_states
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
from dagfusion_query.catalog.mapped_catalog import generation_of, manifest_path, manifest_paths, map_rows
from dagfusion_query.catalog.model import AssetState, Segment, Snapshot
from dagfusion_query.catalog.segments import LARGE_ROWS
from dagfusion_query.discovery.discovery import Discovery
from dagfusion_query.event_log.event_log_interface import AssetKey, Cursor

_log = logging.getLogger(__name__)

_KEPT_MANIFESTS = 2
_ORPHAN_AGE_S = 3600.0  # a segment that no manifest names may still be waiting for one
_RETRY_S = 2.0  # until a generation that could not be saved is tried again
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Stored:
    """A snapshot as it was left: with the cursor to poll from, and the identity of the event log that both are of.

    Attributes:
        is_current: False if a version wrote it that did not know all kinds of events.
    """

    snapshot: Snapshot
    cursor: Cursor
    identity: str
    is_current: bool = True


class SnapshotStore:
    """Keeps the latest snapshots in a folder.

    Args:
        state_dir: Made if it is not there.

    Raises:
        SnapshotError: It cannot be made.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir
        self._segments = state_dir / "segments"
        try:
            self._segments.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SnapshotError(f"catalog snapshots cannot be written to {state_dir}: {error}") from error
        self._generation = 0  # the last one that this process has written or loaded
        # What is on disk already, by the identity of the rows in memory; they are kept, so no others take it over.
        self._written: dict[int, tuple[pa.Table, File]] = {}

    def seal(self, snapshot: Snapshot, min_rows: int = 0) -> Snapshot:
        """Write segments that are not on disk yet, and return the snapshot with the mapped files in their place.

        Args:
            snapshot: The snapshot; its tables are the same, only where their rows lie changes.
            min_rows: Smaller segments stay in memory.

        Raises:
            OSError: One cannot be written.
        """
        changed: dict[AssetKey, AssetState] = {}
        for asset_key, state in snapshot.asset_states.items():
            sealed = tuple(
                self._seal(segment) if segment.rows.num_rows >= min_rows else segment for segment in state.segments
            )
            if any(new is not old for new, old in zip(sealed, state.segments, strict=True)):
                changed[asset_key] = replace(state, segments=sealed)
        if not changed:
            return snapshot
        return replace(with_asset_states(snapshot, changed), generation=snapshot.generation)

    def save(self, snapshot: Snapshot, cursor: Cursor, identity: str) -> Snapshot:
        """Write a generation; return it with its rows mapped from disk.

        It gets a later number if another process has left that one or a later one meanwhile: a generation's number
        stands for one content.

        Raises:
            SnapshotError: The folder cannot be written.
        """
        try:
            with self._locked():
                self._forget_removed()
                sealed = self._numbered(self.seal(snapshot))
                self._write_manifest(sealed, cursor, identity)
                self._clear_up()
                self._generation = sealed.generation
        except OSError as error:
            raise SnapshotError(f"the catalog's snapshot cannot be written to {self._folder}: {error}") from error
        return sealed

    def load(self, environment: str) -> Stored | None:
        """Map the latest generation, or return None if there is none.

        Raises:
            SnapshotError: The snapshot is incomplete, damaged or of another format.
        """
        try:
            manifests = manifest_paths(self._folder)
            if not manifests:
                return None
            return self._read(decode_manifest(manifests[-1].read_bytes(), manifests[-1]), environment)
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise SnapshotError(f"the catalog's snapshot in {self._folder} cannot be used: {error!r}") from error

    def last_generation(self) -> int:
        """Return the highest generation that was ever left here, damaged or not; 0 when there is none."""
        return max((generation_of(path) for path in manifest_paths(self._folder)), default=0)

    def _numbered(self, snapshot: Snapshot) -> Snapshot:
        last = self.last_generation()
        is_taken = last >= snapshot.generation and last != self._generation
        return replace(snapshot, generation=last + 1) if is_taken else snapshot

    def _forget_removed(self) -> None:
        """Forget segments that were removed from the folder, so that they are written again."""
        present = {entry.name for entry in os.scandir(self._segments)}
        self._written = {key: (rows, file) for key, (rows, file) in self._written.items() if file.name in present}

    def _seal(self, segment: Segment) -> Segment:
        if id(segment.rows) in self._written:
            return segment
        metadata = layout_metadata(segment.layout)
        file = self._write_rows(segment.rows.replace_schema_metadata(metadata))
        rows = map_rows(self._segments, file).replace_schema_metadata(None)
        self._written[id(rows)] = (rows, file)
        return replace(segment, rows=rows)

    def _write_rows(self, rows: pa.Table) -> File:
        temporary = self._segments / f"{os.getpid()}-{time.monotonic_ns()}.tmp"
        try:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
                writer.write_table(rows)
        except OSError:
            temporary.unlink(missing_ok=True)  # on a full disk, what was written would keep it full
            raise
        checksum = _checksum(temporary)
        size = temporary.stat().st_size
        name = f"{checksum:08x}-{size}-{time.time_ns():x}-{os.getpid()}.arrow"
        _sync(temporary)
        temporary.rename(self._segments / name)
        _sync(self._segments)
        return File(name, size, checksum)

    def _write_manifest(self, snapshot: Snapshot, cursor: Cursor, identity: str) -> None:
        written: dict[int, tuple[pa.Table, File]] = {}

        def place(rows: pa.Table, _: Layout | None) -> File:
            written[id(rows)] = self._written.get(id(rows)) or (rows, self._write_rows(rows))
            return written[id(rows)][1]

        assets = [encode_asset(asset_key, state, place) for asset_key, state in snapshot.asset_states.items()]
        self._written = written
        body = {
            "generation": snapshot.generation,
            "identity": identity,
            "cursor": encode_cursor(cursor),
            "assets": assets,
        }
        path = manifest_path(self._folder, snapshot.generation)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(encode_manifest(body))
        _sync(temporary)
        temporary.rename(path)
        _sync(self._folder)

    def _read(self, manifest: Mapping[str, Any], environment: str) -> Stored:
        files = [file for asset in manifest["assets"] for file in files_of(asset)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._check, files))
        asset_states = {tuple(asset["key"]): self._read_asset_state(asset) for asset in manifest["assets"]}
        empty = Snapshot(manifest["generation"] - 1, environment)
        self._generation = manifest["generation"]
        return Stored(
            with_asset_states(empty, asset_states),
            decode_cursor(manifest["cursor"]),
            manifest["identity"],
            manifest["format"] == FORMAT,
        )

    def _read_asset_state(self, asset: Mapping[str, Any]) -> AssetState:
        state, mapped = decode_asset(asset, partial(map_rows, self._segments))
        self._written.update((id(rows), (rows, file)) for rows, file in mapped)
        return state

    def _check(self, file: File) -> None:
        path = self._segments / file.name
        size = path.stat().st_size
        if size != file.size or _checksum(path) != file.checksum:
            raise ValueError(f"{path} is not the file that was written: {size} bytes, expected {file.size}")

    def _clear_up(self) -> None:
        """Remove old generations, and segments that neither the kept ones nor this process use."""
        manifests = manifest_paths(self._folder)
        for path in manifests[:-_KEPT_MANIFESTS]:
            path.unlink(missing_ok=True)
        used = {file.name for _, file in self._written.values()}
        for path in manifests[-_KEPT_MANIFESTS:]:
            with suppress(ValueError, KeyError, TypeError):
                for asset in decode_manifest(path.read_bytes(), path)["assets"]:
                    used |= {file.name for file in files_of(asset)}
        oldest = time.time() - _ORPHAN_AGE_S
        for path in self._segments.iterdir():
            with suppress(FileNotFoundError):  # another process has renamed or removed it
                if path.name not in used and path.stat().st_mtime < oldest:
                    path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class SnapshotWriter:
    """Saves generations as they come, and tries again some seconds after a failure. Used by one thread at a time.

    Args:
        store: Where they are saved; None saves none.
        discovery: Its records are written before the generation that needs them; None if there is none.
        clock: A monotonic clock, seconds.

    Attributes:
        saved: The generation on disk, or None. Any thread may read it.
        error: Why the latest generation is not on disk, or None.
    """

    def __init__(
        self,
        store: SnapshotStore | None,
        discovery: Discovery | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._discovery, self._clock = store, discovery, clock
        self.saved: Snapshot | None = None
        self.error: SnapshotError | None = None
        self._retry_at: float | None = None

    def seal(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot with its large segments on disk, or as it is if they cannot be written."""
        if self._store is not None:
            with suppress(OSError):  # they stay in memory, and saving will say why
                return self._store.seal(snapshot, LARGE_ROWS)
        return snapshot

    def save(self, latest: Stored, *, changed: bool) -> Snapshot:
        """Save a generation if it changed, or if it is time to try again.

        Args:
            latest: The generation, its cursor and the event log's identity.
            changed: Whether it differs from the one before.

        Returns:
            The snapshot with its rows mapped from disk, or as it was if it was not saved.
        """
        is_due = changed if self._retry_at is None else self._clock() >= self._retry_at
        if self._store is None or not is_due:
            return latest.snapshot
        try:
            if self._discovery is not None:
                self._discovery.flush()
            self.saved = self._store.save(latest.snapshot, latest.cursor, latest.identity)
        except SnapshotError as error:
            if self.error is None:
                _log.warning("the catalog goes on without its latest snapshot on disk: %s", error)
            self.error, self._retry_at = error, self._clock() + _RETRY_S
            return latest.snapshot
        self.error = self._retry_at = None
        if self._discovery is not None:
            self._discovery.published()
        return self.saved


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

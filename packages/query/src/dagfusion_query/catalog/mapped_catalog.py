"""Generations on disk: the folder, the manifests, mapped segments, and a catalog that reads generations from there."""

import hashlib
import logging
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from dagfusion_contract.record import Layout
from dagfusion_contract.view import read_view, view_entry
from dagfusion_query.catalog.fold import with_asset_states
from dagfusion_query.catalog.model import (
    ABSENT_SCHEMA,
    CONSOLIDATED_SCHEMA,
    FILELESS_SCHEMA,
    AssetState,
    PublishedView,
    Segment,
    Snapshot,
)
from dagfusion_query.errors import SnapshotError
from dagfusion_query.event_log.event_log_interface import AssetKey, EventLog
from dagfusion_query.settings import NO_STATE, Settings

FORMAT = 7
READABLE = (4, 5, 6, FORMAT)  # 4 has no consolidations, 5 no views, 6 no tombstones
OTHER_ROWS = ("absent", "fileless", "consolidated")  # of an asset, beside its segments
_LAYOUT_FILE, _LAYOUT_PARTITION, _LAYOUT_NAMES = b"dagfusion.file", b"dagfusion.partition", b"dagfusion.layout"
_log = logging.getLogger(__name__)
_WAIT_S = 2.0
_LOOK_S = 0.02


@dataclass(frozen=True)
class File:
    """A file of rows, as the manifest names it."""

    name: str
    size: int
    checksum: int


def manifest_paths(folder: Path) -> list[Path]:
    """Return the manifests in a state folder, oldest first."""
    return sorted(folder.glob("manifest-*.json"))


def manifest_path(folder: Path, generation: int) -> Path:
    """Return where a generation's manifest goes."""
    return folder / f"manifest-{generation:020d}.json"


def generation_of(path: Path) -> int:
    """Return the generation in a manifest's name."""
    return int(path.stem.rpartition("-")[2])


def encode_manifest(body: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is stored: a checksum, and the rest as JSON."""
    encoded = orjson.dumps({"format": FORMAT, **body})
    return b"%08x\n" % zlib.crc32(encoded) + encoded


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        OSError: It is gone, or cannot be read.
        ValueError: It is torn or damaged, or of another format.
    """
    checksum, _, encoded = path.read_bytes().partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(encoded):
        raise ValueError(f"{path} is torn or damaged")
    manifest: dict[str, Any] = orjson.loads(encoded)
    if manifest["format"] not in READABLE:
        raise ValueError(f"{path} has format {manifest['format']}, this version reads {FORMAT}")
    return manifest


def layout_metadata(layout: Layout) -> dict[bytes, bytes]:
    """Return what a file's schema says of the layout of its rows."""
    return {
        _LAYOUT_FILE: layout.file.serialize().to_pybytes(),
        _LAYOUT_PARTITION: layout.partition.serialize().to_pybytes(),
        _LAYOUT_NAMES: orjson.dumps([layout.fingerprint, layout.key, layout.unreadable]),
    }


def map_rows(segments: Path, file: File) -> pa.Table:
    """Map a file of rows."""
    return pa.ipc.open_file(pa.memory_map(str(segments / file.name))).read_all()


def map_asset_state(segments: Path, asset: Mapping[str, Any]) -> tuple[AssetState, list[tuple[pa.Table, File]]]:
    """Map the rows of one asset of a manifest.

    Returns:
        The state, and each of its tables of rows with its file.
    """
    found = list(_map_segments(segments, asset["segments"]))
    mapped = [(segment.rows, file) for segment, file in found]
    others = []
    schemas = (ABSENT_SCHEMA, FILELESS_SCHEMA, CONSOLIDATED_SCHEMA)
    for name, schema in zip(OTHER_ROWS, schemas, strict=True):
        if asset.get(name):
            file = File(**asset[name])
            mapped.append((map_rows(segments, file), file))
        others.append(mapped[-1][0] if asset.get(name) else schema.empty_table())
    absent, fileless, consolidated = others
    segments_found = tuple(segment for segment, _ in found)
    view = _read_view(asset.get("view"))
    return AssetState(segments_found, absent, fileless, asset["wiped_at_us"], consolidated, view), mapped


def encode_view(published: PublishedView | None) -> dict[str, Any] | None:
    """Return the view of an asset as manifests have it."""
    if published is None:
        return None
    told = {"event_id": published.event_id, "at_us": published.at_us, "run_id": published.run_id}
    return {**told, "record": view_entry(published.view)}


def _read_view(entry: Mapping[str, Any] | None) -> PublishedView | None:
    if entry is None:
        return None
    return PublishedView(entry["event_id"], entry["at_us"], entry["run_id"], read_view(entry["record"]))


def files_of(asset: Mapping[str, Any]) -> list[File]:
    """Return the files that hold the rows of one asset of a manifest."""
    entries = [entry["file"] for entry in asset["segments"]] + [asset.get(name) for name in OTHER_ROWS]
    return [File(**entry) for entry in entries if entry]


def snapshot_folder(settings: Settings, event_log: EventLog) -> Path | None:
    """Return the folder for the snapshots of an event log, or None to keep none.

    The folder that was named is not looked at. The cache folder is made, for the user alone; without it everything
    works, only slower, so what stands against it is logged.

    Raises:
        EventLogError: The event log cannot be read.
    """
    if settings.state_dir is not None:
        return None if settings.state_dir == NO_STATE else Path(settings.state_dir)
    if settings.cache_dir is None:
        return None
    what = (event_log.identity(), settings.environment, settings.metadata_keys)
    ours = Path(settings.cache_dir, "dagfusion")
    folder = ours / hashlib.sha256("\x00".join(what).encode()).hexdigest()[:16]
    try:
        ours.parent.mkdir(parents=True, exist_ok=True)
        for private in (ours, folder, folder / "segments"):
            private.mkdir(0o700, exist_ok=True)
    except OSError as error:
        _log.warning(
            "every start reads the whole event log, since the catalog's snapshot cannot be kept: %s; "
            "name a folder in DAGFUSION_STATE_DIR, or set it to %s",
            error,
            NO_STATE,
        )
        return None
    return folder


class MappedCatalog:
    """Follows the state folder of a `LiveCatalog` in another process. Not thread-safe.

    Tables that did not change are the same objects from one generation to the next, and files are mapped once. What
    they hold is believed: the process that wrote them has checked it.

    Args:
        folder: The `state_dir` of the catalog.
        environment: The first word of each schema's name.
    """

    def __init__(self, folder: Path, environment: str) -> None:
        self._folder = folder
        self._snapshot = Snapshot(-1, environment)
        self._entries: Mapping[AssetKey, Any] = {}

    def at(self, generation: int) -> Snapshot:
        """Return this generation, or a later one.

        Raises:
            SnapshotError: It does not appear within two seconds, or is damaged.
        """
        deadline = time.monotonic() + _WAIT_S
        while self._snapshot.generation < generation:
            try:
                self._follow()
            except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
                # The next generation may have replaced this one between the look and the opening.
                if time.monotonic() > deadline:
                    raise SnapshotError(f"the catalog's snapshot cannot be used: {error!r}") from error
            if self._snapshot.generation < generation:
                if time.monotonic() > deadline:
                    raise SnapshotError(f"generation {generation} of the catalog did not appear in its state folder")
                time.sleep(_LOOK_S)
        return self._snapshot

    def _follow(self) -> None:
        """Map the latest generation."""
        paths = manifest_paths(self._folder)
        if not paths:
            return
        manifest = read_manifest(paths[-1])
        generation = manifest["generation"]
        if generation <= self._snapshot.generation:
            return
        entries = {tuple(asset["key"]): asset for asset in manifest["assets"]}
        changed: dict[AssetKey, AssetState] = {}
        for key, asset in entries.items():
            if asset != self._entries.get(key):
                changed[key], _ = map_asset_state(self._folder / "segments", asset)
        self._snapshot = _next_snapshot(self._snapshot, generation, changed, self._entries.keys() - entries.keys())
        self._entries = entries


def _map_segments(segments: Path, entries: list[Mapping[str, Any]]) -> Iterator[tuple[Segment, File]]:
    for entry in entries:
        file = File(**entry["file"])
        rows = map_rows(segments, file)
        metadata = rows.schema.metadata
        fingerprint, key, unreadable = orjson.loads(metadata[_LAYOUT_NAMES])
        columns, partition = _schema(metadata[_LAYOUT_FILE]), _schema(metadata[_LAYOUT_PARTITION])
        layout = Layout(columns, partition, fingerprint, key, tuple(map(tuple, unreadable)))
        yield Segment(layout, rows.replace_schema_metadata(None), tuple(entry["dropped"])), file


def _schema(serialized: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(serialized))


def _next_snapshot(
    before: Snapshot, generation: int, changed: Mapping[AssetKey, AssetState], gone: set[AssetKey]
) -> Snapshot:
    """Return the next generation, in which tables are the same objects where their assets did not change."""
    if not changed and not gone:
        return replace(before, generation=generation)
    kept = {key: state for key, state in before.asset_states.items() if key not in gone}
    tables = {name: table for name, table in before.tables.items() if table.asset_key not in gone}
    return replace(with_asset_states(replace(before, tables=tables, asset_states=kept), changed), generation=generation)

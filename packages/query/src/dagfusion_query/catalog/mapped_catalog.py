"""Generations on disk: the folder, the manifests, mapped segments, and a catalog that reads generations from there."""

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from dagfusion_client.errors import SnapshotError
from dagfusion_query.catalog.fold import with_asset_states
from dagfusion_query.catalog.manifest import File, decode_asset, decode_manifest
from dagfusion_query.catalog.model import AssetState, Snapshot
from dagfusion_query.event_log.event_log_interface import AssetKey, EventLog
from dagfusion_query.settings import NO_STATE, Settings

_log = logging.getLogger(__name__)
_WAIT_S = 2.0
_LOOK_S = 0.02


def manifest_paths(folder: Path) -> list[Path]:
    """Return the manifests in a state folder, oldest first."""
    return sorted(folder.glob(f"manifest-{'[0-9]' * 20}.json"))


def manifest_path(folder: Path, generation: int) -> Path:
    """Return where a generation's manifest goes."""
    return folder / f"manifest-{generation:020d}.json"


def generation_of(path: Path) -> int:
    """Return the generation in a manifest's name."""
    return int(path.stem.rpartition("-")[2])


def snapshot_folder(settings: Settings, event_log: EventLog) -> Path | None:
    """Return the folder for the snapshots of an event log, or None to keep none.

    The folder that was named is not looked at. The cache folder is made, for the user alone; without it everything
    works, only slower, so what stands against it is logged.

    Raises:
        EventLogError: The event log cannot be read.
    """
    ours = settings.state_folder()
    if ours is None or settings.state_dir is not None:
        return ours
    what = (event_log.identity(), settings.environment, settings.metadata_keys)
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


def map_rows(segments: Path, file: File) -> pa.Table:
    """Map a file of rows: a table of the schema that it was written with, in memory that other processes share."""
    return pa.ipc.open_file(pa.memory_map(str(segments / file.name))).read_all()


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
        """Return this generation, or a later one where its manifest was removed.

        Raises:
            SnapshotError: It does not appear within two seconds, or is damaged.
        """
        deadline = time.monotonic() + _WAIT_S
        while self._snapshot.generation < generation:
            try:
                self._follow(generation)
            except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
                # The next generation may have replaced this one between the look and the opening.
                if time.monotonic() > deadline:
                    raise SnapshotError(f"the catalog's snapshot cannot be used: {error!r}") from error
            if self._snapshot.generation < generation:
                if time.monotonic() > deadline:
                    raise SnapshotError(f"generation {generation} of the catalog did not appear in its state folder")
                time.sleep(_LOOK_S)
        return self._snapshot

    def _follow(self, wanted: int) -> None:
        """Map a generation, or the latest, which another process may have written."""
        path = manifest_path(self._folder, wanted)
        if not path.exists():
            paths = manifest_paths(self._folder)
            if not paths:
                return
            path = paths[-1]
        manifest = decode_manifest(path.read_bytes(), path)
        generation = manifest["generation"]
        if generation <= self._snapshot.generation:
            return
        entries = {tuple(asset["key"]): asset for asset in manifest["assets"]}
        changed: dict[AssetKey, AssetState] = {}
        for key, asset in entries.items():
            if asset != self._entries.get(key):
                changed[key], _ = decode_asset(asset, partial(map_rows, self._folder / "segments"))
        self._snapshot = _next_snapshot(self._snapshot, generation, changed, self._entries.keys() - entries.keys())
        self._entries = entries


def _next_snapshot(
    before: Snapshot, generation: int, changed: Mapping[AssetKey, AssetState], gone: set[AssetKey]
) -> Snapshot:
    """Return the next generation, in which tables are the same objects where their assets did not change."""
    if not changed and not gone:
        return replace(before, generation=generation)
    states = {key: state for key, state in before.asset_states.items() if key not in gone}
    tables = {name: table for name, table in before.tables.items() if table.asset_key not in gone}
    return replace(
        with_asset_states(replace(before, tables=tables, asset_states=states), changed), generation=generation
    )

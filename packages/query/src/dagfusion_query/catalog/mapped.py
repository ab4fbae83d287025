"""A catalog that another process keeps: its snapshots on disk, mapped, one generation after another."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from dagfusion_query.catalog.fold import with_ledgers
from dagfusion_query.catalog.manifest import manifest_paths, map_ledger, read_manifest
from dagfusion_query.catalog.model import Ledger, Snapshot
from dagfusion_query.errors import SnapshotError
from dagfusion_query.event_log.protocol import AssetKey

_WAIT_S = 2.0
_LOOK_S = 0.02


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
        changed: dict[AssetKey, Ledger] = {}
        for key, asset in entries.items():
            if asset != self._entries.get(key):
                changed[key], _ = map_ledger(self._folder / "segments", asset)
        self._snapshot = _next(self._snapshot, generation, changed, self._entries.keys() - entries.keys())
        self._entries = entries


def _next(before: Snapshot, generation: int, changed: Mapping[AssetKey, Ledger], gone: set[AssetKey]) -> Snapshot:
    """Return the next generation, in which tables are the same objects where their assets did not change."""
    if not changed and not gone:
        return replace(before, generation=generation)
    kept = {key: ledger for key, ledger in before.ledgers.items() if key not in gone}
    tables = {name: table for name, table in before.tables.items() if table.asset_key not in gone}
    return replace(with_ledgers(replace(before, tables=tables, ledgers=kept), changed), generation=generation)

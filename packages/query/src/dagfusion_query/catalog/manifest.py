"""A generation on disk: its folder, the manifest that names its segments, and the segments as they are mapped."""

import hashlib
import logging
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from dagfusion_contract.record import Layout
from dagfusion_query.catalog.model import ABSENT_SCHEMA, FILELESS_SCHEMA, Ledger, Segment
from dagfusion_query.event_log.protocol import EventLog
from dagfusion_query.settings import NO_STATE, Settings

FORMAT = 4
_LAYOUT_FILE, _LAYOUT_PARTITION, _LAYOUT_NAMES = b"dagfusion.file", b"dagfusion.partition", b"dagfusion.layout"


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
    """Return the generation that a manifest's name tells."""
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
    if manifest["format"] != FORMAT:
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


def map_ledger(segments: Path, asset: Mapping[str, Any]) -> tuple[Ledger, list[tuple[pa.Table, File]]]:
    """Map the rows of one asset of a manifest.

    Returns:
        The ledger, and each of its tables of rows with its file.
    """
    found = list(_map_segments(segments, asset["segments"]))
    mapped = [(segment.rows, file) for segment, file in found]
    others = []
    for name, schema in (("absent", ABSENT_SCHEMA), ("fileless", FILELESS_SCHEMA)):
        if asset[name]:
            file = File(**asset[name])
            mapped.append((map_rows(segments, file), file))
        others.append(mapped[-1][0] if asset[name] else schema.empty_table())
    absent, fileless = others
    return Ledger(tuple(segment for segment, _ in found), absent, fileless, asset["wiped_at_us"]), mapped


def files_of(asset: Mapping[str, Any]) -> list[File]:
    """Return the files that hold the rows of one asset of a manifest."""
    entries = [entry["file"] for entry in asset["segments"]] + [asset["absent"], asset["fileless"]]
    return [File(**entry) for entry in entries if entry]


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


_log = logging.getLogger(__name__)


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

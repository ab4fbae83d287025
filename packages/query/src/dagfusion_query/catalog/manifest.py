"""The manifest of a generation: which files have the rows of each asset, and the cursor they belong to."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import pyarrow as pa

from dagfusion_contract.record import Layout
from dagfusion_contract.view import read_view, view_entry
from dagfusion_query.catalog.model import (
    ABSENT_SCHEMA,
    CONSOLIDATED_SCHEMA,
    FILELESS_SCHEMA,
    AssetState,
    PublishedView,
    Segment,
)
from dagfusion_query.event_log.event_log_interface import AssetKey, Cursor, Watermark

FORMAT = 8
READABLE = (4, 5, 6, 7, FORMAT)  # 4 has no consolidations, 5 no views, 6 no tombstones, 7 no `has_field_ids`
OTHER_ROWS = ("absent", "fileless", "consolidated")  # of an asset, beside its segments
_LAYOUT_FILE, _LAYOUT_PARTITION, _LAYOUT_NAMES = b"dagfusion.file", b"dagfusion.partition", b"dagfusion.layout"


@dataclass(frozen=True)
class File:
    """A file of rows, as the manifest names it."""

    name: str
    size: int
    checksum: int


def encode_manifest(body: Mapping[str, Any]) -> bytes:
    """Return a manifest as it is stored: a checksum, and the rest as JSON."""
    encoded = orjson.dumps({"format": FORMAT, **body})
    return b"%08x\n" % zlib.crc32(encoded) + encoded


def decode_manifest(stored: bytes, where: object) -> dict[str, Any]:
    """Read a manifest.

    Args:
        stored: What `encode_manifest` returned.
        where: Where it was, for errors.

    Raises:
        ValueError: The manifest is incomplete, damaged or of another format.
    """
    checksum, _, encoded = stored.partition(b"\n")
    if checksum != b"%08x" % zlib.crc32(encoded):
        raise ValueError(f"{where} is torn or damaged")
    manifest: dict[str, Any] = orjson.loads(encoded)
    if manifest["format"] not in READABLE:
        raise ValueError(f"{where} has format {manifest['format']}, this version reads {FORMAT}")
    return manifest


def encode_asset(
    asset_key: AssetKey, state: AssetState, place: Callable[[pa.Table, Layout | None], File]
) -> dict[str, Any]:
    """Return one asset of a manifest.

    Args:
        asset_key: The asset.
        state: Its state.
        place: Returns the file that has a table of rows: those of a segment (`files_schema`) with its layout, or
            another table of `AssetState` with None.
    """
    segments = [
        {"file": asdict(place(segment.rows, segment.layout)), "dropped": segment.dropped} for segment in state.segments
    ]
    asset: dict[str, Any] = {"key": asset_key, "wiped_at_us": state.wiped_at_us, "segments": segments}
    asset["view"] = encode_view(state.view)
    for name in OTHER_ROWS:
        rows = getattr(state, name)
        asset[name] = asdict(place(rows, None)) if rows.num_rows else None
    return asset


def encode_cursor(cursor: Cursor) -> dict[str, Any]:
    """Return a cursor as manifests have it."""
    watermark = cursor.watermark
    return {
        "settled": watermark.settled,
        "count": watermark.count,
        "total": str(watermark.total),
        "seen": sorted(watermark.seen),
        "assets": cursor.assets,
        "rows": dict(cursor.rows),
        "top": cursor.top,
    }


def decode_cursor(at: Mapping[str, Any]) -> Cursor:
    """Read a cursor of a manifest."""
    watermark = Watermark(at["settled"], at["count"], int(at["total"]), frozenset(at["seen"]))
    return Cursor(watermark, at["assets"], top=at["top"], rows=at.get("rows", {}))


def layout_metadata(layout: Layout) -> dict[bytes, bytes]:
    """Return what a file's schema says of the layout of its rows."""
    return {
        _LAYOUT_FILE: layout.file.serialize().to_pybytes(),
        _LAYOUT_PARTITION: layout.partition.serialize().to_pybytes(),
        _LAYOUT_NAMES: orjson.dumps([layout.fingerprint, layout.key, layout.unreadable]),
    }


def decode_asset(
    asset: Mapping[str, Any], read: Callable[[File], pa.Table]
) -> tuple[AssetState, list[tuple[pa.Table, File]]]:
    """Read the rows of one asset of a manifest.

    Args:
        asset: What `encode_asset` returned.
        read: Reads a file.

    Returns:
        The state, and each of its tables of rows with its file.
    """
    found = list(_decode_segments(asset["segments"], read))
    mapped = [(segment.rows, file) for segment, file in found]
    others = []
    schemas = (ABSENT_SCHEMA, FILELESS_SCHEMA, CONSOLIDATED_SCHEMA)
    for name, schema in zip(OTHER_ROWS, schemas, strict=True):
        if asset.get(name):
            file = File(**asset[name])
            mapped.append((read(file), file))
        others.append(_completed(mapped[-1][0], schema) if asset.get(name) else schema.empty_table())
    absent, fileless, consolidated = others
    segments_found = tuple(segment for segment, _ in found)
    view = _read_view(asset.get("view"))
    return AssetState(segments_found, absent, fileless, asset["wiped_at_us"], consolidated, view), mapped


def _completed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with the columns that older formats do not have: only `has_field_ids`, which was false then."""
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.repeat(pa.scalar(False), len(rows)))  # noqa: FBT003
    return rows


def encode_view(published: PublishedView | None) -> dict[str, Any] | None:
    """Return the view of an asset as manifests have it."""
    if published is None:
        return None
    entry = {"event_id": published.event_id, "at_us": published.at_us, "run_id": published.run_id}
    return {**entry, "record": view_entry(published.view)}


def _read_view(entry: Mapping[str, Any] | None) -> PublishedView | None:
    if entry is None:
        return None
    return PublishedView(entry["event_id"], entry["at_us"], entry["run_id"], read_view(entry["record"]))


def files_of(asset: Mapping[str, Any]) -> list[File]:
    """Return the files that hold the rows of one asset of a manifest."""
    entries = [entry["file"] for entry in asset["segments"]] + [asset.get(name) for name in OTHER_ROWS]
    return [File(**entry) for entry in entries if entry]


def _decode_segments(
    entries: Sequence[Mapping[str, Any]], read: Callable[[File], pa.Table]
) -> Iterator[tuple[Segment, File]]:
    for entry in entries:
        file = File(**entry["file"])
        rows = read(file)
        metadata = rows.schema.metadata
        fingerprint, key, unreadable = orjson.loads(metadata[_LAYOUT_NAMES])
        columns, partition = _schema(metadata[_LAYOUT_FILE]), _schema(metadata[_LAYOUT_PARTITION])
        layout = Layout(columns, partition, fingerprint, key, tuple(map(tuple, unreadable)))
        yield Segment(layout, rows.replace_schema_metadata(None), tuple(entry["dropped"])), file


def _schema(serialized: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(serialized))

"""What can write the manifests that the service writes. It needs fastavro, of the dependency group `bench`."""

import io
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntry, write_manifest
from pyiceberg.table import Table

from benchmarks.dataset import TABLE, Dataset
from dagfusion_contract.naming import TableName
from dagfusion_interop.iceberg.iceberg_manifest import ManifestEncoder
from dagfusion_interop.iceberg.iceberg_schema import iceberg_schema
from dagfusion_query.catalog.model import layouts_of
from dagfusion_query.connection import connect_embedded

_BLOCK = 128  # entries, as the service has at most


def writers(data: Dataset, table: Table, folder: Path) -> Mapping[str, Callable[[], bytes]]:
    """Return functions that each write all entries of a table into one manifest.

    Args:
        data: The data set.
        table: The same as PyIceberg has it.
        folder: For the files that PyIceberg writes.
    """
    with connect_embedded(settings=data.place.variables) as connection:
        snapshot = connection.snapshot
    own = snapshot.tables[TableName(*TABLE.split("."))]
    schema = iceberg_schema(own, layouts_of(own, snapshot.asset_states[own.asset_key]))
    write = partial(_by_dagfusion, own.files, ManifestEncoder(schema))
    reader = fastavro.reader(io.BytesIO(write()))
    parsed, records = fastavro.parse_schema(reader.writer_schema), list(reader)
    current = table.current_snapshot()
    assert current is not None
    entries = [entry for file in current.manifests(table.io) for entry in file.fetch_manifest_entry(table.io)]
    return {
        "DagFusion": write,
        "fastavro": partial(_by_fastavro, parsed, records),
        "PyIceberg": partial(_by_pyiceberg, table, entries, folder / "manifest.avro"),
    }


def paths(manifest: bytes) -> list[str]:
    """Return the objects that a manifest names, sorted."""
    entries: Iterable[Any] = fastavro.reader(io.BytesIO(manifest))
    return sorted(entry["data_file"]["file_path"] for entry in entries)


def _by_dagfusion(files: pa.Table, encoder: ManifestEncoder) -> bytes:
    ends = [*range(_BLOCK, len(files), _BLOCK), len(files)]
    return encoder.manifest([*encoder.blocks(files, ends)]).content


def _by_fastavro(schema: Any, records: list[Any]) -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, schema, records, codec="deflate", codec_compression_level=6)
    return out.getvalue()


def _by_pyiceberg(table: Table, entries: list[ManifestEntry], file: Path) -> bytes:
    file.unlink(missing_ok=True)
    output = PyArrowFileIO().new_output(str(file))
    with write_manifest(2, table.spec(), table.schema(), output, 1, "deflate") as writer:
        for entry in entries:
            writer.add_entry(entry)
    return file.read_bytes()

"""The service's Iceberg catalog of the data set, and what else can write the manifests that it writes."""

import contextlib
import io
import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import obstore
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import ManifestEntry, write_manifest
from pyiceberg.table import Table

from benchmarks import service
from benchmarks.dataset import TABLE, Dataset, Place
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import layouts_of
from dagfusion_query.connection import connect_embedded
from dagfusion_query.iceberg.iceberg_manifest import encode_manifest_file
from dagfusion_query.iceberg.iceberg_schema import iceberg_schema

METADATA = "_iceberg_bench"


@dataclass(frozen=True)
class Catalog:
    """A running catalog.

    Attributes:
        url: What its clients are given.
        first_s: What the first request for the table took, when no metadata was there, in seconds.
    """

    url: str
    first_s: float

    def load(self) -> tuple[float, str]:
        """Request the table, and return how many seconds that took and where its metadata is."""
        return _load(self.url)


@contextlib.contextmanager
def serving(data: Dataset, folder: Path) -> Iterator[Catalog]:
    """Run the service with a catalog in the data set's bucket; its metadata is deleted at the end."""
    settings = {
        **service.NO_RESULTS,
        "DAGFUSION_ICEBERG_METADATA": f"s3://{data.place.bucket}/{METADATA}",
        "DAGFUSION_ICEBERG_CREDENTIALS": "keys",
    }
    _delete_metadata(data.place)  # of a run that was killed
    try:
        with service.serving(data.place.variables, folder, settings) as server:
            url = f"{server.http}/iceberg"
            yield Catalog(url, _load(url)[0])
    finally:
        _delete_metadata(data.place)


def _load(url: str) -> tuple[float, str]:
    namespace, _, name = TABLE.partition(".")
    started = time.perf_counter()
    with urllib.request.urlopen(f"{url}/v1/namespaces/{namespace}/tables/{name}") as response:  # noqa: S310  # http
        content = response.read()
    return time.perf_counter() - started, str(json.loads(content)["metadata-location"])


def _delete_metadata(place: Place) -> None:
    store = place.store()
    obstore.delete(store, [meta["path"] for batch in obstore.list(store, f"{METADATA}/") for meta in batch])


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
    reader = fastavro.reader(io.BytesIO(encode_manifest_file(own.files, schema).content))
    parsed, records = fastavro.parse_schema(reader.writer_schema), list(reader)
    current = table.current_snapshot()
    assert current is not None
    entries = [entry for file in current.manifests(table.io) for entry in file.fetch_manifest_entry(table.io)]
    return {
        "DagFusion": lambda: encode_manifest_file(own.files, schema).content,
        "fastavro": partial(_by_fastavro, parsed, records),
        "PyIceberg": partial(_by_pyiceberg, table, entries, folder / "manifest.avro"),
    }


def paths(manifest: bytes) -> list[str]:
    """Return the objects that a manifest names, sorted."""
    entries: Iterable[Any] = fastavro.reader(io.BytesIO(manifest))
    return sorted(entry["data_file"]["file_path"] for entry in entries)


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

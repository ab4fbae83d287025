"""A lake whose objects are in a real store, behind a proxy that records requests."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_contract.record import DataFile
from dagfusion_query.engine.engine import Engine
from dagfusion_query.event_log.event_log_interface import Materialization
from dagfusion_query.object_store import open_store
from dagfusion_query.settings import Settings
from dagfusion_stack import object_store
from dagfusion_stack.object_store import ObjectStore
from tests.e2e.wire import Recorded, recording
from tests.query.engine.conftest import Lake, _field, _statistics

BUCKET = "lake"
T = "local_default.t"
SUM = f"SELECT sum(x + 0) AS n FROM {T}"


class StoredLake(Lake):
    """A lake in a bucket; `put` writes an object and tells the catalog, or not."""

    def __init__(self, root: Path, server: ObjectStore, endpoint: str, **settings: Any) -> None:
        super().__init__(root)
        self.engine.close()
        variables = {**server.environ(), "AWS_ENDPOINT_URL": endpoint, "DAGFUSION_EVENT_LOG": "-"}
        self.settings = replace(Settings.read(variables), state_dir=str(root / "state"), **settings)
        self.engine = Engine(self.settings)
        self._store = open_store(f"s3://{BUCKET}/", self.settings, connect_timeout="5s", timeout="30s")
        self._prefix = root.name

    def put(self, name: str, rows: pa.Table, *, logged: bool = True, **changes: Any) -> Materialization:
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="none", use_dictionary=False)
        content = sink.getvalue().to_pybytes()
        key = f"{self._prefix}/{changes.pop('file', f'p={name}/data.parquet')}"
        put = obstore.put(self._store, key, content)
        number = next(self._ids)
        record = {
            "version": 1,
            "uri": f"s3://{BUCKET}/{key}",
            "size_bytes": len(content),
            "etag": put["e_tag"],
            "checksum": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "modified": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "rows": rows.num_rows,
            "partition": [{"name": "p", "type": "string", "value": name}],
            "schema": {"fingerprint": str(rows.schema), "fields": [_field(field) for field in rows.schema]},
            "columns": {name: _statistics(rows[name]) for name in rows.column_names},
            **changes,
        }
        at_us = int(datetime.now(UTC).timestamp() * 1e6)
        event = Materialization(("t",), number, name, at_us, "run", self._reader.read(record))
        if logged:
            self.fold([event])
        return event


@pytest.fixture(scope="module")
def server(server_folder: Callable[[str], Path]) -> Iterator[ObjectStore]:
    with object_store.running(server_folder("s3"), buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
def wire(server: ObjectStore) -> Iterator[Recorded]:
    with recording(server.endpoint) as recorded:
        yield recorded


@pytest.fixture
def stored(tmp_path: Path, server: ObjectStore, wire: Recorded) -> Iterator[Callable[..., StoredLake]]:
    made: list[StoredLake] = []

    def make(**settings: Any) -> StoredLake:
        made.append(StoredLake(tmp_path, server, wire.endpoint, **settings))
        return made[-1]

    yield make
    for lake in made:
        lake.engine.close()


def numbers(start: int, count: int = 10) -> pa.Table:
    return pa.table({"x": pa.array(range(start, start + count), pa.int64())})


def flipped(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << position % 8
    return bytes(changed)


def written(event: Materialization) -> DataFile:
    """The record of an object that was put."""
    assert isinstance(event.file, DataFile)
    return event.file

"""A table of 64 partitions with a large object of all of them, in a real store."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import obstore
import pyarrow as pa
import pytest

from dagfusion_contract.consolidation import LargeObject, consolidated_entry, read_consolidated, utc_text
from dagfusion_contract.record import schema_entry
from dagfusion_pipeline.large_files import LargeFile, PartitionRows, with_partition
from dagfusion_query.event_log.event_log_interface import Consolidation
from dagfusion_query.scan import copied_objects, large_objects
from tests.query.engine.stored_lake import BUCKET, SUM, StoredLake, numbers

PARTITIONS, ROWS = 64, 400
OBJECT_BYTES, BLOCK_BYTES = 10_000, 5_000  # of a large object of about 40 KB
EXPECTED = [{"n": sum(sum(range(n, n + ROWS)) for n in range(PARTITIONS))}]
FEW = f"{SUM} WHERE p < '16'"
EXPECTED_FEW = [{"n": sum(sum(range(n, n + ROWS)) for n in range(16))}]


class Large(NamedTuple):
    """A large object in the bucket."""

    key: str
    size: int
    blocks: int

    @property
    def request(self) -> str:
        return f"GET /{BUCKET}/{self.key}"


def consolidated(
    lake: StoredLake, folder: Path, groups: int = 8, change: Callable[[bytes], bytes] = lambda content: content
) -> Large:
    """Write 64 partitions, and a large object of all of them with so many row groups; `change` damages it."""
    partition = pa.schema({"p": pa.string()})
    large = LargeFile(folder / "large.parquet", "zstd", group_rows=PARTITIONS * ROWS // groups)
    for number in range(PARTITIONS):
        event = lake.put(f"{number:02}", numbers(number, ROWS))
        one = with_partition(numbers(number, ROWS), partition, [pa.scalar(f"{number:02}")])
        large.add(PartitionRows(event.event_id, event.at_us, one))
    held = tuple(large.finish())
    assert len(held) == groups
    content, key = change((folder / "large.parquet").read_bytes()), f"{folder.name}/_consolidated/large.parquet"
    etag = obstore.put(lake._store, key, content)["e_tag"]
    checksum, now = f"sha256:{hashlib.sha256(content).hexdigest()}", datetime.now(UTC)
    logged = schema_entry(large.schema or pa.schema([]))
    entry = LargeObject(f"s3://{BUCKET}/{key}", len(content), etag, checksum, utc_text(now), [], logged, held)
    read = read_consolidated(consolidated_entry([entry]))
    lake.fold([Consolidation(("t",), next(lake._ids), int(now.timestamp() * 1e6), "", read)])
    return Large(key, len(content), len({group.offset // BLOCK_BYTES for group in held}))


def explained(lake: StoredLake, sql: str = SUM) -> str:
    """Return the places that a statement would read its objects from."""
    (scan,) = lake.engine.explain(lake.prepare(sql)).scans
    return scan.sources


def copies(lake: StoredLake) -> list[Path]:
    return list(Path(lake.settings.state_dir or "", "objects").glob("objects/*/*"))


@pytest.fixture
def by_block(stored: Callable[..., StoredLake], monkeypatch: pytest.MonkeyPatch) -> Callable[[], StoredLake]:
    """Lakes that copy large objects by block."""
    monkeypatch.setattr(copied_objects, "COPIED_BYTES", OBJECT_BYTES)
    monkeypatch.setattr(large_objects, "BLOCK_BYTES", BLOCK_BYTES)
    return lambda: stored(object_cache_object_bytes=OBJECT_BYTES)

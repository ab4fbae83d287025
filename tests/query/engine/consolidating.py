"""Consolidations of a lake's partitions, written as the pipeline writes them."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dagfusion_contract.consolidation import LargeObject, consolidated_entry, read_consolidated
from dagfusion_contract.record import schema_entry
from dagfusion_pipeline.large_files import LargeFile, PartitionRows, with_partition
from dagfusion_query.catalog.model import Table
from dagfusion_query.event_log.event_log_interface import Consolidation
from tests.query.engine.conftest import local_etag

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_numbers = itertools.count()


def consolidate(lake: Any, table: Table, rng: Random, *, share: float = 1.0, group_rows: int = 40) -> int:
    """Write some of a table's partitions into large objects of random sizes, and fold the event.

    Returns:
        The number of objects.
    """
    state = lake.snapshot.asset_states[table.asset_key]
    objects: list[LargeObject] = []
    for segment in state.segments:
        live = pa.concat_tables(segment.live())
        values = live["partition"].to_pylist()
        fit = [number for number, row in enumerate(values) if None not in row.values()]
        chosen = [number for number in fit if rng.random() < share]
        rng.shuffle(chosen)
        while chosen:
            count = rng.choice([len(chosen), rng.randrange(1, len(chosen) + 1)])
            some, chosen = chosen[:count], chosen[count:]
            if (one := write_large(lake.root, live, some, segment.layout.partition, group_rows)) is not None:
                path = Path(one.uri.removeprefix("file://"))
                objects.append(replace(one, etag=local_etag(path)) if lake.with_etags else one)
    log(lake, table, objects)
    return len(objects)


def log(lake: Any, table: Table, objects: Sequence[LargeObject]) -> None:
    """Fold the event of a consolidation."""
    read = read_consolidated(consolidated_entry(objects))
    at_us = (datetime.now(UTC) - EPOCH) // timedelta(microseconds=1)
    lake.fold([Consolidation(table.asset_key, next(lake._ids), at_us, "", read)])


def write_large(root: Path, files: pa.Table, numbers: Sequence[int], partition: pa.Schema, group_rows: int) -> Any:
    """Write the partitions with these numbers into one large object; None where they have no row."""
    path = root / "large" / f"{next(_numbers)}.parquet"
    path.parent.mkdir(exist_ok=True)
    large = LargeFile(path, "zstd", group_rows=group_rows)
    for number in numbers:
        row = files.slice(number, 1)
        rows = pq.ParquetFile(row["uri"][0].as_py().removeprefix("file://")).read()
        values = row["partition"].combine_chunks().flatten()
        scalars = [value[0] for value in values]
        at_us = row["materialized_at"].cast(pa.int64())[0].as_py()
        large.add(PartitionRows(row["event_id"][0].as_py(), at_us, with_partition(rows, partition, scalars)))
    groups = large.finish()
    if not groups:
        return None
    return LargeObject(
        f"file://{path}",
        path.stat().st_size,
        None,
        None,
        "2024-01-15T12:00:00Z",
        [],
        schema_entry(large.schema or pa.schema([])),
        tuple(groups),
    )

"""An asset whose partitions are rewritten all the time, as objects of equal size, each row full of its version."""

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa

from dagfusion_pipeline import PartitionedS3ParquetIOManager

PARTITIONS = tuple("abcdef")
ROWS = 4000
TABLE = "local_default.rewritten"
FIRST = 1_000_000  # versions have as many digits, and so as many bytes


def frame(version: int) -> pa.Table:
    """All partitions in one version: `x`, `y` and `name` are the version, and `noise` fills pages."""
    count = len(PARTITIONS) * ROWS
    noise = np.random.default_rng(0).integers(0, 1 << 62, count)  # the same in all versions
    return pa.table(
        {
            "partition": np.repeat(PARTITIONS, ROWS),
            "x": np.full(count, version),
            "noise": noise,
            "y": np.full(count, version),
            "name": np.full(count, str(version)),
        }
    )


def materialize(instance: dg.DagsterInstance, fields: Mapping[str, Any], version: int) -> None:
    """Write all partitions in one run."""
    partitions = dg.StaticPartitionsDefinition(PARTITIONS)

    @dg.asset(partitions_def=partitions)
    def rewritten() -> pa.Table:
        return frame(version)

    result = dg.materialize(
        [rewritten],
        instance=instance,
        resources={"io_manager": PartitionedS3ParquetIOManager(**fields)},
        tags={
            "dagster/asset_partition_range_start": PARTITIONS[0],
            "dagster/asset_partition_range_end": PARTITIONS[-1],
        },
    )
    assert result.success


@contextmanager
def rewriting(home: Path, fields: Mapping[str, Any]) -> Iterator[Any]:
    """Rewrite the asset in a process of its own for the length of a `with` block; gives the number of versions."""
    spawn = multiprocessing.get_context("spawn")
    stop, versions = spawn.Event(), spawn.Value("q", 0)
    writer = spawn.Process(target=_rewrite, args=(home, dict(fields), stop, versions))
    writer.start()
    try:
        while not versions.value and writer.is_alive():
            time.sleep(0.1)
        yield versions
    finally:
        stop.set()
        writer.join(60)
        code = writer.exitcode
        writer.close()
    assert code == 0, f"the writer ended with {code}"


def _rewrite(home: Path, fields: Mapping[str, Any], stop: Any, versions: Any) -> None:
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        while not stop.is_set():
            materialize(instance, fields, FIRST + 1 + versions.value)
            versions.value += 1

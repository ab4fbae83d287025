"""An asset with two dimensions of partitions, what its rows have to be, and consolidations of it in another process."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg
import pyarrow as pa

from dagfusion_pipeline import PartitionedS3ParquetIOManager, wipe_partitions
from dagfusion_pipeline.consolidate import Consolidated, consolidate_asset
from dagfusion_query.connection import EmbeddedConnection
from tests.e2e.lake import partition_range

STATES = ("AL", "CA", "NY")
DAYS = tuple(f"2024-01-{day:02}" for day in range(1, 13))
ROWS = 1500
TARGET_BYTES = 100_000  # some objects of four partitions and more, the fewest that are worth one
KEY = dg.AssetKey(["Silver", "readings"])
TABLE = "local_silver.readings"
PARTITIONS = dg.MultiPartitionsDefinition(
    {
        "date": dg.DailyPartitionsDefinition(DAYS[0], end_offset=0, end_date="2024-01-13"),
        "state": dg.StaticPartitionsDefinition(STATES),
    }
)


class Readings:
    """The asset in one store, and the version that each partition has."""

    def __init__(self, instance: dg.DagsterInstance, fields: Mapping[str, Any]) -> None:
        self.instance = instance
        self.manager = PartitionedS3ParquetIOManager(**fields)
        self.versions: dict[tuple[str, str], int] = {}
        self.newest = 0

    def write(self, states: Sequence[str], days: Sequence[str]) -> None:
        """Materialize a rectangle of partitions in the next version."""
        self.newest += 1
        version = self.newest

        @dg.asset(key=KEY, partitions_def=PARTITIONS, io_manager_key="hive")
        def readings(context: dg.AssetExecutionContext) -> pa.Table:
            keys = [dict(key.keys_by_dimension) for key in context.partition_keys]
            return pa.concat_tables(frame(key["state"], key["date"], version) for key in keys)

        result = dg.materialize(
            [readings],
            instance=self.instance,
            resources={"hive": self.manager},
            tags=partition_range(f"{days[0]}|{states[0]}", f"{days[-1]}|{states[-1]}"),
        )
        assert result.success
        self.versions |= {(state, day): version for state in states for day in days}

    def rewrite(self, rng: Random) -> None:
        """Write a random rectangle of partitions."""
        first, last = sorted(rng.choices(range(len(STATES)), k=2))
        start = rng.randrange(len(DAYS))
        self.write(STATES[first : last + 1], DAYS[start : start + rng.randint(1, 3)])

    def wipe(self) -> None:
        """Wipe the asset."""
        self.instance.wipe_assets([KEY])
        self.versions.clear()

    def wipe_partitions(self, rng: Random) -> None:
        """Wipe some partitions, some of which may have been wiped before."""
        wiped = [(rng.choice(STATES), rng.choice(DAYS)) for _ in range(rng.randint(1, 4))]
        wipe_partitions(self.instance, KEY, [f"{day}|{state}" for state, day in wiped])
        for partition in wiped:
            self.versions.pop(partition, None)

    def consolidate(self, run_id: str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", **changes: Any) -> Consolidated:
        """Consolidate outside of a run."""
        return consolidate_asset(
            self.instance, self.manager, KEY, run_id, self.instance.report_runless_asset_event, **changes
        )

    def check(self, connection: EmbeddedConnection, rng: Random) -> list[int]:
        """Compare answers with what was written; return for each query the partitions read from large objects."""
        connection.refresh()
        state, day = rng.choice(STATES), rng.choice(DAYS)
        wheres = ("true", f"state = '{state}'", f"date >= '{day}'", f"date = '{day}' AND x % 2 = 0", "version > 1")
        used = []
        for where in wheres:
            sql = (
                f"SELECT state, date, sum(x + 0) AS total, min(version + 0) AS least, max(version + 0) AS most "
                f"FROM {TABLE} WHERE {where} GROUP BY state, date"
            )
            found = {(row["state"], str(row["date"])): row for row in connection.sql(sql).to_arrow().to_pylist()}
            expected = {
                key: version
                for key, version in self.versions.items()
                if (where != wheres[1] or key[0] == state)
                and (where != wheres[2] or key[1] >= day)
                and (where != wheres[3] or key[1] == day)
                and (where != wheres[4] or version > 1)
            }
            seen = {key: (row["least"], row["most"]) for key, row in found.items()}
            wrong = {
                key: (seen.get(key), version) for key, version in expected.items() if seen.get(key) != (version,) * 2
            }
            assert not wrong, where
            assert seen.keys() == expected.keys(), where
            step = 2 if where == wheres[3] else 1
            assert {row["total"] for row in found.values()} <= {sum(range(0, ROWS, step))}
            used.append(sum(scan.consolidated for scan in connection.explain(sql).scans))
        return used


def frame(state: str, day: str, version: int) -> pa.Table:
    """The rows of a partition."""
    return pa.table(
        {
            "state": [state] * ROWS,
            "date": pa.array([day] * ROWS).cast(pa.date32()),
            "x": pa.array(range(ROWS), pa.int64()),
            "ratio": pa.array([float("nan") if number % 7 == 0 else number / 7 for number in range(ROWS)]),
            "version": pa.array([version] * ROWS, pa.int64()),
        }
    )


@contextmanager
def repeating(
    work: Callable[[Readings], object], home: Path, fields: Mapping[str, Any]
) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process that does some work again and again; it has begun when the context is entered."""
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_repeat, args=(work, str(home), dict(fields), started, os.getpid()))
    process.start()
    try:
        assert started.wait(120)
        yield process
    finally:
        process.kill()
        process.join()


def _repeat(work: Callable[[Readings], object], home: str, fields: dict[str, Any], started: Event, parent: int) -> None:
    with dg.DagsterInstance.from_config(home) as instance:
        readings = Readings(instance, fields)
        started.set()
        while os.getppid() == parent:
            work(readings)


def consolidate_small(readings: Readings) -> None:
    """Consolidate into objects of a few partitions."""
    readings.consolidate(target_bytes=TARGET_BYTES)

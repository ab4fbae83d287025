"""Clients that read while runs write the same partitions again: right rows; with stable names, or an error."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import dagster as dg
import polars as pl
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager
from tests.pipeline.written import key_range
from tests.server.doors.iceberg.lake import PATIENCE_S, Lake, rows_of

PLACES = ("a", "b", "c", "d")
REWRITES = 2
Rows = list[tuple[Any, ...]]
Read = Callable[[], Rows]
Rewrite = Callable[[int], None]
Plan = Callable[[], AbstractContextManager[Mapping[str, Read]]]
pytestmark = [
    pytest.mark.usefixtures("heavy"),
    pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning"),
]


def rewriting(
    lake: Lake, fields: Mapping[str, Any], name: str, naming: str, options: Mapping[str, Any] | None = None
) -> Rewrite:
    """Return what writes all partitions with n + 1 rows of the number n each: no two versions of an object are as long.

    Args:
        lake: The deployment.
        fields: Of the store.
        name: Of the asset.
        naming: Of its files.
        options: More of the IO manager.
    """
    settings: dict[str, Any] = {**fields, "prefix": "iceberg", "file_naming": naming, **(options or {})}
    manager = PartitionedS3ParquetIOManager(**settings)
    rows: list[int] = []

    @dg.asset(name=name, partitions_def=dg.StaticPartitionsDefinition([*PLACES]), metadata={"partition_expr": "place"})
    def made() -> pl.DataFrame:
        count = len(PLACES) * (rows[-1] + 1)
        texts = [str(number) * 7 for number in range(count)]
        return pl.DataFrame({"place": PLACES * (rows[-1] + 1), "n": [rows[-1]] * count, "text": texts})

    def rewrite(number: int) -> None:
        rows.append(number)
        lake.materialize(made, manager, tags=key_range(PLACES[0], PLACES[-1]))

    return rewrite


@contextmanager
def planned(lake: Lake, table: str) -> Iterator[Mapping[str, Read]]:
    """Let each client load the table; yield what reads the snapshot that it loaded."""
    loaded, sql = lake.pyiceberg().load_table(table), f"SELECT place, n FROM lake.{table}"
    snapshot_id = loaded.metadata.current_snapshot_id
    frame = pl.scan_iceberg(loaded, snapshot_id=snapshot_id, storage_options=loaded.config)
    of_service = lake.planning().load_table(table)  # which may have a later snapshot than the first
    planned_id = of_service.metadata.current_snapshot_id
    with lake.duckdb() as duck:
        duck.execute("BEGIN")
        duck.execute(f"{sql} LIMIT 0")
        yield {
            "duckdb": lambda: duck.execute(sql).fetchall(),
            "polars": lambda: frame.select("place", "n").collect().rows(),
            "pyiceberg": lambda: rows_of(loaded.scan().to_arrow().select(["place", "n"])),
            "pyiceberg with plans": lambda: rows_of(
                of_service.scan(snapshot_id=planned_id).to_arrow().select(["place", "n"])
            ),
        }


def check(client: str, rows: Rows, naming: str) -> None:
    """Each partition has all rows of one run; with the names of runs, of the same run or of the next one."""
    counts = Counter(rows)
    assert sorted(place for place, _ in counts) == [*PLACES], (client, counts)
    assert all(count == n + 1 for (_, n), count in counts.items()), (client, counts)
    numbers = {n for _, n in counts}
    assert naming == "stable" or max(numbers) - min(numbers) <= 1, (client, counts)


def read_what_was_loaded_before(plan: Plan, rewrite: Rewrite, naming: str) -> set[str]:
    """Write a table again after clients have loaded it; return which of them fail to read it then."""
    rewrite(1)
    failed = set[str]()
    with plan() as reads:
        rewrite(2)
        for client, read in reads.items():
            if naming == "per_run":
                assert sorted(read()) == sorted((place, 1) for place in PLACES * 2), client
                continue
            try:
                rows = read()
            except Exception:  # noqa: BLE001  # each client has errors of its own
                failed.add(client)
            else:
                check(client, rows, naming)
    with plan() as reads:
        for client, read in reads.items():
            assert sorted(read()) == sorted((place, 2) for place in PLACES * 3), client
    return failed


def read_while_runs_write(plan: Plan, rewrite: Rewrite, naming: str) -> None:
    """Read a table while runs write it: with the names of runs, each read has its rows."""
    rewrite(0)
    ended = threading.Event()

    def write() -> None:
        try:
            for number in range(1, REWRITES + 1):
                rewrite(number)
        finally:
            ended.set()

    thread, outcomes = threading.Thread(target=write), dict[str, int]()
    thread.start()
    is_last = False
    while not is_last:
        is_last = ended.is_set()  # then nothing is written while the clients read
        with plan() as reads:
            for client, read in reads.items():
                try:
                    rows = read()
                except Exception:
                    if naming == "per_run" or is_last:
                        raise
                else:
                    check(client, rows, naming)
                    outcomes[client] = max(n for _, n in rows)
    thread.join(PATIENCE_S)
    assert outcomes == dict.fromkeys(reads, REWRITES)


@pytest.mark.parametrize("naming", ["per_run", "stable"])
def test_readers_that_loaded_the_table_before(lake: Lake, s3_fields: dict[str, Any], name: str, naming: str) -> None:
    rewrite, plan = rewriting(lake, s3_fields, name, naming), partial(planned, lake, f"uat_default.{name}")
    failed = read_what_was_loaded_before(plan, rewrite, naming)
    assert ("duckdb" in failed) == (naming == "stable"), "it knows the sizes of the objects"


@pytest.mark.parametrize("naming", ["per_run", "stable"])
def test_reads_while_runs_write(lake: Lake, s3_fields: dict[str, Any], name: str, naming: str) -> None:
    rewrite, plan = rewriting(lake, s3_fields, name, naming), partial(planned, lake, f"uat_default.{name}")
    read_while_runs_write(plan, rewrite, naming)

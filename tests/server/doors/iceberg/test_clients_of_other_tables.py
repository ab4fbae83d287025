"""Tables that other writers wrote, and partition values that other engines reserve, are the same to all clients."""

import time
from contextlib import suppress

import dagster as dg
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.exceptions import NoSuchTableError

from dagfusion_pipeline import PartitionedS3ParquetIOManager
from tests.server.doors.iceberg.lake import PATIENCE_S, Lake
from tests.server.doors.iceberg.test_clients import same

RESERVED = "__HIVE_DEFAULT_PARTITION__"
pytestmark = [
    pytest.mark.usefixtures("heavy"),
    pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning"),
]


def test_objects_that_discovery_learnt(lake: Lake, name: str) -> None:
    """Their events name no more than a URI."""
    objects = {"CA": pa.table({"n": [1, 2]}), "a b": pa.table({"n": [3], "more": ["x"]})}
    for state, table in objects.items():
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        object_key = f"foreign/{name}/{state}.parquet"
        obstore.put(lake.store, object_key, sink.getvalue().to_pybytes())
        metadata = {"uri": f"s3://lake/{object_key}"}
        lake.instance.report_runless_asset_event(dg.AssetMaterialization(name, partition=state, metadata=metadata))
    await_files(lake, f"uat_default.{name}", len(objects))
    rows = same(lake, f"uat_default.{name}", ["partition_key", "n", "more"])
    assert rows == [("CA", 1, None), ("CA", 2, None), ("a b", 3, "x")]


def await_files(lake: Lake, table: str, count: int) -> None:
    """Wait until so many objects of a table are discovered; the table is there from the first on."""
    end = time.monotonic() + PATIENCE_S
    found = 0
    while found < count:
        assert time.monotonic() < end, f"{found} of {count} objects are discovered"
        lake.environments.refresh(PATIENCE_S)
        with suppress(NoSuchTableError):
            found = len([*lake.pyiceberg().load_table(table).scan().plan_files()])
        time.sleep(0.1 * (found < count))


def test_the_name_of_hives_null_partition(lake: Lake, hive: PartitionedS3ParquetIOManager, name: str) -> None:
    @dg.asset(
        name=name, partitions_def=dg.StaticPartitionsDefinition(["x", RESERVED]), metadata={"partition_expr": "place"}
    )
    def made(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"n": [len(context.partition_key)]})

    for key in ("x", RESERVED):
        lake.materialize(made, hive, partition_key=key)
    rows = same(lake, f"uat_default.{name}", ["place", "n"], is_planned=False)
    assert rows == [("x", 1), (None, len(RESERVED))]

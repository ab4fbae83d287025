"""What runs of the tests' assets wrote: their events, and whether those tell the truth."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dagfusion_pipeline.store import ObjectStore

DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01")
STATES = dg.StaticPartitionsDefinition(["CA", "NY", "TX"])
MULTI = dg.MultiPartitionsDefinition({"date": DAILY, "state": STATES})
# Partition keys that object keys, URIs and SQL write each in a way of its own.
HOSTILE = ("a b", "a/b", "50%", "x=1", "ü ñ", "'quoted\"", "a%2Fb", "semi;colon,comma", "__x__", "2024-01-01")
JAN = [dt.date(2024, 1, day) for day in range(1, 32)]


class Places:
    """A table that is partitioned by place, and what its next run writes.

    Attributes:
        asset: The asset.
        frame: The rows of the next run.
    """

    def __init__(self, name: str, places: Sequence[str] = HOSTILE, column: str = "place") -> None:
        self.column, self.frame = column, pl.DataFrame()

        @dg.asset(
            name=name, partitions_def=dg.StaticPartitionsDefinition([*places]), metadata={"partition_expr": column}
        )
        def made() -> pl.DataFrame:
            return self.frame

        self.asset = made

    def of(self, places: Sequence[str], **columns: Any) -> dg.AssetsDefinition:
        """Return the asset, whose next run writes a row of each place, with these columns."""
        self.frame = pl.DataFrame({self.column: places}).with_columns(**columns)
        return self.asset


def key_range(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def materializations(result: dg.ExecuteInProcessResult) -> dict[str | None, dg.AssetMaterialization]:
    events = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    by_partition = {event.partition: event for event in events}
    assert len(by_partition) == len(events)  # exactly one event for each partition
    return by_partition


def entry_of(event: dg.AssetMaterialization) -> dict[str, Any]:
    value = event.metadata["dagfusion/file"]
    assert isinstance(value, dg.JsonMetadataValue)
    assert isinstance(value.data, dict)
    return value.data


def check_objects(events: Mapping[str | None, dg.AssetMaterialization], store: ObjectStore) -> None:
    """Every event tells the truth about its object."""
    for event in events.values():
        entry = entry_of(event)
        key = entry["uri"].removeprefix("s3://lake/")
        head = obstore.head(store.client, key)
        assert (entry["size_bytes"], entry["etag"]) == (head["size"], head["e_tag"])
        file = pq.ParquetFile(pa.BufferReader(obstore.get(store.client, key).bytes()))
        assert file.metadata.num_rows == entry["rows"]
        assert file.schema_arrow.names == [field["name"] for field in entry["schema"]["fields"]]
        assert event.metadata["dagster/uri"].value == entry["uri"]


def org_rows(states: list[str], dates: list[dt.date], rows: int = 2) -> pl.DataFrame:
    return pl.DataFrame(
        [(state, date, n, f"{state} {n}") for state in states for date in dates for n in range(rows)],
        schema={"state": pl.String, "date": pl.Date, "npi": pl.Int64, "name": pl.String},
        orient="row",
    )

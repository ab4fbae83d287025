"""What runs of the tests' assets wrote: their events, and whether those tell the truth."""

import datetime as dt
from collections.abc import Mapping
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
JAN = [dt.date(2024, 1, day) for day in range(1, 32)]


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

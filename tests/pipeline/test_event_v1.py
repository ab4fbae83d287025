"""Event metadata v1, frozen: what the pipeline writes is what `event_v1.json` says, to the letter."""

import datetime as dt
import decimal
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest
from obstore.store import MemoryStore

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.store import ObjectStore, StoredObject

GOLDEN: Mapping[str, Any] = json.loads(files("dagfusion_contract").joinpath("golden", "event_v1.json").read_text())
WRITTEN_AT = dt.datetime(2024, 1, 15, 12, 0, 0, 123456, tzinfo=dt.UTC)
PARTITIONS = dg.MultiPartitionsDefinition(
    {
        "date": dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01"),
        "state": dg.StaticPartitionsDefinition(["CA", "__HIVE_DEFAULT_PARTITION__"]),
    }
)


class FixedStore(ObjectStore):
    """Confirms every object at one time, with one etag, size and checksum: those are the server's and the codec's."""

    async def put(self, key: str, content: Any) -> StoredObject:
        stored = await super().put(key, content)
        assert stored.size_bytes > 0
        # Compressed bytes differ between versions of the codec, so the file's checksum is the key's.
        digest = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
        return StoredObject(key, 12345, '"9b2c0d6e"', WRITTEN_AT, digest)


class Flat(S3ParquetIOManager):
    @property
    def object_store(self) -> ObjectStore:
        return FixedStore(MemoryStore(), f"s3://{self.bucket}")


class Hive(PartitionedS3ParquetIOManager):
    @property
    def object_store(self) -> ObjectStore:
        return FixedStore(MemoryStore(), f"s3://{self.bucket}")


def every_type(state: str | None) -> pa.Table:
    stamp = dt.datetime.fromisoformat("2024-01-15T10:11:12.000013")
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        "npi": (pa.int64(), [9, None, 1]),
        "name": (pa.large_string(), ["b", None, "a"]),
        "note": (pa.string_view(), ["x" * 65, None, "a"]),
        "kind": (pa.dictionary(pa.int8(), pa.string()), ["x", "y", None]),
        "active": (pa.bool_(), [True, False, True]),
        "score": (pa.float64(), [1.5, -2.25, None]),
        "ratio": (pa.float32(), [float("nan"), 1.0, 2.0]),
        "limit": (pa.float64(), [float("inf"), 1.0, 2.0]),
        "price": (pa.decimal128(12, 2), [decimal.Decimal("10.50"), None, decimal.Decimal("9.00")]),
        "born": (pa.date32(), [dt.date(1999, 12, 31), None, dt.date(2000, 1, 1)]),
        "seen": (pa.timestamp("us", "UTC"), [stamp.replace(tzinfo=dt.UTC), None, None]),
        "local": (pa.timestamp("ms"), [stamp.replace(microsecond=0), None, None]),
        "opens": (pa.time64("us"), [dt.time(8), None, dt.time(9, 30)]),
        "took": (pa.duration("us"), [dt.timedelta(1), None, None]),
        "raw": (pa.large_binary(), [b"x", None, None]),
        "tags": (pa.large_list(pa.large_string()), [["a"], None, []]),
        "place": (pa.struct([("city", pa.string()), ("zip", pa.int32())]), [{"city": "a", "zip": 1}, None, None]),
        "extra": (pa.map_(pa.string(), pa.int64()), [[("a", 1)], None, []]),
        "nothing": (pa.null(), [None, None, None]),
        "state": (pa.string(), [state] * 3),
        "date": (pa.date32(), [dt.date(2024, 1, 15)] * 3),
    }
    return pa.table({name: pa.array(values, data_type) for name, (data_type, values) in columns.items()})


def entry_of(asset: dg.AssetsDefinition, manager: dg.ConfigurableIOManager, **run: Any) -> Any:
    result = dg.materialize([asset], resources={"io_manager": manager}, **run)
    (event,) = result.get_asset_materialization_events()
    entry = event.step_materialization_data.materialization.metadata["dagfusion/file"].value
    return json.loads(json.dumps(entry))


def hive_partition(state: str | None, key: str) -> Any:
    @dg.asset(key_prefix=["Silver", "TaxID"], partitions_def=PARTITIONS)
    def partitioned_organizations() -> pa.Table:
        return every_type(state)

    return entry_of(partitioned_organizations, Hive(bucket="bucket"), partition_key=f"2024-01-15|{key}")


def unpartitioned() -> Any:
    @dg.asset(key_prefix=["Silver", "TaxID"])
    def raw_organizations() -> pl.DataFrame:
        return pl.DataFrame({"npi": [1, 2], "name": ["a", "b"]})

    return entry_of(raw_organizations, Flat(bucket="bucket"))


def one_dimension() -> Any:
    @dg.asset(key_prefix=["Gold", "Analytics"], partitions_def=dg.HourlyPartitionsDefinition("2024-01-01-00:00"))
    def hourly_totals() -> pl.DataFrame:
        return pl.DataFrame(schema={"total": pl.Int64})

    return entry_of(hourly_totals, Flat(bucket="bucket", prefix=""), partition_key="2024-01-15-03:00")


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_the_pipeline_writes_the_golden_event(name: str) -> None:
    written = {
        "hive": lambda: hive_partition("CA", "CA"),
        "hive_null_partition": lambda: hive_partition(None, "__HIVE_DEFAULT_PARTITION__"),
        "unpartitioned": unpartitioned,
        "one_time_dimension_and_no_rows": one_dimension,
    }[name]()
    assert written == GOLDEN[name]


def test_the_golden_hive_file_is_of_one_schema_whatever_its_partition() -> None:
    assert GOLDEN["hive"]["schema"]["fingerprint"] == GOLDEN["hive_null_partition"]["schema"]["fingerprint"]

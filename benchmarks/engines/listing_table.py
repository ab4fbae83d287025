"""DataFusion's own way to read HIVE partitions: a ListingTable over the bucket."""

from collections.abc import Mapping

import pyarrow as pa
from datafusion import SessionConfig, SessionContext
from datafusion.object_store import AmazonS3

from benchmarks.dataset import Place
from benchmarks.engines.protocol import Engine
from benchmarks.workload import Query

_TABLE = "organizations"
_PARTITION_COLUMNS = [("state", pa.string()), ("date", pa.date32())]
# Given so that registering the table need not read the footer of every file.
_SCHEMA = pa.schema(
    {
        "npi": pa.int64(),
        "organization_name": pa.string(),
        "tax_id": pa.string(),
        "taxonomy_code": pa.string(),
        "specialty": pa.string(),
        "zip_code": pa.string(),
        "provider_count": pa.int64(),
        "enumeration_date": pa.date32(),
    }
)


class ListingTable:
    """A context with the table registered.

    Args:
        place: Where the objects are.
        runtime: `datafusion.runtime` settings.
        tuned: The schema is given, and no statistics are collected while planning.
    """

    def __init__(self, place: Place, runtime: Mapping[str, str] | None = None, *, tuned: bool = False) -> None:
        config = SessionConfig()
        if tuned:
            config = config.set("datafusion.execution.collect_statistics", "false")
        self._context = SessionContext(config)
        for name, value in (runtime or {}).items():
            self._context.sql(f"SET datafusion.runtime.{name} = '{value}'").collect()
        self._context.register_object_store("s3://", _store(place), place.bucket)
        self._context.register_listing_table(
            _TABLE, place.url, table_partition_cols=_PARTITION_COLUMNS, schema=_SCHEMA if tuned else None
        )

    def run(self, query: Query) -> pa.Table:
        frame = self._context.sql(query.sql.format(table=_TABLE))
        batches = frame.collect()
        return pa.Table.from_batches(batches, batches[0].schema if batches else frame.schema())

    def close(self) -> None:
        self._context.deregister_table(_TABLE)


def _store(place: Place) -> AmazonS3:
    return AmazonS3(
        bucket_name=place.bucket,
        region=place.region,
        access_key_id=place.access_key_id,
        secret_access_key=place.secret_access_key,
        endpoint=place.endpoint,
        allow_http=True,
    )


_FOOTERS = {"metadata_cache_limit": "500M"}
DEFAULT = Engine("DataFusion ListingTable", "register_listing_table with defaults; schema inferred", ListingTable)
FRESH = Engine(
    "DataFusion ListingTable, tuned, no list cache",
    "list_files_cache_limit=0K, metadata_cache_limit=500M, schema given, collect_statistics=false",
    lambda place: ListingTable(place, {**_FOOTERS, "list_files_cache_limit": "0K"}, tuned=True),
)
CACHED = Engine(
    "DataFusion ListingTable, tuned, list cache",
    "list_files_cache_limit=500M, metadata_cache_limit=500M, schema given, collect_statistics=false",
    lambda place: ListingTable(place, {**_FOOTERS, "list_files_cache_limit": "500M"}, tuned=True),
)

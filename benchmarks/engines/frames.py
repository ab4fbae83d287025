"""Polars and pyarrow over the HIVE folders, each with its dataset made anew for a query, and kept."""

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import S3FileSystem

from benchmarks.dataset import Place
from benchmarks.engines.protocol import Engine
from benchmarks.workload import Query


class Polars:
    """A LazyFrame over the folder.

    Args:
        place: Where the objects are.
        kept: One LazyFrame serves every query; else each query scans the folder anew, as scripts do.
    """

    def __init__(self, place: Place, *, kept: bool = False) -> None:
        self._place = place
        self._kept = self._scan() if kept else None

    def run(self, query: Query) -> pa.Table:
        frame = self._scan() if self._kept is None else self._kept
        return query.polars(frame).collect().to_arrow()

    def close(self) -> None:
        self._kept = None

    def _scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(
            self._place.url,
            hive_partitioning=True,
            hive_schema={"state": pl.String, "date": pl.Date},
            storage_options={
                "aws_access_key_id": self._place.access_key_id,
                "aws_secret_access_key": self._place.secret_access_key,
                "aws_endpoint_url": self._place.endpoint,
                "aws_region": self._place.region,
                "aws_allow_http": "true",
            },
        )


class Arrow:
    """A `pyarrow.dataset` over the folder.

    Args:
        place: Where the objects are.
        kept: One dataset serves every query; else each query makes its own.
    """

    def __init__(self, place: Place, *, kept: bool = False) -> None:
        self._folder = place.url.removeprefix("s3://")
        self._filesystem = S3FileSystem(
            access_key=place.access_key_id,
            secret_key=place.secret_access_key,
            endpoint_override=place.endpoint,
            region=place.region,
        )
        self._kept = self._dataset() if kept else None

    def run(self, query: Query) -> pa.Table:
        return query.arrow(self._dataset() if self._kept is None else self._kept)

    def close(self) -> None:
        self._kept = None

    def _dataset(self) -> ds.Dataset:
        columns = pa.schema({"state": pa.string(), "date": pa.date32()})
        return ds.dataset(
            self._folder,
            filesystem=self._filesystem,
            format="parquet",
            partitioning=ds.partitioning(columns, flavor="hive"),
        )


POLARS = Engine("Polars scan_parquet", "scan_parquet(folder, hive_partitioning, hive_schema) for each query", Polars)
POLARS_KEPT = Engine(
    "Polars scan_parquet, LazyFrame kept", "one LazyFrame for all queries", lambda place: Polars(place, kept=True)
)
ARROW = Engine("pyarrow.dataset", "dataset(folder, hive partitioning) for each query", Arrow)
ARROW_KEPT = Engine("pyarrow.dataset, kept", "one dataset for all queries", lambda place: Arrow(place, kept=True))

"""One deployment for all tests of the Iceberg door; each test has assets of its own."""

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from tests.pipeline.written import key_range
from tests.query.doors.iceberg.lake import PLACES, Lake, running
from tests.query.iceberg.conftest import publisher
from tests.query.spark import spark_runtime
from tests.query.spark.spark_runtime import Spark
from tests.stores import s3_fields

__all__ = ["publisher", "s3_fields"]

_names = itertools.count()


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Spark | None]:  # noqa: ARG001
    with spark_runtime.running(tmp_path_factory.mktemp("spark") / "log") as spark:
        yield spark


@pytest.fixture(scope="session")
def lake(
    s3_fields: dict[str, Any], sqlite_pattern: Path, tmp_path_factory: pytest.TempPathFactory, spark: Spark | None
) -> Iterator[Lake]:
    folder = tmp_path_factory.mktemp("iceberg")
    home = folder / "home"
    shutil.copytree(sqlite_pattern, home)
    with running(home, folder, s3_fields, "iceberg", spark) as lake:
        yield lake


@pytest.fixture(scope="session")
def hive(s3_fields: dict[str, Any]) -> PartitionedS3ParquetIOManager:
    return PartitionedS3ParquetIOManager(**s3_fields, prefix="iceberg")


@pytest.fixture(scope="session")
def flat(s3_fields: dict[str, Any]) -> S3ParquetIOManager:
    return S3ParquetIOManager(**s3_fields, prefix="iceberg")


@pytest.fixture
def name() -> str:
    """Of an asset that no other test has."""
    return f"asset_{next(_names)}"


@pytest.fixture
def per_run(s3_fields: dict[str, Any]) -> PartitionedS3ParquetIOManager:
    return PartitionedS3ParquetIOManager(**s3_fields, prefix="iceberg", file_naming="per_run")


@pytest.fixture
def write(lake: Lake, per_run: PartitionedS3ParquetIOManager, name: str) -> Callable[..., None]:
    """Writes partitions of a table with these columns."""

    def write(places: Sequence[str], **columns: Any) -> None:
        frame = pl.DataFrame({"place": places}).with_columns(**{key: pl.lit(value) for key, value in columns.items()})

        @dg.asset(
            name=name, partitions_def=dg.StaticPartitionsDefinition([*PLACES]), metadata={"partition_expr": "place"}
        )
        def made() -> pl.DataFrame:
            return frame

        lake.materialize(made, per_run, tags=key_range(places[0], places[-1]))

    return write

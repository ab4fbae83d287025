"""One deployment for all tests of the Iceberg door; each test has assets of its own."""

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dagster as dg
import httpx
import polars as pl
import pyarrow as pa
import pytest

from dagfusion_client.errors import EnvironmentUnavailableError, NameCollisionError
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import View
from dagfusion_pipeline import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.event_log.event_log_interface import Materialization
from dagfusion_query.service_settings import EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import Settings
from dagfusion_server.doors.iceberg.iceberg_routes import IcebergRoutes
from tests.interop.iceberg.conftest import publisher
from tests.interop.iceberg.reading import Part, record
from tests.interop.spark import spark_runtime
from tests.interop.spark.sail import local_cluster
from tests.interop.spark.spark_runtime import Spark
from tests.pipeline.written import key_range
from tests.query.catalog.folding import EMPTY, written
from tests.server.doors.http.serving import serving
from tests.server.doors.iceberg.lake import PLACES, Lake, running
from tests.server.doors.iceberg.openapi import validated
from tests.server.doors.iceberg.other_clients import Daft, Sail, running_daft
from tests.server.fake_service import FakeService, environment
from tests.stores import s3_fields

__all__ = ["publisher", "s3_fields"]

_names = itertools.count()
TABLE = "/iceberg/v1/namespaces/uat_silver/tables/orders"
DELEGATED = {"X-Iceberg-Access-Delegation": "vended-credentials"}


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
def daft(lake: Lake, tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Daft]:  # noqa: ARG001
    with running_daft(lake.url, lake.variables, tmp_path_factory.mktemp("daft")) as daft:
        yield daft


@pytest.fixture(scope="session")
def sail(lake: Lake, tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Sail]:  # noqa: ARG001
    store = {key: value for key, value in lake.variables.items() if key.startswith("AWS_")}
    store |= {"AWS_ENDPOINT": store["AWS_ENDPOINT_URL"], "AWS_ALLOW_HTTP": "true"}
    with local_cluster(tmp_path_factory.mktemp("sail"), store, {"name": "lake", "uri": lake.url}) as remote:
        yield Sail(remote, lake)


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


def snapshot() -> Snapshot:
    part = Part(("CA",), {"id": "int64"}, {"id": {"min": 1, "max": 3, "nulls": 0}})
    keys = [("Silver", "orders"), ("Silver", "returns"), ("Gold", "sales")]
    events = [written(record(n, part, {"state": "string"}), n, key) for n, key in enumerate(keys, 1)]
    half = record(9, Part((), {"h": "halffloat"}, {}), {})
    view = View("SELECT id FROM uat_silver.orders", (TableName("uat_silver", "orders"),), pa.schema({"id": pa.int64()}))
    published = Materialization(("Silver", "seen"), 10, None, 10, "run", view)
    folded = fold(EMPTY, [*events, written(half, 9, ("Silver", "half")), published])
    problems = {TableName("uat_silver", "twice"): NameCollisionError("two assets claim it")}
    return Snapshot(7, "uat", folded.tables, MappingProxyType(problems), folded.asset_states)


@pytest.fixture
def environments(tmp_path: Path) -> list[EnvironmentConfig]:
    settings = Settings(access_key_id="AKID", secret_access_key="the secret", region="us-east-2", environment="uat")
    folder = f"file://{tmp_path}/_iceberg"
    return [
        EnvironmentConfig("uat", settings, EnvironmentSettings(iceberg_metadata=folder)),
        EnvironmentConfig("prod", settings, EnvironmentSettings(iceberg_metadata=folder, iceberg_credentials="keys")),
        EnvironmentConfig("dev", settings),
    ]


@pytest.fixture
def service() -> FakeService:
    down = EnvironmentUnavailableError("environment prod cannot be read now")
    return FakeService(
        {
            "uat": environment("uat", snapshot()),
            "prod": environment("prod", Snapshot(0, "prod"), down),
            "dev": environment("dev", snapshot()),
        }
    )


@pytest.fixture
def routes(
    tmp_path: Path, tokens: Tokens, environments: list[EnvironmentConfig], service: FakeService
) -> IcebergRoutes:
    return IcebergRoutes(service, Config(ServiceSettings(), tuple(environments), tmp_path), tokens)


@pytest.fixture
def client(routes: IcebergRoutes, tokens: Tokens, service: FakeService) -> Iterator[httpx.Client]:
    with (
        validated(routes.mounts()) as pages,
        serving(service, tokens, ServiceSettings(), pages=pages) as door,
        httpx.Client(base_url=door.url, trust_env=False, timeout=30) as client,
    ):
        yield client

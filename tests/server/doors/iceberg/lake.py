"""Assets on a real S3 server, behind a real Iceberg door, and the clients that people have."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
from obstore.store import ObjectStore
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from dagfusion_client.as_of import AsOf
from dagfusion_client.returned_values import TableGeneration
from dagfusion_contract.naming import TableName
from dagfusion_contract.uri import store_url
from dagfusion_query import connect
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.access.grants import Caller
from dagfusion_query.access.secret_tokens import open_tokens
from dagfusion_query.catalog.past_tables import PastTable
from dagfusion_query.config import Config, read_config
from dagfusion_query.object_store import open_store
from dagfusion_server.doors.iceberg.iceberg_routes import IcebergRoutes
from dagfusion_server.environments import Environments, EnvironmentState
from tests.interop.spark.spark_runtime import Spark
from tests.server.doors.http.serving import serving
from tests.server.doors.iceberg.openapi import Exchange, recorded, validated
from tests.server.fake_service import FakeService

PLACES = ("a b", "x=1", "ü")
EXTENSIONS = ("avro", "httpfs", "iceberg")
PATIENCE_S = 60.0
_numbers = itertools.count()


class Following(FakeService):
    """A service whose catalogs follow real event logs. It runs no statements."""

    def __init__(self, environments: Environments) -> None:
        super().__init__()
        self._environments = environments

    def environments(self, caller: Caller) -> Mapping[str, EnvironmentState]:
        """Return what the caller may know of the catalog now."""
        self.catalog = dict(self._environments.states())
        return super().environments(caller)

    async def revisions(self, name: TableName, limit: int, caller: Caller) -> Sequence[TableGeneration]:
        """Return what the latest runs wrote of a table."""
        return self._environments.revisions(name, limit, caller.grants.allow)

    async def past_table(self, name: TableName, event_id: int, caller: Caller) -> PastTable:
        """Return a table as of an event."""
        with self._environments.past(AsOf(event_id), [name], caller.grants.allow) as [(_, past)]:
            return past


@dataclass
class Lake:
    """A deployment with its door.

    Attributes:
        url: Of the Iceberg catalog.
        config: Of the service.
        spark: Where its runtime is installed: Spark with the catalog attached as `catalog`.
        catalog: The name there.
    """

    instance: dg.DagsterInstance
    environments: Environments
    config: Config
    tokens: Tokens
    url: str
    spark: Spark | None
    catalog: str

    @property
    def store(self) -> ObjectStore:
        """The bucket of all objects."""
        place = store_url(self.config.environments[0].own.iceberg_metadata or "")
        return open_store(place, self.config.environments[0].settings, connect_timeout="5s", timeout="30s")

    @property
    def variables(self) -> dict[str, str]:
        """The variables for an embedded connection to the same event log and objects."""
        settings = self.config.environments[0].settings
        return {
            "DAGFUSION_EVENT_LOG": settings.event_log or "",
            "DAGFUSION_STATE_DIR": "none",
            "ENVIRONMENT": "uat",
            "AWS_ENDPOINT_URL": settings.endpoint_url or "",
            "AWS_REGION": settings.region or "",
            "AWS_ACCESS_KEY_ID": settings.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": settings.secret_access_key or "",
        }

    def materialize(self, asset: dg.AssetsDefinition, manager: dg.ConfigurableIOManager, **how: Any) -> str:
        """Run an asset, wait until the service's catalog has it, and return the run's id."""
        done = dg.materialize([asset], instance=self.instance, resources={"io_manager": manager}, **how)
        self.environments.refresh(PATIENCE_S)
        return done.run_id

    def report(self, key: str, partition: str | None, record: Mapping[str, Any]) -> None:
        """Log a materialization of an object that is there."""
        metadata = {"dagfusion/file": dg.MetadataValue.json(dict(record))}
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, metadata=metadata))
        self.environments.refresh(PATIENCE_S)

    def wipe(self, key: str) -> None:
        """Wipe an asset."""
        self.instance.wipe_assets([dg.AssetKey(key)])
        self.environments.refresh(PATIENCE_S)

    def own(self, sql: str, as_of: int | None = None) -> pa.Table:
        """Return DagFusion's answer, also as of an event."""
        with connect(settings=self.variables) as connection:
            return connection.sql(sql, as_of=as_of).to_arrow()

    def pyiceberg(self, **properties: Any) -> RestCatalog:
        """Return PyIceberg's client of the catalog."""
        return RestCatalog("lake", **({"uri": self.url, "auth": {"type": "noop"}} | properties))

    def planning(self) -> RestCatalog:
        """Return PyIceberg's client, which lets the service plan its scans."""
        return self.pyiceberg(**{"scan-planning-mode": "server"})

    @contextmanager
    def duckdb(self, options: str = "AUTHORIZATION_TYPE 'none'") -> Iterator[duckdb.DuckDBPyConnection]:
        """Return DuckDB with the catalog attached as `lake`."""
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
            for name in EXTENSIONS:
                (found,) = Path(str(files(f"duckdb_extension_{name}"))).rglob(f"{name}.duckdb_extension")
                connection.load_extension(str(found))
            connection.execute(f"ATTACH 'lake' AS lake (TYPE iceberg, ENDPOINT '{self.url}', {options})")
            yield connection

    def answers(
        self, table: str, columns: Sequence[str], *, is_planned: bool = True, is_for_spark: bool = True
    ) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows of a table by client, sorted; also of plans and of Spark, unless they cannot be read."""
        wanted = ", ".join(f'"{column}"' for column in columns)
        loaded = self.pyiceberg().load_table(table)
        with self.duckdb() as connection:
            duck = connection.execute(f"SELECT {wanted} FROM lake.{table}").to_arrow_table()
        tables = {
            "dagfusion": self.own(f"SELECT {wanted} FROM {table}"),
            "duckdb": duck,
            "pyiceberg": loaded.scan(selected_fields=tuple(columns)).to_arrow().select(columns),
            "polars": pl.scan_iceberg(loaded, storage_options=loaded.config).select(columns).collect().to_arrow(),
        }
        if is_planned:
            scan = self.planning().load_table(table).scan(selected_fields=tuple(columns))
            tables["pyiceberg with plans"] = scan.to_arrow().select(columns)
        if self.spark is not None and is_for_spark:
            names = ", ".join(f"`{column}`" for column in columns)
            tables["spark"] = self.spark.sql(f"SELECT {names} FROM {self.catalog}.{table}")
        return {client: rows_of(found) for client, found in tables.items()}


def write_one_row(lake: Lake, manager: dg.ConfigurableIOManager, *names: str) -> None:
    """Write unpartitioned tables with one row."""
    for name in names:

        @dg.asset(name=name)
        def made() -> pl.DataFrame:
            return pl.DataFrame({"id": [1]})

        lake.materialize(made, manager)


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    """Return the rows of a result, sorted; times without the name of their zone."""
    plain = [column.to_pylist() for column in table.columns]
    return sorted(zip(*plain, strict=True), key=repr)


@contextmanager
def running(
    home: Path,
    folder: Path,
    s3: Mapping[str, Any],
    bucket_folder: str,
    spark: Spark | None = None,
    *,
    exchanges: list[Exchange] | None = None,
    **variables: str,
) -> Iterator[Lake]:
    """Open the door over a DAGSTER_HOME whose assets are in a bucket.

    Args:
        home: The DAGSTER_HOME.
        folder: Gets the state of the service.
        s3: The fields of IO managers for the bucket.
        bucket_folder: Has the objects.
        spark: Gets the catalog.
        exchanges: Gets the requests and answers.
        variables: More settings of the service.
    """
    told = {
        "DAGFUSION_EVENT_LOG": str(home),
        "DAGFUSION_STATE_DIR": str(folder / "state"),
        "DAGFUSION_ICEBERG_METADATA": f"s3://{s3['bucket']}/{bucket_folder}/_iceberg",
        "DAGFUSION_ICEBERG_CREDENTIALS": "keys",
        "ENVIRONMENT": "uat",
        "AWS_ENDPOINT_URL": s3["endpoint_url"],
        "AWS_REGION": s3["region"],
        "AWS_ACCESS_KEY_ID": s3["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3["secret_access_key"],
        **variables,
    }
    config = read_config(told)
    with ExitStack() as stack:
        environments = Environments(config)
        stack.callback(environments.close)
        service, tokens = Following(environments), open_tokens(config.tokens_file)
        iceberg = IcebergRoutes(service, config, tokens)
        pages = stack.enter_context(validated(iceberg.mounts()))
        pages = pages if exchanges is None else recorded(pages, exchanges)
        door = stack.enter_context(serving(service, tokens, config.service, pages=pages))
        environments.refresh(PATIENCE_S)
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        url, catalog = f"{door.url}/iceberg", f"lake_{next(_numbers)}"
        if spark is not None:
            spark.attach(catalog, url)
        yield Lake(instance, environments, config, tokens, url, spark, catalog)


def loaded(lake: Lake, table: str, snapshots: int) -> Table:
    """Load a table until it has so many snapshots: they are found in the background."""
    end = time.monotonic() + PATIENCE_S
    found: Table = lake.pyiceberg().load_table(table)
    while len(found.snapshots()) < snapshots:
        assert time.monotonic() < end, f"{len(found.snapshots())} of {snapshots} snapshots"
        found = lake.pyiceberg().load_table(table)
    return found


def event_of(snapshot: Snapshot) -> int:
    assert snapshot.summary is not None
    return int(snapshot.summary["dagster.event-id"] or 0)

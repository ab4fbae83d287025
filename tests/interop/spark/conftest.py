"""Tables of real IO managers on a real S3 server, one service over them, and a Sail cluster of several processes."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_contract.naming import TableName
from dagfusion_contract.record import schema_entry
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.object_store import open_store
from dagfusion_query.settings import Settings
from tests.interop.spark import past, spark_runtime, tpch
from tests.interop.spark.sail import Cluster, free_port, running
from tests.interop.spark.spark_runtime import RUNTIME, SparkServer
from tests.interop.spark.statements import ROWS
from tests.server.doors.conftest import STATES
from tests.server.processes.process import Server, served
from tests.stores import s3_fields

__all__ = ["s3_fields"]

SCALE = 0.01
PREFIX = "spark"
# Sail 0.7.2 does not find objects whose names have what a URL has to escape, such as a space.
HOSTILE = ("a/b", "50%", "x=1", "'quoted\"", "a\\b", "${env:HOME", "a%2Fb", "semi;colon,comma", "__x__", "2024-01-01")
PARTITIONED_BY = {"lineitem": "l_returnflag", "orders": "o_orderstatus", "customer": "c_mktsegment"}
AUTO_BYTES = 200_000
LIMIT_ROWS = 100_000
LIMIT_BYTES = 2_000_000  # more than so many numbers
GRANT = "uat_default.places"
VIEW = View(
    f"SELECT place, sum(n) AS total FROM {GRANT} GROUP BY place",
    [TableName(*GRANT.split("."))],
    pa.schema({"place": pa.string(), "total": pa.int64()}),
)


@dataclass(frozen=True)
class SparkLake:
    """A service whose statements can run on a cluster.

    Attributes:
        token: Grants the table `uat_default.places` and no other.
        queries: The statements of TPC-H over the tables here.
        variables: Those of the service.
    """

    server: Server
    cluster: Cluster | SparkServer
    token: str
    queries: Mapping[int, str]
    variables: Mapping[str, str]


@pytest.fixture(scope="session", params=["sail", *(["spark"] if RUNTIME in os.environ else [])])
def spark_lake(
    request: pytest.FixtureRequest,
    s3_fields: dict[str, Any],
    server_folder: Callable[[str], Path],
    sqlite_pattern: Path,
    processes: None,  # noqa: ARG001  # it starts some
) -> Iterator[SparkLake]:
    folder = server_folder(f"spark-{request.param}")
    home = folder / "home"
    shutil.copytree(sqlite_pattern, home)
    queries = _fill(home, s3_fields)
    port, tokens = free_port(), Tokens(folder / "state" / "tokens.json")
    token, all_tables = tokens.create("ann", [GRANT]), tokens.create("sail", ["*"])
    store = {
        "AWS_ENDPOINT_URL": s3_fields["endpoint_url"],
        "AWS_REGION": s3_fields["region"],
        "AWS_ACCESS_KEY_ID": s3_fields["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3_fields["secret_access_key"],
    }
    variables = {
        **store,
        "ENVIRONMENT": "uat",
        "DAGFUSION_EVENT_LOG": str(home),
        "DAGFUSION_ANONYMOUS": "loopback",
        "DAGFUSION_ICEBERG_METADATA": f"s3://{s3_fields['bucket']}/{PREFIX}/_iceberg",
        "DAGFUSION_SPARK_REMOTE": f"sc://127.0.0.1:{port}",
        "DAGFUSION_SPARK_AUTO_BYTES": str(AUTO_BYTES),
        "DAGFUSION_RESULT_LIMIT_ROWS": str(LIMIT_ROWS),
        "DAGFUSION_RESULT_LIMIT_BYTES": str(LIMIT_BYTES),
    }
    with served(folder, variables=variables) as server:
        catalog = {"name": "lake", "uri": f"{server.url}/iceberg"}
        if request.param == "spark":
            log = folder / "spark.log"
            with spark_runtime.serving(log, port, {**catalog, "token": all_tables}, store) as cluster:
                yield SparkLake(server, cluster, token, queries, variables)
            return
        catalog = {**catalog, "bearer_access_token": all_tables}
        plain = {"AWS_ENDPOINT": s3_fields["endpoint_url"], "AWS_ALLOW_HTTP": "true"}
        with running(folder, port, catalog, {**store, **plain}, workers=2) as sail:
            yield SparkLake(server, sail, token, queries, variables)


def _fill(home: Path, s3: Mapping[str, Any]) -> dict[int, str]:
    """Materialize the tables; return the statements of TPC-H."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        writer = tpch.Writer.over(instance, {**s3, "prefix": PREFIX})
        queries = tpch.materialize(writer, SCALE, PARTITIONED_BY)
        numbers = range(2 * len(HOSTILE))
        places = pl.DataFrame({"place": HOSTILE * 2, "n": pl.Series(numbers, dtype=pl.Int32)})
        places = places.with_columns(text=pl.when(pl.col("n") % 3 == 0).then(None).otherwise(pl.lit("it's \\ 5€")))
        writer.materialize("places", places, "place")
        writer.materialize("odd", ROWS, "part")
        ids = range(1000 * len(STATES))  # the rows of the lake of tests/server/doors
        names, states = ([f"n{n}" if n % 2 else None for n in ids], [STATES[n // 1000] for n in ids])
        writer.materialize("orgs", pl.DataFrame({"id": ids, "name": names, "state": states}), "state")
        for number, place in enumerate(["x", None]):
            record = {"dagfusion/file": dg.MetadataValue.json(_written(s3, f"nulls-{number}", place))}
            instance.report_runless_asset_event(dg.AssetMaterialization("nulls", partition=str(place), metadata=record))
        past.materialize(writer)
        published = {VIEW_ENTRY: dg.MetadataValue.json(view_entry(VIEW))}
        instance.report_runless_asset_event(dg.AssetMaterialization(["Gold", "totals"], metadata=published))
    return queries


def _written(s3: Mapping[str, Any], name: str, place: str | None) -> dict[str, Any]:
    """Write an object with two rows, and return its record with this value of its partition."""
    settings = Settings(
        endpoint_url=s3["endpoint_url"],
        region=s3["region"],
        access_key_id=s3["access_key_id"],
        secret_access_key=s3["secret_access_key"],
    )
    store = open_store(f"s3://{s3['bucket']}/", settings, connect_timeout="5s", timeout="30s")
    table, sink = pa.table({"n": [1, None]}), pa.BufferOutputStream()
    pq.write_table(table, sink)
    content, key = sink.getvalue().to_pybytes(), f"{PREFIX}/nulls/{name}.parquet"
    obstore.put(store, key, content)
    return {
        "version": 1,
        "uri": f"s3://{s3['bucket']}/{key}",
        "size_bytes": len(content),
        "etag": None,
        "modified": "2024-01-15T12:00:00.123456Z",
        "rows": len(table),
        "partition": [{"name": "place", "type": "string", "value": place}],
        "schema": schema_entry(table.schema),
        "columns": {},
    }

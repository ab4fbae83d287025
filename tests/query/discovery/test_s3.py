"""Discovery over S3, and two environments whose buckets have one name at two endpoints."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_query import connect
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.config import Config, read_config
from dagfusion_query.engine.engine import Engine
from dagfusion_query.object_store import open_store
from dagfusion_query.settings import Settings
from dagfusion_server.environments import Environments
from dagfusion_stack import object_store
from dagfusion_stack.object_store import ObjectStore
from tests.query.discovery.conftest import PATIENCE_S, Report

BUCKET = "lake"


@pytest.fixture(scope="module")
def servers(server_folder: Callable[[str], Path]) -> Iterator[tuple[ObjectStore, ObjectStore]]:
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(object_store.running(server_folder("s3"), buckets=[BUCKET])) for _ in range(2)
        )
        yield one, other


def put(server: ObjectStore, key: str, **columns: Any) -> str:
    """Write an object, and return its URI as dagster-polars logs it."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    settings = Settings.read({**server.environ(), "DAGFUSION_EVENT_LOG": "-"})
    store = open_store(f"s3://{BUCKET}/", settings, connect_timeout="5s", timeout="30s")
    obstore.put(store, key, sink.getvalue().to_pybytes())
    return f"s3://{BUCKET}/{key}"


def variables(server: ObjectStore) -> Mapping[str, str]:
    return {**server.environ(), "ENVIRONMENT": "uat"}


def test_objects_and_folders_of_a_bucket(
    on_sqlite: Any, report: Report, servers: tuple[ObjectStore, ObjectStore]
) -> None:
    server, _ = servers
    report(on_sqlite, put(server, "polars/customers.parquet", id=[1, 2]), key="customers")
    for day in ("2024-01-01", "2024-01-02"):
        report(on_sqlite, put(server, f"polars/orders/{day}.parquet", n=[1]).replace("s3://", "s3a://"), day)
    for state in ("CA", "NY"):
        for part in ("a", "b"):
            put(server, f"folder/state={state}/{part}.parquet", n=[1, 2])
    put(server, "folder2/c.parquet", n=[100])
    report(on_sqlite, f"s3://{BUCKET}/folder", key="folder", name="s3_path")
    wide = {f"a column with quite a long name {i}": [i] for i in range(2000)}
    report(on_sqlite, put(server, "odd/ü %/{x}/wide.parquet", **wide), key="wide")
    report(on_sqlite, f"s3://{BUCKET}/none.parquet", key="gone")
    report(on_sqlite, "s3://no-such-bucket/a.parquet", key="elsewhere")
    with connect(str(on_sqlite.home), settings=variables(server)) as connection:
        tables = {table.name: table for table in connection.tables()}
        assert tables["uat_default.wide"].problem is None
        assert len(tables["uat_default.wide"].columns) == 2000
        assert "is gone" in str(tables["uat_default.gone"].problem)
        assert "is gone" in str(tables["uat_default.elsewhere"].problem), "the bucket is not there"
        by_state = connection.sql("SELECT state, sum(n) AS n FROM uat_default.folder GROUP BY 1 ORDER BY 1").to_arrow()
        assert by_state.to_pylist() == [{"state": "CA", "n": 6}, {"state": "NY", "n": 6}]
        one = connection.sql("SELECT n FROM uat_default.orders WHERE partition_key = '2024-01-02'")
        assert (one.to_arrow()["n"].to_pylist(), one.stats.files_read) == ([1], 1)
        last = connection.sql('SELECT "a column with quite a long name 1999" AS n FROM uat_default.wide')
        assert last.to_arrow()["n"].to_pylist() == [1999]


def test_keys_that_are_refused_become_a_reason(
    on_sqlite: Any, report: Report, servers: tuple[ObjectStore, ObjectStore]
) -> None:
    server, _ = servers
    report(on_sqlite, put(server, "a.parquet", n=[1]))
    wrong = {**variables(server), "AWS_SECRET_ACCESS_KEY": "hush-hush"}
    with connect(str(on_sqlite.home), settings=wrong) as connection:
        (table,) = connection.tables()
        assert "the store does not let this service read 's3://lake/a.parquet'" in str(table.problem)
        assert "hush-hush" not in str(table)


@pytest.fixture
def other(deployment_class: Any, sqlite_pattern: Path, tmp_path: Path) -> Iterator[Any]:
    shutil.copytree(sqlite_pattern, tmp_path / "other")
    deployment = deployment_class(tmp_path / "other", None)
    yield deployment
    deployment.instance.dispose()


@pytest.fixture
def environments(
    on_sqlite: Any, other: Any, report: Report, tmp_path: Path, servers: tuple[ObjectStore, ObjectStore]
) -> Iterator[tuple[Config, Environments]]:
    """Two environments, each with its own Dagster, its own S3 server, and a bucket of the same name."""
    for deployment, server, value in ((on_sqlite, servers[0], "uat"), (other, servers[1], "prod")):
        report(deployment, put(server, "both/orders.parquet", id=[1, 2], value=[value, value.upper()]))
    text = "".join(
        f"[environments.{name}]\nevent_log = '{deployment.home}'\ns3_bucket = '{BUCKET}'\n"
        + "".join(f"{key.lower()} = '{value}'\n" for key, value in server.environ().items() if key.startswith("AWS_"))
        for name, deployment, server in (("uat", on_sqlite, servers[0]), ("prod_eu", other, servers[1]))
    )
    (tmp_path / "dagfusion.toml").write_text(text)
    config = read_config({"DAGFUSION_STATE_DIR": str(tmp_path / "state")}, file=tmp_path / "dagfusion.toml")
    followed = Environments(config)
    yield config, followed
    followed.close()


def merged(environments: Environments) -> Snapshot:
    tables: dict[Any, Any] = {}
    for _ in range(int(PATIENCE_S)):
        environments.refresh(PATIENCE_S)
        states = environments.states().values()
        tables = {name: table for state in states for name, table in state.snapshot.tables.items()}
        if len(tables) == len(states):
            break
    return Snapshot(1, "", tables)


@pytest.mark.parametrize("path", ["splice", "staged"])
def test_one_query_reads_buckets_of_one_name_at_two_endpoints(
    environments: tuple[Config, Environments], path: str
) -> None:
    config, followed = environments
    snapshot = merged(followed)
    engine = Engine(Settings(), {environment.name: environment.settings for environment in config.environments})
    numbers = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 2) SELECT n FROM t"
    source = f"({numbers})" if path == "staged" else "(VALUES (1), (2))"
    sql = f"""
        SELECT t.n, u.value AS uat, p.value AS prod FROM {source} AS t(n)
        JOIN uat_default.orders u ON u.id = t.n JOIN prod_eu_default.orders p ON p.id = t.n ORDER BY 1
    """
    try:
        prepared = engine.prepare(sql, None, snapshot)
        assert prepared.path == path
        run = engine.run(prepared)
        rows = []
        while (batch := run.next()) is not None:
            rows += batch.to_pylist()
        assert rows == [{"n": 1, "uat": "uat", "prod": "prod"}, {"n": 2, "uat": "UAT", "prod": "PROD"}]
    finally:
        engine.close()

"""What a caller sees: its tables and nothing else, in answers, errors, plans and metadata; no files, no settings."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from dagfusion_client.errors import (
    EnvironmentUnavailableError,
    InternalError,
    QueryError,
    ReadOnlyError,
    SqlSyntaxError,
    StatementError,
    StoreUnavailableError,
    UnknownTableError,
)
from dagfusion_contract.record import DataFile
from dagfusion_query.access.grants import Caller, Grants
from dagfusion_query.catalog.fold import fold
from dagfusion_query.catalog.model import Snapshot
from dagfusion_query.event_log.event_log_interface import Event, Materialization
from dagfusion_server.service.query_registry import Query
from tests.query.engine.conftest import Lake
from tests.server.service.conftest import ANN, PublishedCatalogs, Serve, Served, serving

SILVER = Caller("sam", Grants.parse(["uat_silver.*"]), "http")
NOBODY = Caller("nobody", Grants.parse(["uat_nothing.*"]), "http")
ENDPOINT, KEY, SECRET = "http://127.0.0.1:9", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"


class Events(Lake):
    """A lake that remembers its events, so that they can be folded for other environments."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.events: list[Event] = []

    def fold(self, events: list[Event]) -> None:
        self.events += events
        super().fold(events)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Served]:  # noqa: ARG001  # it starts some
    """The environments uat and prod, and dev, which is down."""
    root = tmp_path_factory.mktemp("sight")
    lake = Events(root)
    for day in (1, 2):
        lake.write(("Silver", "orders"), pa.table({"x": [day, day]}), {"day": pa.scalar(day)})
        nullable = pa.scalar(None if day == 1 else "a", pa.string())
        lake.write(("Silver", "nullable"), pa.table({"x": [day]}), {"part": nullable})
    lake.write(("Gold", "secrets"), pa.table({"salary": [1]}))
    lake.events.append(_elsewhere(lake))
    catalogs = PublishedCatalogs(root / "catalogs")
    for name in ("uat", "prod"):
        catalogs.publish(fold(Snapshot(0, name), lake.events))
    catalogs.break_down("dev", EnvironmentUnavailableError("environment dev cannot be read now"))
    engine = {"endpoint_url": ENDPOINT, "access_key_id": KEY, "secret_access_key": SECRET, "store_stall_s": 0.2}
    with serving(root) as serve:
        yield serve(catalogs, engine=engine, workers=2)
    lake.engine.close()


def _elsewhere(lake: Lake) -> Event:
    """A table in a bucket that does not answer."""
    path = lake.root / "x.parquet"
    path.write_bytes(b"")
    event = lake.event(("Silver", "remote"), pa.table({"x": [1]}), {}, path, 1000)
    assert isinstance(event, Materialization)
    assert isinstance(event.file, DataFile)
    return event._replace(file=event.file._replace(uri="s3://bucket/remote.parquet", size_bytes=1000))


def test_one_query_joins_environments(served: Served) -> None:
    sql = "SELECT sum(a.x) AS x FROM uat_silver.orders a JOIN prod_silver.orders b USING (day)"
    assert served.rows(sql) == [{"x": 12}]
    assert set(served.loop.run(served.read(sql))[1].stats.generations) == {"uat", "prod"}


def test_an_environment_that_is_down_takes_only_its_tables_along(served: Served) -> None:
    error = served.error("SELECT * FROM dev_silver.orders")
    assert isinstance(error, EnvironmentUnavailableError)
    assert "environment dev" in str(error)
    assert served.rows("SELECT count(*) AS n FROM uat_silver.orders") == [{"n": 4}]


def test_what_may_not_be_read_does_not_exist(served: Served) -> None:
    assert served.rows("SELECT count(*) AS n FROM uat_silver.orders", SILVER) == [{"n": 4}]
    for sql in (
        "SELECT * FROM uat_gold.secrets",
        "SELECT * FROM prod_silver.orders",
        "SELECT * FROM uat_silver.orders WHERE x IN (SELECT salary FROM uat_gold.secrets)",
        "EXPLAIN SELECT * FROM uat_gold.secrets",
        "SELECT * FROM secrets",
        "SELECT * FROM uat_gold.secret",
        "SELECT * FROM dev_silver.orders",
        "WITH RECURSIVE t(n) AS (SELECT salary FROM uat_gold.secrets UNION ALL SELECT n FROM t) SELECT * FROM t",
    ):
        error = served.error(sql, SILVER)
        assert isinstance(error, UnknownTableError), sql
        hint = str(error).partition(": ")[2]
        assert not any(word in hint for word in ("secrets", "gold", "prod", "dev")), hint
        with pytest.raises(UnknownTableError):
            served.loop.run(served.service.describe(Query(sql), SILVER))
        with pytest.raises(UnknownTableError):
            served.loop.run(served.service.explain(Query(sql), SILVER))


def test_information_schema_shows_the_caller_s_tables_by_their_names(served: Served) -> None:
    listed = "SELECT DISTINCT table_schema AS s, table_name AS t FROM information_schema.tables ORDER BY s, t"
    assert [(row["s"], row["t"]) for row in served.rows(listed, SILVER)] == [
        ("uat_silver", "nullable"),
        ("uat_silver", "orders"),
        ("uat_silver", "remote"),
    ]
    assert {row["s"] for row in served.rows(listed)} == {"uat_silver", "uat_gold", "prod_silver", "prod_gold"}
    assert served.rows(listed, NOBODY) == []
    columns = "SELECT table_name AS t, column_name AS c FROM information_schema.columns ORDER BY t, ordinal_position"
    assert [(row["t"], row["c"]) for row in served.rows(columns, SILVER)] == [
        ("nullable", "x"),
        ("nullable", "part"),
        ("orders", "x"),
        ("orders", "day"),
        ("remote", "x"),
    ]
    assert {row["table_name"] for row in served.rows("SHOW TABLES", SILVER)} == {"nullable", "orders", "remote"}
    assert [row["schema_name"] for row in served.rows("SELECT * FROM information_schema.schemata", SILVER)] == [
        "uat_silver"
    ]


def test_environments_are_restricted(served: Served) -> None:
    states = served.ask(lambda: served.service.environments(SILVER))
    assert {name: {str(table) for table in state.snapshot.tables} for name, state in states.items()} == {
        "uat": {"uat_silver.nullable", "uat_silver.orders", "uat_silver.remote"}
    }
    assert set(served.ask(lambda: served.service.environments(ANN))) == {"uat", "prod", "dev"}


@pytest.mark.parametrize(
    "sql",
    [
        "SHOW ALL",
        "SHOW datafusion.execution.batch_size",
        "SELECT * FROM information_schema.df_settings",
        "SELECT * FROM information_schema.views",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM 's3://bucket/remote.parquet'",
        'SELECT * FROM "/etc/passwd"',
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_json('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/etc/passwd')",
        "SELECT * FROM arrow_file('/etc/passwd')",
        "SELECT * FROM metadata_cache()",
        'SELECT * FROM uat_silver."nullable$scan"',
        "SELECT * FROM dataset",
        "SELECT substr(input_file_name(), 2) FROM uat_silver.orders",
        "SELECT count(*) FROM uat_silver.orders WHERE \"input_file_name\"() LIKE '%a%'",
        "WITH f AS (SELECT INPUT_FILE_NAME() AS n FROM uat_silver.nullable) SELECT n FROM f",
    ],
)
def test_there_is_nothing_beside_the_catalog(served: Served, sql: str) -> None:
    assert isinstance(served.error(sql), StatementError)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "EXPLAIN COPY (SELECT 1) TO '/tmp/x.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "PREPARE p AS SELECT 1",
        "DROP TABLE uat_silver.orders",
        "DELETE FROM uat_silver.orders",
        "CREATE VIEW v AS SELECT 1",
    ],
)
def test_nothing_is_changed(served: Served, sql: str) -> None:
    assert isinstance(served.error(sql), ReadOnlyError)


@pytest.mark.parametrize(
    "sql",
    [
        "EXPLAIN SELECT * FROM uat_silver.orders WHERE day = 1",
        "EXPLAIN VERBOSE SELECT * FROM uat_silver.nullable WHERE part = 'a'",
        "EXPLAIN ANALYZE SELECT * FROM uat_silver.orders WHERE day = 1",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM uat_silver.nullable",
        "EXPLAIN ANALYZE FORMAT indent SELECT x FROM uat_silver.orders WHERE x > 1",
        "EXPLAIN SELECT * FROM uat_silver.remote",
        "EXPLAIN WITH RECURSIVE t(n) AS (SELECT x FROM uat_silver.orders UNION ALL SELECT n FROM t) SELECT * FROM t",
        "EXPLAIN SELECT * FROM information_schema.tables",
    ],
)
def test_plans_show_objects_and_nothing_of_the_service(served: Served, sql: str) -> None:
    shown = str(served.rows(sql))
    assert_nothing_leaks(shown)
    assert "$scan" not in shown
    if not sql.startswith("EXPLAIN ANALYZE"):
        document = served.loop.run(
            served.service.explain(Query(sql.removeprefix("EXPLAIN ").removeprefix("VERBOSE ")), ANN)
        )
        assert_nothing_leaks(str(document))


def test_an_error_of_the_store_names_the_object_and_not_the_endpoint(served: Served) -> None:
    error = served.error("SELECT * FROM uat_silver.remote")
    assert isinstance(error, StoreUnavailableError)
    assert "s3://bucket/remote.parquet" in str(error)
    assert_nothing_leaks(str(error))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT x, file_row_index() FROM uat_silver.orders",  # an internal error of DataFusion's
        "SELECT arrow_cast(1, 'Nope')",
        "SELECT 'a'::int",
        "SELEC",
        "SELECT * FROM uat_silver.orders WHERE x = repeat('a', x)",
    ],
)
def test_errors_tell_nothing_of_the_service(served: Served, sql: str) -> None:
    error = served.error(sql)
    assert type(error) not in (QueryError, InternalError)
    assert isinstance(error, SqlSyntaxError) or "SQL error" not in str(error)
    assert_nothing_leaks(str(error))


def assert_nothing_leaks(text: str) -> None:
    """Fail when a text has a folder, an address or a key of the service in it."""
    for secret in (
        "dagfusion-",
        "/sight",
        ENDPOINT,
        "127.0.0.1",
        KEY,
        SECRET,
        sys.prefix,
        "site-packages",
        "Traceback",
        ".rs:",
    ):
        assert secret not in text, secret


@pytest.mark.usefixtures("processes")
def test_the_service_does_not_load_the_engine() -> None:
    code = "import dagfusion_server.service.service, sys; print('datafusion' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603  # ours
    assert out.stdout.strip() == "False"


def test_workers_have_no_secret_in_their_variables(new_served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("UAT_DATABASE_URL", "postgresql://ann:hunter2@db/dagster"), ("LAKE_SECRET", SECRET)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAKE_REGION", "us-east-2")
    engine = {"event_log": "postgresql://ann:hunter2@db/dagster", "access_key_id": KEY, "secret_access_key": SECRET}
    served = new_served(engine=engine, workers=1)
    for pid in served.ask(lambda: served.service._pool.pids):
        variables = psutil.Process(pid).environ()
        assert variables["LAKE_REGION"] == "us-east-2"
        assert not {"UAT_DATABASE_URL", "LAKE_SECRET"} & variables.keys()

"""Statements on a Sail cluster of several processes, through the service's doors."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions

from dagfusion_client.errors import (
    EngineChoiceError,
    QueryCancelledError,
    QueryError,
    QueryTimeoutError,
    RemoteEngineError,
    RemovedObjectError,
    ReplacedObjectError,
    ResultTooLargeError,
    UnknownTableError,
)
from dagfusion_query import Connection, connect
from tests.interop.spark import tpch
from tests.interop.spark.answers import key, rows, same
from tests.interop.spark.conftest import HOSTILE, SparkLake
from tests.interop.spark.sail import Cluster, await_rest, busy
from tests.interop.spark.statements import ENDLESS, ORGS, PLACES, SAME, TOO_LARGE, over_table, statements
from tests.server.doors.doors import AdbcDoor, CommandLine
from tests.server.doors.test_behaviour import ERRORS, OTHER, STATEMENTS, TABLE
from tests.server.doors.test_engine import HEADER

PATIENCE_S = 120.0
TIME_S = 1.0
# What this engine refuses of the doors' statements by design: the first four are not sent, the others Sail refuses.
REFUSED = {
    " USING ": EngineChoiceError,
    "generate_series": EngineChoiceError,
    "DESCRIBE": EngineChoiceError,
    "SELECT 1 / ": EngineChoiceError,
    "WITH RECURSIVE": RemoteEngineError,
    "VALUES (1, 'x')": RemoteEngineError,  # its names of the columns are others
}


@pytest.fixture(scope="module")
def connection(spark_lake: SparkLake) -> Iterator[Connection]:
    with connect(spark_lake.server.url) as made:
        yield made


@pytest.fixture(scope="module")
def command(spark_lake: SparkLake, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    variables = {"DAGFUSION_URL": spark_lake.server.url, "DAGFUSION_TOKEN": ""}
    return CommandLine(tmp_path_factory.mktemp("command"), variables)


def over_lake(sql: str) -> tuple[str, type[QueryError] | None]:
    """Return a statement of the doors' suite over the table here, and how this engine refuses it if it does."""
    kind = next((kind for text, kind in REFUSED.items() if text in sql), None)
    return sql.replace(TABLE, ORGS).replace(OTHER, ORGS), kind


@pytest.mark.parametrize("sql", STATEMENTS)
def test_statements_of_the_doors(connection: Connection, command: CommandLine, sql: str) -> None:
    sql, refused = over_lake(sql)
    done = command.run("sql", sql, "--engine=spark", "--format=arrow")
    if refused is not None:
        with pytest.raises(refused):
            connection.sql(sql, engine="spark").to_arrow()
        assert (done.code, "engine" in done.err) == (1, True)
        return
    here, there = (connection.sql(sql, engine=engine) for engine in ("local", "spark"))
    expected, found = here.to_arrow(), there.to_arrow()
    assert found.schema == expected.schema
    assert found.equals(expected)
    assert pa.ipc.open_stream(done.out).read_all().equals(expected)
    assert there.stats.rows == here.stats.rows
    if "LIMIT" not in sql:  # a worker opens no file for it
        assert (there.stats.files_total, there.stats.files_read) == (here.stats.files_total, here.stats.files_read)


@pytest.mark.parametrize("sql", [sql for sql, _, _ in ERRORS])
def test_errors_of_the_doors(connection: Connection, command: CommandLine, sql: str) -> None:
    sql, refused = over_lake(sql)
    errors = []
    for engine in ("local", "spark"):
        with pytest.raises(QueryError) as raised:
            connection.sql(sql, engine=engine).to_arrow()
        errors.append(raised.value)
    done = command.run("sql", sql, "--engine=spark")
    assert (done.code, done.err) == (1, f"error: {errors[1]}\n")
    if refused is not None:
        assert isinstance(errors[1], refused)
    else:
        assert len({(type(error), str(error), str(error.details())) for error in errors}) == 1


@pytest.mark.parametrize("limit", sorted(TOO_LARGE))
def test_limits_of_results_are_those_of_a_worker(
    spark_lake: SparkLake,
    connection: Connection,
    command: CommandLine,
    limit: str,
    heavy: None,  # noqa: ARG001
) -> None:
    sql, errors = TOO_LARGE[limit], []
    with connect(spark_lake.server.flight_url) as flight:
        for door in (connection, flight):
            for engine in ("local", "spark"):
                with pytest.raises(ResultTooLargeError, match=f"the result has more than [0-9,]+ {limit}") as raised:
                    door.sql(sql, engine=engine).to_arrow()
                errors.append((str(raised.value), raised.value.details()))
    assert errors == [errors[0]] * 4
    assert errors[0][0] in command.run("sql", sql, "--engine=spark", "--format=csv").err


def test_the_time_limit_is_that_of_a_worker(spark_lake: SparkLake, heavy: None) -> None:  # noqa: ARG001
    texts = set()
    for engine in ("local", "spark"):
        with spark_lake.server.client() as client:
            body = {"sql": ENDLESS, "engine": engine, "timeout_s": TIME_S}
            answer = client.post("/v1/sql", json=body)
        assert (answer.status_code, answer.json()["code"]) == (504, QueryTimeoutError.code)
        texts.add(answer.json()["detail"])
        target = f"grpc://{urlsplit(spark_lake.server.flight_url).netloc}"
        options = {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}
        with flight_sql.connect(target, db_kwargs=options, autocommit=True) as flight:
            session = {"query_timeout_s": str(TIME_S), "engine": engine}
            flight.adbc_connection.set_options(**{f"adbc.flight.sql.session.option.{k}": v for k, v in session.items()})
            error = AdbcDoor(flight).error(ENDLESS)
        assert type(error) is QueryTimeoutError
        texts.add(str(error))
    assert [f"longer than the {TIME_S:g} s" in text for text in texts] == [True]
    await_rest(spark_lake.cluster)


def test_grants_of_the_doors(spark_lake: SparkLake, tmp_path: Path) -> None:
    granted = CommandLine(tmp_path, {"DAGFUSION_URL": spark_lake.server.url, "DAGFUSION_TOKEN": spark_lake.token})
    count = f"SELECT count(*) AS n FROM {PLACES}"
    assert granted.run("sql", count, "--engine=spark", "--format=csv").out == b"n\r\n20\r\n"
    assert "there is no table" in granted.run("sql", f"SELECT id FROM {ORGS}", "--engine=spark").err
    headers = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {spark_lake.token}", HEADER: "spark"}
    target = f"grpc://{urlsplit(spark_lake.server.flight_url).netloc}"
    with flight_sql.connect(target, db_kwargs=headers, autocommit=True) as flight:
        assert AdbcDoor(flight).table(count)["n"].to_pylist() == [20]
        assert type(AdbcDoor(flight).error(f"SELECT id FROM {ORGS}")) is UnknownTableError


@pytest.mark.parametrize("number", range(1, 23))
def test_tpch_gives_the_workers_answers(connection: Connection, spark_lake: SparkLake, number: int, long: None) -> None:  # noqa: ARG001
    sql = spark_lake.queries[number]
    if number in tpch.NOT_SENT:
        with pytest.raises(EngineChoiceError):
            connection.sql(sql, engine="spark").to_arrow()
    else:
        same(connection, sql)


@pytest.mark.parametrize("sql", SAME)
def test_answers_are_the_workers(connection: Connection, sql: str, heavy: None) -> None:  # noqa: ARG001
    _, has_order, keys = sql.rpartition(" ORDER BY ")
    same(connection, sql, is_ordered=bool(has_order) and ")" not in keys)


@pytest.mark.parametrize(("made", "seed"), [(made, seed) for made in (statements, over_table) for seed in range(3)])
def test_random_statements_of_the_subset(
    connection: Connection,
    made: Callable[[int, int], Iterator[str]],
    seed: int,
    heavy: None,  # noqa: ARG001
) -> None:
    """Rows and their order are the same. Sail fails for a few statements, which is no wrong row."""
    failed = []
    for sql in made(seed, 18):
        try:
            there = rows(connection, sql, "spark")
        except RemoteEngineError:
            failed.append(sql)
        else:
            here = rows(connection, sql, "local")
            assert list(map(key, here)) == list(map(key, there)), sql
    assert len(failed) < 4, failed


def test_hostile_values(connection: Connection, heavy: None) -> None:  # noqa: ARG001
    for value in HOSTILE:
        written = value.replace("'", "''")
        assert len(same(connection, f"SELECT n, place FROM {PLACES} WHERE place = '{written}'")) == 2
        assert len(same(connection, f"SELECT n FROM {PLACES} WHERE place = $1", [value])) == 2


def test_a_token_reads_what_it_may_and_nothing_else(spark_lake: SparkLake, heavy: None) -> None:  # noqa: ARG001
    """The cluster's own token reads all tables, so the service has to refuse the others before it sends anything."""
    with connect(spark_lake.server.url, token=spark_lake.token) as connection:
        assert len(rows(connection, f"SELECT n FROM {PLACES}", "spark")) == 2 * len(HOSTILE)
        assert len(rows(connection, "SELECT total FROM uat_gold.totals", "spark")) == len(HOSTILE)
        for hidden in ("uat_default.nation", 'lake."uat_default".nation', "parquet.`s3://lake/spark/nation.parquet`"):
            with pytest.raises(UnknownTableError):
                connection.sql(f"SELECT * FROM {hidden}", engine="spark").to_arrow()
        text = f"SELECT 'a\\' AS x FROM {PLACES} -- ' AS x FROM lake.uat_default.nation"
        assert rows(connection, text, "spark") == [("a\\",)] * 2 * len(HOSTILE)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT log(n) AS x FROM uat_default.places",
        "SELECT n / 3 AS x FROM uat_default.places",
        "SELECT * FROM uat_default.places a JOIN uat_default.nulls b USING (n)",
        "SELECT concat(text, 'x') AS x FROM uat_default.places",
        "SELECT table_name FROM information_schema.tables",
        "EXPLAIN ANALYZE SELECT n FROM uat_default.places",
    ],
)
def test_what_spark_would_read_otherwise_is_not_sent(connection: Connection, sql: str) -> None:
    with pytest.raises(EngineChoiceError, match='use engine="local"'):
        connection.sql(sql, engine="spark").to_arrow()
    assert connection.sql(sql, engine="auto").to_arrow().num_rows


def test_an_error_says_which_engine_refused_it(spark_lake: SparkLake, connection: Connection) -> None:
    with pytest.raises(RemoteEngineError, match=r"^the Spark engine cannot run the statement \(\w+\): Dag") as seen:
        connection.sql(f"SELECT DISTINCT ON (place) n FROM {PLACES} ORDER BY place, n", engine="spark").to_arrow()
    [reference] = re.findall(r"error [0-9a-f]{8}", str(seen.value))
    assert f"{reference} of the Spark engine at 127.0.0.1" in spark_lake.server.log.read_text()
    with pytest.raises(RemoteEngineError, match="the Spark engine cannot run"):
        connection.sql(f"SELECT n FROM {PLACES} WHERE place = n", engine="spark").to_arrow()


def test_auto_decides_by_the_bytes_of_the_files(connection: Connection) -> None:
    def path(sql: str) -> str:
        result = connection.sql(sql, engine="auto")
        result.to_arrow()
        return result.stats.path

    assert path("SELECT sum(l_tax) AS t FROM uat_default.lineitem WHERE l_comment <> ''") == "spark"
    assert path(f"SELECT sum(n) AS n FROM {PLACES} WHERE text <> ''") == "splice"
    assert path("SELECT count(*) AS n FROM uat_default.lineitem") == "catalog"
    # Sail refuses this one, and a worker runs it.
    flags = "SELECT DISTINCT ON (l_returnflag) l_returnflag AS f FROM uat_default.lineitem WHERE l_comment <> ''"
    assert path(f"{flags} ORDER BY l_returnflag") == "splice"


def test_every_door_can_choose(spark_lake: SparkLake, heavy: None) -> None:  # noqa: ARG001
    with connect(spark_lake.server.flight_url) as flight:
        assert rows(flight, f"SELECT count(*) AS n FROM {PLACES} WHERE n > $1", "spark", [3]) == [(16,)]
    with spark_lake.server.client() as client:
        body = {"sql": f"SELECT max(n) AS n FROM {PLACES}", "format": "json", "engine": "spark"}
        answer = client.post("/v1/sql", json=body)
        assert (answer.status_code, answer.json()) == (
            200,
            {"columns": [{"name": "n", "type": "int32"}], "rows": [[19]]},
        )
        latest = client.get("/v1/queries").json()["queries"][0]
        assert latest["stats"]["path"] == "spark"
        assert client.post("/v1/sql", json={**body, "engine": "duckdb"}).status_code == 400


@pytest.mark.parametrize(
    ("sql", "counts"),
    [
        ("SELECT * FROM uat_default.kept", [2, 3, 2]),
        ("SELECT count(*) AS c, sum(n) AS s, min(place) AS p FROM uat_default.kept WHERE place <> 'a'", [1, 1, 1]),
        ("SELECT a.n, b.n AS m FROM uat_default.kept a JOIN uat_default.places b ON a.n = b.n", [1, 2, 2]),
    ],
)
def test_the_past_has_the_rows_of_a_worker(
    connection: Connection,
    sql: str,
    counts: Sequence[int],
    heavy: None,  # noqa: ARG001
) -> None:
    events = [one.event_id for one in connection.history("uat_default.kept")]
    assert [len(same(connection, sql, as_of=event)) for event in events] == counts
    assert len(same(connection, sql)) == counts[0]


def test_a_table_that_was_wiped_has_a_past(spark_lake: SparkLake, connection: Connection, heavy: None) -> None:  # noqa: ARG001
    with connect(spark_lake.server.flight_url) as flight:
        *_, first = flight.history("uat_default.wiped")
        sql = "SELECT n FROM uat_default.wiped WHERE place = $1"
        assert same(flight, sql, ["b"], as_of=first.event_id) == [(10,)]
        assert same(connection, sql, ["a"], as_of=first.at) == [(1,)]
        with pytest.raises(UnknownTableError, match=r"no table uat_default\.wiped"):
            flight.sql(sql, ["b"], engine="spark").to_arrow()
    with connect(spark_lake.server.url, token=spark_lake.token) as hidden, pytest.raises(UnknownTableError):
        hidden.sql(sql, ["b"], engine="spark", as_of=first.event_id).to_arrow()


@pytest.mark.parametrize(
    ("table", "kind"), [("stable", ReplacedObjectError), ("removed", RemovedObjectError), ("wiped", UnknownTableError)]
)
def test_a_past_that_is_gone_is_the_workers_error(
    connection: Connection,
    table: str,
    kind: type[QueryError],
    heavy: None,  # noqa: ARG001
) -> None:
    *_, first = connection.history(f"uat_default.{table}")
    as_of = 1 if kind is UnknownTableError else first.event_id
    errors = []
    for engine in ("local", "spark"):
        with pytest.raises(kind) as raised:
            connection.sql(f"SELECT * FROM uat_default.{table}", engine=engine, as_of=as_of).to_arrow()
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


def test_an_embedded_connection_sends_statements(spark_lake: SparkLake, heavy: None) -> None:  # noqa: ARG001
    with connect(settings={**spark_lake.variables, "DAGFUSION_STATE_DIR": "none"}) as own:
        assert len(same(own, f"SELECT n, place FROM {PLACES} WHERE place = $1", ["50%"])) == 2
        events = [one.event_id for one in own.history("uat_default.kept")]
        assert [len(same(own, "SELECT * FROM uat_default.kept", as_of=event)) for event in events] == [2, 3, 2]
        assert rows(own, "SELECT total FROM uat_gold.totals WHERE total > 1000", "spark") == []
        flags = "SELECT DISTINCT ON (l_returnflag) l_returnflag AS f FROM uat_default.lineitem WHERE l_comment <> ''"
        chosen = {
            "SELECT sum(l_tax) AS t FROM uat_default.lineitem WHERE l_comment <> ''": "spark",
            f"SELECT sum(n) AS n FROM {PLACES} WHERE text <> ''": "splice",  # few bytes
            f"{flags} ORDER BY l_returnflag": "splice",  # Sail refuses it
        }
        for sql, path in chosen.items():
            result = own.sql(sql, engine="auto")
            assert (result.stats.path, result.to_arrow().num_rows > 0) == (path, True), sql
        with pytest.raises(RemoteEngineError, match="the Spark engine cannot run"):
            own.sql(f"{flags} ORDER BY l_returnflag", engine="spark").to_arrow()


def test_a_closed_connection_stops_what_the_cluster_runs(spark_lake: SparkLake, heavy: None) -> None:  # noqa: ARG001
    own = connect(settings={**spark_lake.variables, "DAGFUSION_STATE_DIR": "none"})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: own.sql(ENDLESS, engine="spark").to_arrow())
        busy(spark_lake.cluster)
        own.close()
        assert isinstance(running.exception(PATIENCE_S), QueryCancelledError)
    await_rest(spark_lake.cluster)


def test_a_cancellation_reaches_the_cluster(spark_lake: SparkLake, connection: Connection, heavy: None) -> None:  # noqa: ARG001
    ended = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            connection.sql(ENDLESS, engine="spark").to_arrow()
        except QueryError as error:
            errors.append(error)
        ended.set()

    threading.Thread(target=run).start()
    with spark_lake.server.client() as client:
        busy(spark_lake.cluster)
        [running] = [one for one in client.get("/v1/queries").json()["queries"] if one["state"] == "running"]
        client.delete(f"/v1/queries/{running['id']}")
    assert ended.wait(PATIENCE_S)
    assert isinstance(errors[0], QueryCancelledError)
    await_rest(spark_lake.cluster)


def test_a_killed_worker_of_the_cluster_costs_time_or_an_error(
    spark_lake: SparkLake,
    connection: Connection,
    heavy: None,  # noqa: ARG001
) -> None:
    cluster = spark_lake.cluster
    if not isinstance(cluster, Cluster):
        pytest.skip("Spark has no workers here")
    sql = (
        "SELECT a.l_returnflag, count(*) AS n, sum(b.l_quantity) AS q FROM uat_default.lineitem a "
        "JOIN uat_default.lineitem b ON a.l_suppkey = b.l_suppkey GROUP BY a.l_returnflag"
    )
    expected = sorted(rows(connection, sql, "local"))
    for _ in range(20):
        with ThreadPoolExecutor(1) as pool:
            before = cluster.cpu_s
            outcome = pool.submit(lambda: sorted(rows(connection, sql, "spark")))
            while cluster.cpu_s < before + 0.3 and not outcome.done():
                time.sleep(0.01)
            if outcome.done():  # before the worker's end: again
                assert outcome.result() == expected
                continue
            cluster.kill_worker()
            if isinstance(error := outcome.exception(PATIENCE_S), RemoteEngineError):
                return
            assert error is None
            assert outcome.result() == expected
            return
    pytest.fail("the statement always ended before a worker was killed")

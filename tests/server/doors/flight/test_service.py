"""The Flight door over a real service: its workers, its catalog, its limits."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import psutil
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from dagfusion_client.errors import QueryCancelledError, QueryError, TooBusyError
from dagfusion_client.flight_client import FlightConnection
from dagfusion_query.access.authentication import ANONYMOUS, Tokens
from dagfusion_query.access.grants import ALL, Caller
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.flight.flight_door import FlightDoor
from tests.query.engine.conftest import Lake
from tests.server.doors.flight.conftest import command, url
from tests.server.service.conftest import PublishedCatalogs, Served, serving
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

ORGS = "local_silver_tax_id.orgs"
SLOW = (
    "select count(*) from generate_series(1, 100000) a, generate_series(1, 1000000) b where a.value * b.value % 7 = 3"
)
LARGE = 20_000_000
MEBIBYTE = 1 << 20
ME = Caller(ANONYMOUS, ALL, "flight")


@contextmanager
def opened(root: Path, **settings: Any) -> Iterator[tuple[Served, FlightDoor]]:
    """A service over a small lake, with its Flight door."""
    lake = Lake(root / "lake")
    with closing(lake.engine), serving(root) as serve:
        for state in ("CA", "NY"):
            rows = pa.table({"npi": range(1000), "name": [f"{state} {number}" for number in range(1000)]})
            lake.write(("Silver", "TaxID", "orgs"), rows, {"state": pa.scalar(state)})
        catalogs = PublishedCatalogs(root)
        catalogs.publish(lake.snapshot)
        served = serve(catalogs, **settings)
        limits = replace(ServiceSettings(flight_address="127.0.0.1:0"), **settings)
        door = FlightDoor(served.service, Tokens(root / "tokens.json"), limits)
        served.loop.run(door.start())
        try:
            yield served, door
        finally:
            served.loop.run(door.stop())


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory,
    processes: None,  # noqa: ARG001  # it starts some
) -> Iterator[tuple[Served, FlightDoor]]:
    with opened(tmp_path_factory.mktemp("flight")) as made:
        yield made


@pytest.fixture
def served(both: tuple[Served, FlightDoor]) -> Served:
    return both[0]


@pytest.fixture
def door(both: tuple[Served, FlightDoor]) -> FlightDoor:
    return both[1]


@pytest.fixture
def connection(door: FlightDoor) -> Iterator[FlightConnection]:
    with FlightConnection(url(door)) as made:
        yield made


def test_statements_and_parameters(adbc: flight_sql.Connection) -> None:
    with adbc.cursor() as cursor:
        sql = f"select npi, name, state from {ORGS} where state = ? and npi >= ? order by npi"
        assert cursor.execute(sql, ("CA", 998)).fetchall() == [(998, "CA 998", "CA"), (999, "CA 999", "CA")]
        assert cursor.execute(sql, ("NY", 999)).fetchall() == [(999, "NY 999", "NY")]
        assert cursor.execute("select $1 + 1 as one, $2 as two", (5, "x")).fetchall() == [(6, "x")]
        schema = cursor.adbc_execute_schema(f"select count(*) as n from {ORGS} where state = $1")
        assert [(field.name, field.type) for field in schema] == [("n", pa.int64())]
        cursor.execute(f"select * from datafusion.{ORGS} limit 3")
        assert cursor.fetch_arrow_table().num_rows == 3


def test_a_parameter_of_a_type_that_none_can_have(adbc: flight_sql.Connection) -> None:
    row = pa.record_batch({"x": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])})
    with adbc.cursor() as cursor, pytest.raises(flight_sql.ProgrammingError, match="has an unsupported type"):
        cursor.execute("select ? as x", row)


def test_the_catalog(adbc: flight_sql.Connection) -> None:
    [catalog] = adbc.adbc_get_objects(depth="all").read_all().to_pylist()
    [schema] = catalog["catalog_db_schemas"]
    [table] = schema["db_schema_tables"]
    assert f"{schema['db_schema_name']}.{table['table_name']}" == ORGS
    assert [column["column_name"] for column in table["table_columns"]] == ["npi", "name", "state"]
    assert adbc.adbc_get_table_schema("orgs").names == ["npi", "name", "state"]


def test_a_large_result_in_flat_memory(adbc: flight_sql.Connection) -> None:
    sql = f"select value as number, cast(value as double) as measure from generate_series(1, {LARGE})"
    process, total, flat = psutil.Process(), 0, 0
    with adbc.cursor() as cursor:
        cursor.execute(sql)
        for number, batch in enumerate(cursor.fetch_record_batch()):
            total += batch.num_rows
            if number == 200:
                flat = process.memory_info().rss
    assert total == LARGE
    assert process.memory_info().rss - flat < 100 * MEBIBYTE


def test_cancelling_frees_the_worker(served: Served, adbc: flight_sql.Connection) -> None:
    for _ in range(3):  # there are two workers
        with adbc.cursor() as cursor:
            cursor.adbc_statement.set_sql_query(SLOW)
            timer = threading.Timer(0.5, cursor.adbc_cancel)
            timer.start()
            with pytest.raises(adbc_driver_manager.Error) as raised:
                cursor.adbc_statement.execute_query()
            timer.join()
            assert raised.value.status_code == adbc_driver_manager.AdbcStatusCode.CANCELLED
    with adbc.cursor() as cursor:
        assert cursor.execute("select 1").fetchone() == (1,)
    assert eventually(lambda: served.latest().state.is_over)


@pytest.mark.parametrize(
    "call",
    [
        lambda client, descriptor, options: client.get_flight_info(descriptor, options),
        lambda client, descriptor, options: client.do_get(flight.Ticket(descriptor.command), options).read_all(),
    ],
    ids=["info", "rows"],
)
def test_a_client_whose_deadline_passes(served: Served, door: FlightDoor, call: Callable[..., object]) -> None:
    descriptor = command("CommandStatementQuery", query=SLOW)
    before = {query.id for query in served.ask(served.queries)}

    def begun() -> list[str]:
        return [query.state for query in served.ask(served.queries) if query.id not in before]

    with flight.connect(url(door)) as client:
        for timeout_s in (0.5, 2.0, 8.0, 30.0):  # a busy machine may not begin it in less
            with pytest.raises(flight.FlightTimedOutError):
                call(client, descriptor, flight.FlightCallOptions(timeout=timeout_s))
            if eventually(lambda: bool(begun()), 1):
                break
    assert begun()
    assert eventually(lambda: set(begun()) == {"cancelled"})


def test_cancelled_by_somebody_else(served: Served, connection: FlightConnection) -> None:
    found = connection.sql(f"select value from generate_series(1, {1000 * LARGE})")
    batches = iter(found)
    next(batches)
    served.ask(lambda: served.service.cancel(found.id, ME))
    with pytest.raises(QueryCancelledError, match="cancelled by"):
        for _ in batches:
            pass


def test_a_session_with_less_time(door: FlightDoor) -> None:
    option = {"adbc.flight.sql.session.option.query_timeout_s": "0.3"}
    cookies = {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}
    with flight_sql.connect(url(door), db_kwargs=cookies, autocommit=True) as connection:
        connection.adbc_connection.set_options(**option)
        with connection.cursor() as cursor, pytest.raises(adbc_driver_manager.OperationalError) as raised:
            cursor.execute(SLOW)
        assert raised.value.status_code == adbc_driver_manager.AdbcStatusCode.TIMEOUT
        assert "0.3 s" in str(raised.value)


def test_a_busy_service_says_when_to_come_back(tmp_path: Path) -> None:
    with (
        opened(tmp_path, workers=1, queue_length=1) as (served, door),
        FlightConnection(url(door)) as connection,
        ThreadPoolExecutor() as pool,
    ):
        first, second = (pool.submit(_failing, connection) for _ in range(2))
        served.wait_for(lambda: len(served.queries(ME)) == 2)
        with pytest.raises(TooBusyError) as raised:
            connection.sql("select 1")
        assert raised.value.retry_after_s > 0
        assert len(connection.tables()) == 1  # what needs no worker waits for none
        assert not first.done()
        assert not second.done()
        served.ask(lambda: [served.service.cancel(info.id, ME) for info in served.queries(ME)])
        assert (first.result(30), second.result(30)) == ("query_cancelled", "query_cancelled")


def _failing(connection: FlightConnection) -> str:
    with pytest.raises(QueryError) as raised:
        connection.sql(SLOW)
    return raised.value.code


@pytest.mark.slow
@pytest.mark.usefixtures("long")
def test_two_hundred_clients_at_once(tmp_path: Path) -> None:
    sql, clients = f"select * from {ORGS} where state = 'CA' and npi = 5", 200
    outcomes: Counter[str] = Counter()
    gate = threading.Barrier(clients + 1)
    over, answers = threading.Event(), itertools.count(1)

    def ask(door: FlightDoor) -> Counter[str]:
        mine: Counter[str] = Counter()
        with FlightConnection(url(door)) as connection:
            gate.wait()
            while not over.is_set():
                try:
                    mine[f"{connection.sql(sql).to_arrow().num_rows} rows"] += 1
                    if next(answers) > 2 * clients:
                        over.set()
                except TooBusyError as error:
                    mine["busy"] += 1
                    over.wait(min(error.retry_after_s, 0.2))
                except BaseException:  # any other error ends the test
                    over.set()
                    raise
        return mine

    with opened(tmp_path) as (_, door), ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask, door) for _ in range(clients)]
        gate.wait()
        patience = threading.Timer(120.0, over.set)
        patience.start()
        with FlightConnection(url(door)) as connection:
            while not over.wait(0.1):
                assert len(connection.tables()) == 1
        patience.cancel()
        for future in asking:
            outcomes += future.result(60)
    assert outcomes.keys() <= {"1 rows", "busy"}
    assert outcomes["1 rows"] > clients

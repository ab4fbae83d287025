"""`dagfusion_query.connect("grpc://...")`, as the embedded connection behaves."""

import gc
import threading
from collections.abc import Iterator
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
import trustme

import dagfusion_query
from dagfusion_client.errors import (
    ConnectionClosedError,
    ExecutionError,
    QueryCancelledError,
    QueryError,
    ServiceUnavailableError,
    ServiceUnreachableError,
    SettingsError,
    SqlSyntaxError,
    TooBusyError,
    UnauthenticatedError,
    UnknownTableError,
)
from dagfusion_client.flight_client import FlightCall, FlightCalls, FlightConnection
from dagfusion_server.doors.flight.flight_door import FlightDoor
from tests.server.doors.flight.conftest import ORDERS, Doors, url
from tests.server.fake_service import FakeService, result
from tests.waiting import eventually


@pytest.fixture
def connection(door: FlightDoor) -> Iterator[FlightConnection]:
    with FlightConnection(url(door)) as made:
        yield made


def test_the_way_in(door: FlightDoor) -> None:
    with dagfusion_query.connect(url(door), settings={}) as made:
        assert isinstance(made, FlightConnection)
        assert made.sql("select * from orders").to_arrow() == ORDERS


@pytest.mark.parametrize(
    ("params", "calls"),
    [(None, ["DO_GET"]), ([7], ["DO_ACTION", "DO_PUT", "DO_GET", "DO_ACTION"])],
    ids=["text", "parameters"],
)
def test_rows_come_with_the_first_call_of_a_statement(
    connection: FlightConnection, monkeypatch: pytest.MonkeyPatch, params: Any, calls: list[str]
) -> None:
    made: list[str] = []

    def start_call(calls: FlightCalls, info: Any) -> FlightCall:
        made.append(info.method.name)
        return begin(calls, info)

    begin = FlightCalls.start_call
    monkeypatch.setattr(FlightCalls, "start_call", start_call)
    rows = connection.sql("select * from orders", params)
    assert rows.to_arrow() == ORDERS
    assert rows.id
    assert made == calls


@pytest.mark.parametrize("rows", [1, 3, 12, 100, 5000])
def test_values_are_aligned_for_the_readers_of_a_result(
    service: FakeService, connection: FlightConnection, rows: int
) -> None:
    table = pa.table({"id": range(rows), "name": [f"n{n}" for n in range(rows)], "at": pa.array(range(rows), "date64")})
    service.results["select aligned"] = result(table)
    found = connection.sql("select aligned").to_arrow()
    assert found == table
    chunks = [chunk for name in ("id", "at") for chunk in found[name].chunks]
    assert [chunk.buffers()[1].address % 8 for chunk in chunks] == [0] * len(chunks)


@pytest.mark.parametrize(
    ("sql", "params", "row"),
    [
        ("select $1, $2", [5, "x"], {"1": 5, "2": "x"}),
        ("select $1, $2", (date(2024, 1, 15), None), {"1": date(2024, 1, 15), "2": None}),
        ("select $b, $a", {"a": 1, "b": 2}, {"a": 1, "b": 2}),
        ("select $1, $2", [pa.scalar(1, pa.int8()), pa.scalar(None, pa.string())], {"1": 1, "2": None}),
    ],
)
def test_parameters(connection: FlightConnection, service: FakeService, sql: str, params: Any, row: Any) -> None:
    service.results[sql] = result(ORDERS)
    assert connection.sql(sql, params).to_arrow() == ORDERS
    asked = service.asked[-1][0].params
    assert asked is not None
    assert asked.to_pylist() == [row]


@pytest.mark.parametrize(
    "error",
    [
        SqlSyntaxError("syntax error at line 1, column 3: oh", 1, 3),
        TooBusyError("too many queries", 2.5),
        ExecutionError("Divide by zero. Detail: it is in the text"),
        QueryCancelledError("cancelled by bob"),
    ],
)
def test_errors_are_the_services_own(connection: FlightConnection, service: FakeService, error: QueryError) -> None:
    service.results["select"] = result(ORDERS, refused=error)
    with pytest.raises(type(error)) as raised:
        connection.sql("select")
    assert (str(raised.value), raised.value.details()) == (str(error), error.details())
    service.results["select"] = result(ORDERS, fails=error)
    found = connection.sql("select")
    with pytest.raises(type(error)) as raised:
        found.to_arrow()
    assert (str(raised.value), raised.value.details()) == (str(error), error.details())
    with pytest.raises(UnknownTableError, match="did you mean"):
        connection.explain("select nothing")


def test_stats_of_what_was_read_to_its_end_outlive_the_connection(door: FlightDoor) -> None:
    with FlightConnection(url(door)) as connection:
        found, left = connection.sql("select * from orders"), connection.sql("select * from orders")
        found.to_arrow()
    assert (found.stats.files_total, found.stats.files_read, found.stats.rows) == (4, 1, 3)
    with pytest.raises(ConnectionClosedError, match="is closed: connect again"):
        _ = left.stats


def test_tables(connection: FlightConnection) -> None:
    tables = connection.tables()
    assert [table.name for table in tables] == [
        "prod_sales.orders",
        "uat_health.orgs",
        "uat_sales.orders",
        "uat_sales.raw_orders",
    ]
    assert tables[2].columns == {"id": "int64", "price": "decimal128(12, 2)", "date": "date32[day]"}
    assert tables[2].partition_columns == ("date",)


def test_cancel(connection: FlightConnection, service: FakeService) -> None:
    service.results["select hangs"] = result(ORDERS, hangs=True)
    found = connection.sql("select hangs")
    rows: list[int] = []
    thread = threading.Thread(target=lambda: rows.extend(batch.num_rows for batch in found))
    thread.start()
    assert eventually(lambda: rows == [3])
    found.cancel()
    thread.join(20)
    assert rows == [3]
    assert eventually(lambda: not service.open)


@pytest.mark.usefixtures("heavy")
def test_results_that_nobody_wants_are_given_up(door: FlightDoor, service: FakeService) -> None:
    service.results["select hangs"] = result(ORDERS, hangs=True)
    with FlightConnection(url(door)) as connection:
        connection.sql("select hangs")
        gc.collect()
        assert eventually(lambda: not service.open)
        for batch in connection.sql("select hangs"):
            assert batch.num_rows == 3
            break
        gc.collect()
        assert eventually(lambda: not service.open)
        held = connection.sql("select hangs")
    assert eventually(lambda: not service.open)
    assert held.to_arrow().num_rows == 0


def test_tokens(doors: Doors, service: FakeService) -> None:
    door = doors.open(service, anonymous="never")
    with FlightConnection(url(door), doors.tokens.create("ann", ["uat"])) as connection:
        assert {table.name.partition("_")[0] for table in connection.tables()} == {"uat"}
        assert connection.sql("select * from orders").to_arrow() == ORDERS
    with FlightConnection(url(door), "guess") as connection, pytest.raises(UnauthenticatedError, match="not one of"):
        connection.tables()
    with (
        FlightConnection(url(door)) as connection,
        pytest.raises(UnauthenticatedError, match="requires an access token"),
    ):
        connection.sql("select * from orders")


def test_nobody_there(door: FlightDoor) -> None:
    with (
        FlightConnection("grpc://127.0.0.1:1") as connection,
        pytest.raises(
            ServiceUnreachableError,
            match=r"^the query service at grpc://127.0.0.1:1 does not answer \(Connection refused\)",
        ),
    ):
        connection.sql("select 1")
    with (
        FlightConnection(f"grpc+tls://127.0.0.1:{door.port}") as connection,
        pytest.raises(ServiceUnreachableError, match="certificate"),
    ):
        connection.sql("select 1")


@pytest.mark.parametrize(
    "address", ["grpc://", "grpc://host", "grpc://host:99999", "grpc://user:pw@host:1", "grpc://h:1/path", "http://h:1"]
)
def test_urls_that_are_none(address: str) -> None:
    with pytest.raises(SettingsError, match="URL must"):
        FlightConnection(address)
    with pytest.raises(SettingsError, match="printable"):
        FlightConnection("grpc://h:1", "a b")


def test_tls(doors: Doors, service: FakeService, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    (tmp_path / "certificate.pem").write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    door = doors.open(service, tls_certificate=str(tmp_path / "certificate.pem"), tls_key=str(tmp_path / "key.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with FlightConnection(f"grpc+tls://localhost:{door.port}") as connection:
        assert connection.sql("select * from orders").to_arrow() == ORDERS


def test_a_service_that_ends_in_the_middle(doors: Doors, service: FakeService) -> None:
    service.results["select hangs"] = result(ORDERS, hangs=True)
    door = doors.open(service)
    with FlightConnection(url(door)) as connection:
        batches = iter(connection.sql("select hangs"))
        assert next(batches).num_rows == 3
        doors.stop(door)
        with pytest.raises(ServiceUnavailableError, match="stopping"):
            next(batches)

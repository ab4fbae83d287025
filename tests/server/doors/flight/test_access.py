"""Who gets in, and what it sees."""

import base64
from datetime import UTC, datetime, timedelta

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from dagfusion_client import commands_and_tickets
from tests.server.doors.flight.conftest import ORDERS, Doors, act, command, query, url
from tests.server.fake_service import FakeService, result

PASSWORD = {"username": "whoever"}


def connect(address: str, **options: str) -> flight_sql.Connection:
    return flight_sql.connect(address, db_kwargs=options, autocommit=True)


def bearing(secret: str, *more: tuple[bytes, bytes]) -> flight.FlightCallOptions:
    return flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {secret}".encode()), *more])


def test_a_token_as_the_password(doors: Doors, service: FakeService) -> None:
    door = doors.open(service, anonymous="never")
    secret = doors.tokens.create("ann", ["uat"])
    with connect(url(door), username="whatever", password=secret) as connection, connection.cursor() as cursor:
        assert cursor.execute("select * from orders").fetch_arrow_table() == ORDERS
    assert service.asked[-1][1].user == "ann"


def test_a_token_in_the_header(doors: Doors, service: FakeService) -> None:
    door = doors.open(service, anonymous="never")
    header = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {doors.tokens.create('ann', ['uat'])}"}
    with connect(url(door), **header) as connection, connection.cursor() as cursor:
        assert cursor.execute("select * from orders").fetch_arrow_table() == ORDERS
    assert service.asked[-1][1].user == "ann"


def test_pyarrow_shakes_hands(doors: Doors, service: FakeService) -> None:
    door = doors.open(service, anonymous="never")
    secret = doors.tokens.create("ann", ["uat"])
    with flight.connect(url(door)) as client:
        pair = client.authenticate_basic_token(b"ann", secret.encode())
        assert query(client, "select * from orders", flight.FlightCallOptions(headers=[pair])) == ORDERS
        with pytest.raises(flight.FlightUnauthenticatedError):
            client.authenticate_basic_token(b"ann", b"guess")


@pytest.mark.parametrize(
    "header", ["Bearer guess", "Bearer dft_0123456789ab_" + "x" * 43, "Basic !", "Digest x", "Basic eA=="]
)
def test_whatever_is_no_token_is_refused(doors: Doors, service: FakeService, header: str) -> None:
    door = doors.open(service)
    with flight.connect(url(door)) as client:
        options = flight.FlightCallOptions(headers=[(b"authorization", header.encode())])
        for call in (
            lambda: query(client, "select * from orders", options),
            lambda: list(client.list_actions(options)),
            lambda: list(client.list_flights(b"", options)),
            lambda: client.get_flight_info(command("CommandGetTables"), options),
            lambda: list(client.do_action(flight.Action("CloseSession", b""), options)),
        ):
            with pytest.raises(flight.FlightUnauthenticatedError) as raised:
                call()
            assert "Traceback" not in str(raised.value)
            assert ".py" not in str(raised.value)
    assert service.asked == []


def test_revoked_and_expired_tokens_are_refused(doors: Doors, service: FakeService) -> None:
    door = doors.open(service)
    revoked = doors.tokens.create("ann", ["uat"])
    expired = doors.tokens.create("bob", ["uat"], datetime.now(UTC) - timedelta(seconds=1))
    with flight.connect(url(door)) as client:
        assert query(client, "select * from orders", bearing(revoked)) == ORDERS
        doors.tokens.revoke("ann")
        for secret, why in ((revoked, "revoked"), (expired, "expired")):
            with pytest.raises(flight.FlightUnauthenticatedError, match=why):
                query(client, "select * from orders", bearing(secret))


def test_without_a_token(doors: Doors, service: FakeService) -> None:
    door = doors.open(service, anonymous="never")
    with pytest.raises(adbc_driver_manager.Error, match="access token"), connect(url(door)) as connection:
        connection.adbc_get_table_types()


@pytest.mark.parametrize("anonymous", ["auto", "loopback"])
def test_a_proxy_is_not_loopback(doors: Doors, service: FakeService, anonymous: str) -> None:
    door = doors.open(service, anonymous=anonymous)
    with flight.connect(url(door)) as client:
        assert query(client, "select * from orders") == ORDERS
        for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via", b"x-forwarded-proto", b"x-envoy-internal"):
            options = flight.FlightCallOptions(headers=[(name, b"127.0.0.1")])
            with pytest.raises(flight.FlightUnauthenticatedError):
                query(client, "select * from orders", options)


def test_the_first_token_closes_the_door_for_good(doors: Doors, service: FakeService) -> None:
    door = doors.open(service)
    with flight.connect(url(door)) as client:
        started = client.get_flight_info(command("CommandStatementQuery", query="select * from orders"))
        calls = (
            lambda: query(client, "select * from orders"),
            lambda: list(client.list_actions()),
            lambda: list(client.list_flights()),
            lambda: client.get_flight_info(command("CommandGetTables")),
            lambda: client.do_get(started.endpoints[0].ticket).read_all(),
            lambda: act(client, "dagfusion.Tables"),
        )

        def all_are_refused() -> None:
            for call in calls:
                with pytest.raises(flight.FlightUnauthenticatedError, match="requires an access token"):
                    call()
            with pytest.raises(pa.ArrowException, match="requires an access token"):  # pyarrow gives no status here
                client.get_schema(command("CommandStatementQuery", query="select * from orders"))

        assert query(client, "select * from orders") == ORDERS
        secret = doors.tokens.create("ann", ["*"])
        all_are_refused()
        assert query(client, "select * from orders", bearing(secret)) == ORDERS
        doors.tokens.revoke("ann")
        all_are_refused()
        doors.tokens.path.unlink()
        all_are_refused()


def test_loopback_is_a_choice_that_outlives_tokens(doors: Doors, service: FakeService) -> None:
    doors.tokens.create("ann", ["uat"])
    door = doors.open(service, anonymous="loopback")
    with flight.connect(url(door)) as client:
        assert query(client, "select * from orders") == ORDERS


def test_damaged_tokens_let_nobody_in(doors: Doors, service: FakeService) -> None:
    door = doors.open(service)
    secret = doors.tokens.create("ann", ["*"])
    doors.tokens.path.write_text("{")
    with flight.connect(url(door)) as client:
        for options in (None, bearing(secret)):
            with pytest.raises(flight.FlightUnavailableError, match="cannot be checked now") as raised:
                query(client, "select * from orders", options)
            assert str(doors.tokens.path) not in str(raised.value)


def test_credentials_come_once(doors: Doors, service: FakeService) -> None:
    door = doors.open(service)
    secret = doors.tokens.create("ann", ["*"])
    with flight.connect(url(door)) as client, pytest.raises(pa.ArrowInvalid, match="may come once"):
        query(client, "select * from orders", bearing(secret, (b"authorization", b"Bearer guess")))


def test_other_environments_do_not_exist(doors: Doors, service: FakeService) -> None:
    door = doors.open(service, anonymous="never")
    secret = doors.tokens.create("ann", ["uat_sales.orders"])
    with connect(url(door), password=secret, **PASSWORD) as connection:
        [catalog] = connection.adbc_get_objects(depth="all").read_all().to_pylist()
        [schema] = catalog["catalog_db_schemas"]
        assert (schema["db_schema_name"], [t["table_name"] for t in schema["db_schema_tables"]]) == (
            "uat_sales",
            ["orders"],
        )
        with pytest.raises(adbc_driver_manager.ProgrammingError):
            connection.adbc_get_table_schema("orgs")
    with flight.connect(url(door)) as client:
        [tables] = act(client, "dagfusion.Tables", headers=[(b"authorization", f"Bearer {secret}".encode())])
    assert b"raw_orders" not in tables
    assert b"prod" not in tables


def test_what_one_has_nobody_else_can_use(doors: Doors, service: FakeService) -> None:
    door = doors.open(service, anonymous="never")
    service.results["select hangs"] = result(ORDERS, hangs=True)
    ann, bob = (bearing(doors.tokens.create(name, ["uat", "prod"])) for name in ("ann", "bob"))
    with flight.connect(url(door)) as client:
        info = client.get_flight_info(command("CommandStatementQuery", query="select hangs"), ann)
        with pytest.raises(pa.ArrowKeyError, match="unknown or expired ticket"):
            client.do_get(info.endpoints[0].ticket, bob).read_all()
        cancel = flight.Action(
            "CancelFlightInfo", commands_and_tickets.encoded("CancelFlightInfoRequest", info=info.serialize())
        )
        with pytest.raises(pa.ArrowKeyError, match="unknown or expired ticket"):
            list(client.do_action(cancel, bob))

        create = commands_and_tickets.packed("ActionCreatePreparedStatementRequest", query="select * from orders")
        [made] = client.do_action(flight.Action("CreatePreparedStatement", create), ann)
        _, prepared = commands_and_tickets.unpack(made.body.to_pybytes())
        handle = prepared.prepared_statement_handle
        stolen = command("CommandPreparedStatementQuery", prepared_statement_handle=handle)
        with pytest.raises(pa.ArrowKeyError, match="unknown or expired prepared statement"):
            client.get_flight_info(stolen, bob)
        close = commands_and_tickets.packed("ActionClosePreparedStatementRequest", prepared_statement_handle=handle)
        list(client.do_action(flight.Action("ClosePreparedStatement", close), bob))
        assert client.get_flight_info(stolen, ann).schema == ORDERS.schema
        with pytest.raises(pa.ArrowKeyError):
            list(client.do_action(flight.Action("dagfusion.Query", info.app_metadata), bob))


def test_credentials_in_odd_clothes(doors: Doors, service: FakeService) -> None:
    door = doors.open(service, anonymous="never")
    secret = doors.tokens.create("ann", ["uat"])
    basic = "BASIC " + base64.b64encode(f":{secret}".encode()).decode()
    assert basic.endswith("=")
    for header in (f"bearer {secret}", basic, basic.rstrip("=")):
        options = flight.FlightCallOptions(headers=[(b"authorization", header.encode())])
        with flight.connect(url(door)) as client:
            assert query(client, "select * from orders", options) == ORDERS

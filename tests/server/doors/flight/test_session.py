"""Session options, as Flight's actions and ADBC set them."""

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from pyarrow import flight

from dagfusion_client import commands_and_tickets
from tests.server.doors.flight.conftest import Doors, act, query, url
from tests.server.fake_service import FakeService

Headers = list[tuple[bytes, bytes]]


class Cookies(flight.ClientMiddlewareFactory):  # type: ignore[misc]
    """Remembers what the server sets."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def start_call(self, _info: flight.CallInfo) -> flight.ClientMiddleware:
        return Jar(self.found)


class Jar(flight.ClientMiddleware):  # type: ignore[misc]
    def __init__(self, found: list[str]) -> None:
        self._found = found

    def received_headers(self, headers: dict[str, list[str]]) -> None:
        self._found += headers.get("set-cookie", [])


def set_options(client: flight.FlightClient, headers: Headers = [], **options: object) -> dict[str, int]:  # noqa: B006
    request = commands_and_tickets.make("SetSessionOptionsRequest")
    for name, value in options.items():
        kind = {str: "string_value", int: "int64_value", float: "double_value", bool: "bool_value"}.get(type(value))
        entry = request.session_options[name]
        if kind is not None:
            setattr(entry, kind, value)
    [answer] = act(client, "SetSessionOptions", request.SerializeToString(), headers)
    return {
        name: error.value
        for name, error in commands_and_tickets.decode("SetSessionOptionsResult", answer).errors.items()
    }


def get_options(client: flight.FlightClient, headers: Headers = []) -> dict[str, object]:  # noqa: B006
    [answer] = act(client, "GetSessionOptions", b"", headers)
    options = commands_and_tickets.decode("GetSessionOptionsResult", answer).session_options
    return {name: getattr(value, value.WhichOneof("option_value")) for name, value in options.items()}


def test_options_hold_for_the_calls_to_come(doors: Doors, service: FakeService) -> None:
    door, jar = doors.open(service), Cookies()
    with flight.connect(url(door), middleware=[jar]) as client:
        assert set_options(client, query_timeout_s=2.5, limit_rows=10, catalog="datafusion") == {}
        cookie = [(b"cookie", jar.found[-1].partition(";")[0].encode())]
        assert get_options(client, cookie) == {"catalog": "datafusion", "query_timeout_s": 2.5, "limit_rows": 10}
        query(client, "select * from orders", flight.FlightCallOptions(headers=cookie))
        assert (service.asked[-1][0].timeout_s, service.asked[-1][0].limit_rows) == (2.5, 10)

        assert set_options(client, cookie, result_cache=False) == {}
        assert get_options(client, cookie)["result_cache"] is False
        query(client, "select * from orders", flight.FlightCallOptions(headers=cookie))
        assert not service.asked[-1][0].result_cache
        assert set_options(client, cookie, result_cache="true") == {}  # as ADBC sends it

        assert set_options(client, cookie, query_timeout_s=None) == {}  # a value with nothing set unsets
        assert get_options(client, cookie) == {"catalog": "datafusion", "limit_rows": 10}
        query(client, "select * from orders")  # another client's, without the cookie
        assert (service.asked[-1][0].limit_rows, service.asked[-1][0].result_cache) == (None, True)

        [closed] = act(client, "CloseSession", b"", cookie)
        assert commands_and_tickets.decode("CloseSessionResult", closed).status == 1
        with pytest.raises(pa.ArrowInvalid, match="the session has expired"):
            get_options(client, cookie)


def test_options_that_cannot_be(doors: Doors, service: FakeService) -> None:
    invalid_name, invalid_value = 1, 2
    with flight.connect(url(doors.open(service))) as client:
        assert set_options(client, colour="red", catalog="other", query_timeout_s=-1.0, limit_rows="many") == {
            "colour": invalid_name,
            "catalog": invalid_value,
            "query_timeout_s": invalid_value,
            "limit_rows": invalid_value,
        }
        assert set_options(client, query_timeout_s=float("inf"), limit_rows=f"{10**30}") == {
            "query_timeout_s": invalid_value,
            "limit_rows": invalid_value,
        }
        assert set_options(client, limit_rows=float("inf"), result_cache="perhaps") == {
            "limit_rows": invalid_value,
            "result_cache": invalid_value,
        }
        assert set_options(client, query_timeout_s=float("nan"), limit_rows=0) == {
            "query_timeout_s": invalid_value,
            "limit_rows": invalid_value,
        }
        assert set_options(client, query_timeout_s="30", limit_rows="5") == {}  # as ADBC sends them
        assert get_options(client) == {"catalog": "datafusion"}


def test_nobody_elses_session(doors: Doors, service: FakeService) -> None:
    door, jar = doors.open(service), Cookies()
    ann, bob = (f"Bearer {doors.tokens.create(name, ['*'])}".encode() for name in ("ann", "bob"))
    with flight.connect(url(door), middleware=[jar]) as client:
        set_options(client, [(b"authorization", ann)], limit_rows=1)
        cookie = (b"cookie", jar.found[-1].partition(";")[0].encode())
        with pytest.raises(pa.ArrowInvalid, match="the session has expired"):
            get_options(client, [(b"authorization", bob), cookie])
        assert get_options(client, [(b"authorization", ann), cookie])["limit_rows"] == 1
        for nonsense in (b"arrow_flight_session_id=zz", b"arrow_flight_session_id=00"):
            with pytest.raises(pa.ArrowInvalid, match="the session has expired"):
                get_options(client, [(b"authorization", ann), (b"cookie", nonsense)])
        assert get_options(client, [(b"authorization", ann), (b"cookie", b"other=1")]) == {"catalog": "datafusion"}


def test_adbc_sets_and_reads_them(doors: Doors, service: FakeService) -> None:
    door = doors.open(service)
    cookies = {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}
    option = "adbc.flight.sql.session.option."
    with flight_sql.connect(url(door), db_kwargs=cookies, autocommit=True) as connection:
        connection.adbc_connection.set_options(**{f"{option}limit_rows": "7"})
        assert connection.adbc_connection.get_option_int(f"{option}limit_rows") == 7
        with connection.cursor() as cursor:
            cursor.execute("select * from orders").fetchall()
        assert service.asked[-1][0].limit_rows == 7
        with pytest.raises(adbc_driver_manager.Error):
            connection.adbc_connection.set_options(**{f"{option}colour": "red"})

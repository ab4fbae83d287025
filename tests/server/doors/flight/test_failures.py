"""Nothing of the server leaves it in an error: no traceback, no path, no source line."""

import re
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from pyarrow import flight

from dagfusion_client import commands_and_tickets
from dagfusion_client.errors import EventLogError, QueryError, SettingsError, SnapshotError, TooBusyError
from tests.server.doors.flight.conftest import ORDERS, command
from tests.server.fake_service import FakeService, result

COMMAND = command("CommandStatementQuery", query="select")
PREPARE = flight.Action(
    "CreatePreparedStatement", commands_and_tickets.packed("ActionCreatePreparedStatementRequest", query="select")
)
Unimplemented = pa.ArrowNotImplementedError
PRIVATE = (SettingsError, EventLogError, SnapshotError)
LEAKS = ("Traceback", ".py", "File ", "dagfusion_", "secret_detail", "ZeroDivision")


def kinds(base: type[QueryError] = QueryError) -> Iterator[type[QueryError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def said(call: Callable[[], object]) -> str:
    with pytest.raises((pa.ArrowException, flight.FlightError, OSError)) as raised:
        call()
    return str(raised.value)


def calls(client: flight.FlightClient) -> list[Callable[[], object]]:
    return [
        lambda: client.get_flight_info(COMMAND),
        lambda: client.get_schema(COMMAND),
        lambda: list(client.do_action(PREPARE)),
        lambda: list(client.do_action(flight.Action("dagfusion.Explain", COMMAND.command))),
    ]


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=str))
def test_every_error_that_is_for_clients_says_its_text_and_no_more(
    client: flight.FlightClient, service: FakeService, kind: type[QueryError]
) -> None:
    error = kind("it is so") if kind is not TooBusyError else TooBusyError("it is so", 3)
    error.__cause__ = ZeroDivisionError("secret_detail")
    shown, hidden = ("internal error ", "it is so") if issubclass(kind, PRIVATE) else ("it is so", "internal error ")
    service.results["select"] = result(ORDERS, refused=error)
    for call in calls(client):
        text = said(call)
        assert shown in text
        assert not [leak for leak in (*LEAKS, hidden) if leak in text]
    service.results["select"] = result(ORDERS, fails=error)
    # Not read by `read_all`: pyarrow takes a cancelled stream for Ctrl-C there.
    text = said(lambda: client.do_get(client.get_flight_info(COMMAND).endpoints[0].ticket).to_reader().read_all())
    assert shown in text
    assert not [leak for leak in (*LEAKS, hidden) if leak in text]


def test_what_nobody_expected_is_logged_and_gets_an_id(
    client: flight.FlightClient, service: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service.results["select"] = result(ORDERS, refused=ZeroDivisionError("secret_detail"))
    for call in calls(client):
        caplog.clear()
        text = said(call)
        assert not [leak for leak in LEAKS if leak in text]
        (reference,) = re.findall(r"internal error (\w+):", text)
        assert reference in caplog.text
        assert "secret_detail" in caplog.text


@pytest.mark.parametrize(
    ("call", "status", "text"),
    [
        (lambda c: c.get_flight_info(flight.FlightDescriptor.for_path("a")), pa.ArrowInvalid, "Flight SQL command"),
        (lambda c: c.get_flight_info(flight.FlightDescriptor.for_command(b"\xff")), pa.ArrowInvalid, "Flight SQL"),
        (lambda c: c.do_get(flight.Ticket(b"x")).read_all(), pa.ArrowInvalid, "Flight SQL"),
        (
            lambda c: c.do_get(
                flight.Ticket(commands_and_tickets.packed("TicketStatementQuery", statement_handle=b"x"))
            ).read_all(),
            pa.ArrowKeyError,
            "unknown or expired ticket",
        ),
        (
            lambda c: c.get_flight_info(command("CommandPreparedStatementQuery", prepared_statement_handle=b"x")),
            pa.ArrowKeyError,
            "unknown or expired prepared statement",
        ),
        (lambda c: c.get_flight_info(command("CommandStatementUpdate", query="x")), pa.ArrowInvalid, "use SELECT"),
        (lambda c: c.get_schema(command("CommandStatementUpdate", query="x")), pa.ArrowInvalid, "use SELECT"),
        (
            lambda c: c.get_flight_info(command("CommandStatementQuery", query="x", transaction_id=b"t")),
            Unimplemented,
            "no transactions",
        ),
        (
            lambda c: c.get_flight_info(command("CommandStatementSubstraitPlan")),
            Unimplemented,
            "Substrait",
        ),
        (lambda c: list(c.do_action(flight.Action("Explode", b""))), Unimplemented, "Explode"),
        (
            lambda c: list(c.do_action(flight.Action("BeginTransaction", b""))),
            Unimplemented,
            "transactions",
        ),
        (lambda c: list(c.do_action(flight.Action("CancelFlightInfo", b"\xff"))), pa.ArrowInvalid, "CancelFlightInfo"),
        (
            lambda c: list(c.do_action(flight.Action("CancelFlightInfo", b"\x0a\x02zz"))),
            pa.ArrowInvalid,
            "must hold a FlightInfo",
        ),
        (lambda c: list(c.do_action(flight.Action("CreatePreparedStatement", b"zz"))), pa.ArrowInvalid, "Flight SQL"),
        (
            lambda c: list(c.do_action(flight.Action("CreatePreparedStatement", COMMAND.command))),
            pa.ArrowInvalid,
            "must be an ActionCreatePreparedStatementRequest",
        ),
        (lambda c: list(c.do_action(flight.Action("SetSessionOptions", b"\xff"))), pa.ArrowInvalid, "SetSession"),
        (lambda c: list(c.do_action(flight.Action("dagfusion.Query", b"\xff"))), pa.ArrowKeyError, "no query"),
    ],
)
def test_nonsense_is_refused_politely(
    client: flight.FlightClient, call: Callable[[flight.FlightClient], object], status: type[Exception], text: str
) -> None:
    with pytest.raises(status, match=text) as raised:
        call(client)
    assert not [leak for leak in LEAKS[:4] if leak in str(raised.value)]


@pytest.mark.parametrize(
    ("kind", "buffers"),
    [
        (pa.string(), [None, pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pa.py_buffer(b"\xff\xfe")]),
        (pa.decimal128(3, 1), [None, pa.py_buffer(b"\x7f" * 16)]),
    ],
)
def test_damaged_parameters_are_blamed_on_the_parameters(
    client: flight.FlightClient, service: FakeService, kind: pa.DataType, buffers: list[pa.Buffer]
) -> None:
    service.results["select $1"] = result(ORDERS)
    create = commands_and_tickets.packed("ActionCreatePreparedStatementRequest", query="select $1")
    [made] = client.do_action(flight.Action("CreatePreparedStatement", create))
    _, prepared = commands_and_tickets.unpack(made.body.to_pybytes())
    handle = command("CommandPreparedStatementQuery", prepared_statement_handle=prepared.prepared_statement_handle)
    column = pa.Array.from_buffers(kind, 1, buffers)

    writer, _ = client.do_put(handle, pa.schema({"1": kind}))
    writer.write_batch(pa.record_batch([column], names=["1"]))
    with pytest.raises(pa.ArrowInvalid, match="the Arrow stream of the parameters cannot be read"):
        writer.close()
    assert service.streams == []


def test_writing_is_refused(client: flight.FlightClient) -> None:
    writer, _ = client.do_put(command("CommandStatementIngest"), ORDERS.schema)
    with pytest.raises(pa.ArrowInvalid, match="use SELECT") as raised:
        writer.close()
    assert "Traceback" not in str(raised.value)
    writer, reader = client.do_exchange(COMMAND)
    with pytest.raises(Unimplemented, match="DoExchange"):
        reader.read_chunk()
    with pytest.raises(Unimplemented):
        writer.close()


def test_there_are_no_flights_but_actions(client: flight.FlightClient) -> None:
    assert list(client.list_flights()) == []
    assert {"CreatePreparedStatement", "CancelFlightInfo", "SetSessionOptions"} <= {
        action.type for action in client.list_actions()
    }

"""Results on their way: in bounded memory, to their end, and when they break."""

from collections.abc import Iterator
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import psutil
import pyarrow as pa
import pytest
from pyarrow import flight

from dagfusion_client import commands_and_tickets
from dagfusion_client.errors import ExecutionError, StoreUnavailableError
from dagfusion_server.doors.flight import flight_statements
from dagfusion_server.doors.flight.flight_door import FlightDoor
from tests.server.doors.flight.conftest import ORDERS, Doors, act, command, query, url
from tests.server.fake_service import FakeService, FakeStream, Result, result
from tests.waiting import eventually

BATCH = pa.record_batch({"number": pa.array(range(1 << 17), pa.int64())})  # 1 MiB
MEBIBYTE = 1 << 20


def endless(count: int) -> Result:
    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(count):
            yield BATCH

    return Result(BATCH.schema, batches)


def started(client: flight.FlightClient, sql: str) -> flight.FlightInfo:
    return client.get_flight_info(command("CommandStatementQuery", query=sql))


@pytest.mark.usefixtures("heavy")
def test_a_large_result_in_flat_memory(client: flight.FlightClient, service: FakeService) -> None:
    service.results["select much"] = endless(800)
    process, rows = psutil.Process(), 0
    reader = client.do_get(started(client, "select much").endpoints[0].ticket)
    flat = None
    for number, chunk in enumerate(reader):
        rows += chunk.data.num_rows
        if number == 50:
            flat = process.memory_info().rss
    assert rows == 800 * BATCH.num_rows
    assert flat is not None
    # Other threads of this process take and give back memory, too.
    assert process.memory_info().rss - flat < 749 * BATCH.nbytes / 3


def at_rest(client: flight.FlightClient, stream: FakeStream) -> None:
    """Wait until no batch of a result was taken while other calls were made and answered."""
    taken = -1
    while stream.taken != taken:
        taken = stream.taken
        for _ in range(50):
            list(client.list_flights())


@pytest.mark.usefixtures("heavy")
def test_a_client_that_takes_nothing_holds_little(client: flight.FlightClient, service: FakeService) -> None:
    service.results["select much"] = endless(400)
    reader = client.do_get(started(client, "select much").endpoints[0].ticket)
    reader.read_chunk()
    [stream] = service.streams
    at_rest(client, stream)
    assert stream.taken < 60  # what gRPC and the kernel hold of it, and 4 MiB that are read ahead
    assert sum(chunk.data.num_rows for chunk in reader) == 399 * BATCH.num_rows


@pytest.mark.parametrize(
    ("error", "raises"),
    [
        (ExecutionError("Divide by zero"), pa.ArrowInvalid),
        (StoreUnavailableError("the store is gone"), flight.FlightUnavailableError),
    ],
)
def test_a_result_that_breaks(
    client: flight.FlightClient, service: FakeService, error: ExecutionError, raises: type[Exception]
) -> None:
    service.results["select breaks"] = result(ORDERS, fails=error)
    reader = client.do_get(started(client, "select breaks").endpoints[0].ticket)
    assert reader.read_chunk().data.num_rows == len(ORDERS)
    with pytest.raises(raises, match=str(error)) as raised:
        reader.read_chunk()
    assert "Traceback" not in str(raised.value)
    assert eventually(lambda: not service.open)


@pytest.mark.parametrize("at_once", [False, True])
def test_dictionaries_that_change_on_the_way(
    client: flight.FlightClient, adbc: flight_sql.Connection, service: FakeService, *, at_once: bool
) -> None:
    words = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema({"word": words, "words": pa.list_(words)})
    batches = [
        pa.record_batch([pa.array(some).dictionary_encode(), pa.array([[w] for w in some], pa.list_(words))], schema)
        for some in (["a", "b", "a"], ["c", "b"], ["c", None])
    ]
    service.results["select words"] = Result(schema, lambda: batches, at_once=at_once)
    expected = pa.Table.from_batches(batches).to_pylist()
    assert query(client, "select words").to_pylist() == expected
    with adbc.cursor() as cursor:
        assert cursor.execute("select words").fetch_arrow_table().to_pylist() == expected


def test_batches_that_come_together_are_one_message(client: flight.FlightClient, service: FakeService) -> None:
    small = [ORDERS.to_batches()[0].slice(number % 3, 1) for number in range(100)]
    service.results["select small"] = Result(ORDERS.schema, lambda: small, at_once=True)
    chunks = [chunk.data for chunk in client.do_get(started(client, "select small").endpoints[0].ticket)]
    assert pa.Table.from_batches(chunks) == pa.Table.from_batches(small).combine_chunks()
    assert len(chunks) == 1
    service.results["select large"] = Result(BATCH.schema, lambda: [BATCH] * 3, at_once=True)
    chunks = [chunk.data for chunk in client.do_get(started(client, "select large").endpoints[0].ticket)]
    assert [chunk.num_rows for chunk in chunks] == [BATCH.num_rows] * 3


@pytest.mark.usefixtures("heavy")
def test_batches_too_large_for_a_message_are_cut(adbc: flight_sql.Connection, service: FakeService) -> None:
    text = "x" * MEBIBYTE
    wide = pa.table({"text": [text] * 40})  # ADBC takes 16 MiB at once
    service.results["select wide"] = result(wide)
    with adbc.cursor() as cursor:
        found = cursor.execute("select wide").fetch_arrow_table()
    assert found == wide
    assert found["text"].num_chunks > 2


def test_a_client_that_leaves_in_the_middle(door: FlightDoor, service: FakeService) -> None:
    service.results["select much"] = endless(10_000)
    with flight.connect(url(door)) as client:
        reader = client.do_get(started(client, "select much").endpoints[0].ticket)
        reader.read_chunk()
        reader.cancel()
        del reader
    assert eventually(lambda: not service.open)


def test_a_ticket_that_nobody_redeems(
    client: flight.FlightClient, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight_statements, "_HOLD_S", 0.1)
    service.results["select hangs"] = result(ORDERS, hangs=True)
    info = started(client, "select hangs")
    assert len(service.streams) == 1  # it was begun
    assert eventually(lambda: not service.open)
    del service.results["select hangs"]
    service.results["select hangs"] = result(ORDERS)
    assert client.do_get(info.endpoints[0].ticket).read_all() == ORDERS  # it runs again


def test_cancel_by_the_flight_info(client: flight.FlightClient, service: FakeService) -> None:
    service.results["select hangs"] = result(ORDERS, hangs=True)
    for action, encode, request in (
        ("CancelFlightInfo", commands_and_tickets.encoded, "CancelFlightInfoRequest"),
        ("CancelQuery", commands_and_tickets.packed, "ActionCancelQueryRequest"),
    ):
        info = started(client, "select hangs")
        reader = client.do_get(info.endpoints[0].ticket).to_reader()
        assert reader.read_next_batch().num_rows == len(ORDERS)
        act(client, action, encode(request, info=info.serialize()))
        with pytest.raises(OSError, match="cancelled"):
            reader.read_next_batch()
        with pytest.raises(pa.ArrowKeyError, match="unknown or expired ticket"):
            client.do_get(info.endpoints[0].ticket).read_all()
        assert eventually(lambda: not service.open)


def test_a_deadline_of_the_clients(client: flight.FlightClient, service: FakeService) -> None:
    service.results["select waits"] = result(ORDERS, waits=True)
    with pytest.raises(flight.FlightTimedOutError):
        client.get_flight_info(
            command("CommandStatementQuery", query="select waits"), flight.FlightCallOptions(timeout=0.2)
        )
    assert eventually(lambda: service.waiting == 0)


def test_counting_connections_leaves_no_descriptors_open(
    client: flight.FlightClient, door: FlightDoor, tmp_path: Path
) -> None:
    assert not list(client.list_flights())
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb"):  # which is no socket
        before = psutil.Process().num_fds()
        assert [door.connections, door.connections] == [1, 1]
        assert psutil.Process().num_fds() == before


def test_a_client_that_takes_nothing_does_not_keep_the_door_open(doors: Doors, service: FakeService) -> None:
    service.results["select much"] = endless(10_000)
    door = doors.open(service)
    with flight.connect(url(door)) as client:
        reader = client.do_get(started(client, "select much").endpoints[0].ticket)
        reader.read_chunk()
        at_rest(client, service.streams[0])
        doors.stop(door)
        assert door.port == 0
        assert eventually(lambda: not service.open)
        with pytest.raises(flight.FlightError):
            sum(chunk.data.num_rows for chunk in reader)
        with pytest.raises(flight.FlightUnavailableError):
            list(client.list_flights())

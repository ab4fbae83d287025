"""A Flight door over a service that is only an event loop and some tables."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest
from pyarrow import flight

from dagfusion_client import commands_and_tickets
from dagfusion_contract.naming import TableName
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog.model import Snapshot, Table, files_schema
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.flight.flight_door import FlightDoor
from tests.server.fake_service import FakeService, environment, result

T = TypeVar("T")


def table(schema: str, name: str, columns: pa.Schema, partition: pa.Schema | None = None) -> Table:
    partition = partition or pa.schema([])
    files = files_schema(partition, pa.struct([])).empty_table()
    return Table((schema, name), TableName(schema, name), columns, partition, f"{schema}.{name}", files)


def snapshot(environment: str, *tables: Table) -> Snapshot:
    return Snapshot(1, environment, MappingProxyType({table.name: table for table in tables}))


class Doors:
    """Opens Flight doors over fake services, on loops in threads of their own."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.tokens = Tokens(folder / "tokens.json")
        self._closing = closing
        self._stops: dict[FlightDoor, Callable[[], None]] = {}

    def open(self, service: FakeService, **settings: Any) -> FlightDoor:
        """Open a door on a free port."""
        made = replace(ServiceSettings(flight_address="127.0.0.1:0"), **settings)
        service.loop = asyncio.new_event_loop()
        door = FlightDoor(service, self.tokens, made)
        run = self._closing.enter_context(running(service.loop))
        run(door.start())
        self._stops[door] = lambda: run(door.stop())
        self._closing.callback(self._stops[door])
        return door

    def stop(self, door: FlightDoor) -> None:
        """Close one of the doors."""
        self._stops[door]()


@contextmanager
def running(loop: asyncio.AbstractEventLoop) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    with ExitStack() as closing:
        yield Doors(tmp_path, closing)


ORDERS = pa.table({"id": [1, 2, 3], "name": ["a", None, "c"]})


@pytest.fixture
def service() -> FakeService:
    return FakeService(
        {
            "uat": environment(
                "uat",
                snapshot(
                    "uat",
                    table(
                        "uat_sales",
                        "orders",
                        pa.schema({"id": pa.int64(), "price": pa.decimal128(12, 2)}),
                        pa.schema({"date": pa.date32()}),
                    ),
                    table("uat_sales", "raw_orders", pa.schema({"id": pa.int64()})),
                    table("uat_health", "orgs", pa.schema({"npi": pa.int64(), "name": pa.string()})),
                ),
            ),
            "prod": environment("prod", snapshot("prod", table("prod_sales", "orders", pa.schema({"id": pa.int64()})))),
        },
        {"select * from orders": result(ORDERS)},
    )


def url(door: FlightDoor) -> str:
    return f"grpc://127.0.0.1:{door.port}"


@pytest.fixture
def adbc(door: FlightDoor) -> Iterator[flight_sql.Connection]:
    with flight_sql.connect(url(door), autocommit=True) as connection:
        yield connection


@pytest.fixture
def client(door: FlightDoor) -> Iterator[flight.FlightClient]:
    with flight.connect(url(door)) as connection:
        yield connection


def command(name: str, **fields: Any) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(commands_and_tickets.packed(name, **fields))


def query(client: flight.FlightClient, sql: str, options: flight.FlightCallOptions | None = None) -> pa.Table:
    info = client.get_flight_info(command("CommandStatementQuery", query=sql), options)
    return client.do_get(info.endpoints[0].ticket, options).read_all()


def act(client: flight.FlightClient, action: str, body: bytes = b"", headers: Any = ()) -> list[bytes]:
    options = flight.FlightCallOptions(headers=list(headers))
    return [answer.body.to_pybytes() for answer in client.do_action(flight.Action(action, body), options)]


@pytest.fixture
def door(doors: Doors, service: FakeService) -> FlightDoor:
    return doors.open(service)


@pytest.fixture
def door_url(door: FlightDoor) -> str:
    return url(door)

"""One small lake, one service over it, and every door to them."""

import datetime as dt
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import adbc_driver_flightsql.dbapi as flight_sql
import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adbc_driver_flightsql import DatabaseOptions

import dagfusion_query
from dagfusion_contract.naming import TableName
from dagfusion_contract.view import VIEW_ENTRY, View, view_entry
from dagfusion_query import Connection
from dagfusion_query.access.authentication import Tokens
from tests.contract.records import local_record
from tests.server.doors.doors import AdbcDoor, CommandLine, ConnectionDoor, Door
from tests.server.processes.process import Server, served

STATES = ("CA", "NY", "TX")
LIMIT_ROWS = 1_000_000
LIMIT_BYTES = 100_000
ARCHIVED_AFTER_DAYS = 8000  # of `prod`
GRANT = "local_silver_tax_id.orgs"
VIEW = View(
    f"SELECT id, name FROM {GRANT} WHERE id % 2 = 0",
    [TableName(*GRANT.split("."))],
    pa.schema({"id": pa.int64(), "name": pa.string()}),
)
# Without anonymous callers' own word, the first token would close the service to them.
LIMITS = {
    "DAGFUSION_ANONYMOUS": "loopback",
    "DAGFUSION_RESULT_LIMIT_ROWS": str(LIMIT_ROWS),
    "DAGFUSION_SQL_LIMIT_BYTES": str(LIMIT_BYTES),
}


@dataclass(frozen=True)
class Service:
    """A service over the lake, in the environments `local` and `prod`; both read the same event log.

    In `prod` the objects of TX are archived.

    Attributes:
        token: Grants the table `local_silver_tax_id.orgs` and no other.
    """

    server: Server
    token: str


@pytest.fixture(scope="session")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables of three partitions, of 1,000 rows each, and a view of one of them."""
    home, lake = tmp_path_factory.mktemp("dagster_home"), tmp_path_factory.mktemp("lake")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for asset in ("orgs", "orders"):
            for number, state in enumerate(STATES):
                ids = range(1000 * number, 1000 * (number + 1))
                path = lake / f"{asset}-{state}.parquet"
                pq.write_table(pa.table({"id": ids, "name": [f"n{n}" if n % 2 else None for n in ids]}), path)
                instance.report_runless_asset_event(_materialization(asset, path, state, ids))
        published = {VIEW_ENTRY: dg.MetadataValue.json(view_entry(VIEW))}
        instance.report_runless_asset_event(dg.AssetMaterialization(["Gold", "evens"], metadata=published))
    return home


def _materialization(asset: str, path: Path, state: str, ids: range) -> dg.AssetMaterialization:
    columns = {"id": {"min": ids[0], "max": ids[-1], "nulls": 0}, "name": {"nulls": len(ids) // 2}}
    modified = "2000-01-01T00:00:00Z" if state == "TX" else "2024-01-15T12:00:00Z"
    record = local_record(path, {"state": state}, columns=columns, modified=modified)
    key = dg.AssetKey(["Silver", "TaxID", asset])
    return dg.AssetMaterialization(key, partition=state, metadata={"dagfusion/file": record})


@pytest.fixture(scope="session")
def running_service(
    dagster_home: Path,
    tmp_path_factory: pytest.TempPathFactory,
    processes: None,  # noqa: ARG001  # it starts some
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    logs = (f'[environments.{name}]\nevent_log = "{dagster_home}"\n' for name in ("local", "prod"))
    (folder / "dagfusion.toml").write_text("".join(logs) + f"archived_after_days = {ARCHIVED_AFTER_DAYS}\n")
    token = Tokens(folder / "state" / "tokens.json").create("ann", [GRANT])
    with served(folder, variables=LIMITS) as server:
        yield Service(server, token)


@pytest.fixture(scope="session")
def server(running_service: Service) -> Server:
    return running_service.server


class Doors:
    """Opens doors, each once.

    Args:
        home: The event log, for those that need no service.
        service: For the others.
    """

    def __init__(self, home: Path, service: Service, closing: ExitStack, folder: Callable[[], Path]) -> None:
        self._home, self._service, self._closing, self._folder = home, service, closing, folder
        self._open: dict[tuple[str, bool], Door] = {}

    def open(self, name: str, *, with_token: bool = False) -> Door:
        """Return a door by its name: `embedded`, `http`, `flight`, `adbc`, `cli`, `cli-http` or `cli-flight`."""
        key = (name, with_token)
        if key not in self._open:
            self._open[key] = self._made(name, self._service.token if with_token else None)
        return self._open[key]

    def connection(self, name: str) -> Connection:
        """Return the connection of one of the doors that have one."""
        door = self.open(name)
        assert isinstance(door, ConnectionDoor)
        return door.connection

    def past_time(self, event_id: int) -> dt.datetime:
        """Return when an event was logged."""
        with closing(sqlite3.connect(self._home / "history" / "runs" / "index.db")) as log:
            [(at,)] = log.execute("select timestamp from event_logs where id = ?", (event_id,))
        return dt.datetime.fromisoformat(at).replace(tzinfo=dt.UTC)

    def _made(self, name: str, token: str | None) -> Door:
        server = self._service.server
        url = {"http": server.url, "flight": server.flight_url}.get(name.removeprefix("cli-"))
        if name.startswith("cli"):
            return CommandLine(self._folder(), self._variables(url, token))
        if name == "adbc":
            return AdbcDoor(self._closing.enter_context(self._adbc(token)))
        made = dagfusion_query.connect(url or str(self._home), token=token, settings={})
        return ConnectionDoor(self._closing.enter_context(made))

    def _variables(self, url: str | None, token: str | None) -> Mapping[str, str]:
        if url is None:
            return {"DAGSTER_HOME": str(self._home)}
        return {"DAGFUSION_URL": url, "DAGFUSION_TOKEN": token or ""}

    def _adbc(self, token: str | None) -> flight_sql.Connection:
        address = urlsplit(self._service.server.flight_url).netloc
        options = {} if token is None else {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {token}"}
        return flight_sql.connect(f"grpc://{address}", db_kwargs=options, autocommit=True)


CONNECTIONS = ("embedded", "http", "flight")
COMMANDS = ("cli", "cli-http", "cli-flight")
SERVED = ("http", "flight", "adbc", "cli-http")


@pytest.fixture(scope="session")
def doors(dagster_home: Path, running_service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with ExitStack() as closing:
        yield Doors(dagster_home, running_service, closing, lambda: tmp_path_factory.mktemp("command"))


@pytest.fixture(params=[*CONNECTIONS, "adbc", "cli", "cli-http"])
def door(request: pytest.FixtureRequest, doors: Doors) -> Door:
    """Every door."""
    return doors.open(request.param)


@pytest.fixture(params=CONNECTIONS)
def connection(request: pytest.FixtureRequest, doors: Doors) -> Connection:
    """Every connection of this package."""
    return doors.connection(request.param)


@pytest.fixture(params=SERVED)
def restricted(request: pytest.FixtureRequest, doors: Doors) -> Door:
    """Every door of the service, for a caller that may read one table."""
    return doors.open(request.param, with_token=True)


@pytest.fixture(params=SERVED)
def limited(request: pytest.FixtureRequest, doors: Doors) -> Door:
    """Every door of the service."""
    return doors.open(request.param)

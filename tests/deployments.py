"""Records and events of the contract, and event logs of real Dagster instances: PostgreSQL and SQLite."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_contract.tombstone import TOMBSTONE_ENTRY, Tombstone, tombstone_entry
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.catalog.live_catalog import LiveCatalog
from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from dagfusion_query.event_log import open_event_log
from dagfusion_query.event_log.event_log_interface import EventLog
from tests.contract.records import file_record as make_record
from tests.contract.records import local_record
from tests.query.catalog.following import Opened
from tests.query.disk import SmallDisk, mounted
from tests.server.fake_service import FakeService, arrow

ORGANIZATIONS = ("Silver", "TaxID", "partitioned_organizations")


class RecordFactory(Protocol):
    def __call__(self, state: str = "CA", date: str = "2024-01-15", **changes: Any) -> dict[str, Any]: ...


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    """The access tokens of a service; there is none yet."""
    return Tokens(tmp_path / "tokens.json")


@pytest.fixture
def service() -> FakeService:
    """A scripted service, which answers statements with one batch."""
    return FakeService(pieces=(arrow(1),))


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: None) -> Iterator[SmallDisk]:  # noqa: ARG001  # `mount`
    """The folder for temporary files, on a file system of its own that can be filled."""
    folder = tmp_path / "small"
    folder.mkdir()
    with mounted(folder) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield disk


@pytest.fixture(scope="session")
def file_record() -> RecordFactory:
    """Makes `dagfusion/file` records of one partition; keywords replace whole fields."""
    return make_record


class Deployment:
    """A Dagster instance with its event log, and what a test does to it."""

    def __init__(self, home: Path, url: str | None) -> None:
        self.home = home
        self.url = url
        home.mkdir(parents=True, exist_ok=True)
        storage = f"storage:\n  postgres:\n    postgres_url: {_dialect(url)!r}\n" if url else ""
        (home / "dagster.yaml").write_text(f"telemetry:\n  enabled: false\n{storage}")
        self.instance = dg.DagsterInstance.from_config(str(home))

    def open(self) -> EventLog:
        return open_event_log(self.url or str(self.home))

    def report(
        self, record: Mapping[str, Any] | None, partition: str | None = None, key: tuple[str, ...] = ORGANIZATIONS
    ) -> None:
        """Log a materialization; its partition key is the record's own, dimensions by name, unless given."""
        metadata = {} if record is None else {"dagfusion/file": dg.MetadataValue.json(dict(record))}
        if partition is None and record is not None and record["partition"]:
            values = {column["name"]: column["value"] for column in record["partition"]}
            partition = "|".join(values[name] for name in sorted(values))
        event = dg.AssetMaterialization(dg.AssetKey(list(key)), partition=partition, metadata=metadata)
        self.instance.report_runless_asset_event(event)

    def bury(self, partition: str | None, key: tuple[str, ...] = ORGANIZATIONS) -> None:
        """Log a tombstone."""
        metadata = {TOMBSTONE_ENTRY: dg.MetadataValue.json(tombstone_entry(Tombstone("wiped")))}
        event = dg.AssetMaterialization(dg.AssetKey(list(key)), partition=partition, metadata=metadata)
        self.instance.report_runless_asset_event(event)

    def materialize(self, record: Mapping[str, Any], key: str = "made") -> str:
        """Run a real asset, unpartitioned, and return the run's id."""

        @dg.asset(name=key)
        def made(context: dg.AssetExecutionContext) -> None:
            context.add_output_metadata({"dagfusion/file": dg.MetadataValue.json(dict(record)), "rows": 3})

        return dg.materialize([made], instance=self.instance).run_id

    def wipe(self, key: tuple[str, ...] = ORGANIZATIONS) -> None:
        self.instance.wipe_assets([dg.AssetKey(list(key))])


def _dialect(url: str | None) -> str:
    return (url or "").replace("postgresql://", "postgresql+psycopg2://")


@pytest.fixture
def on_postgres(tmp_path: Path, database: Callable[[], str]) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path / "postgres", database())
    yield deployment
    deployment.instance.dispose()


@pytest.fixture
def log(on_postgres: Deployment) -> Iterator[EventLog]:
    made = on_postgres.open()
    yield made
    made.close()


@pytest.fixture
def on_sqlite(tmp_path: Path, sqlite_pattern: Path) -> Iterator[Deployment]:
    shutil.copytree(sqlite_pattern, tmp_path / "sqlite")
    deployment = Deployment(tmp_path / "sqlite", None)
    yield deployment
    deployment.instance.dispose()


@pytest.fixture(params=["postgres", "sqlite"])
def deployment(request: pytest.FixtureRequest, processes: None) -> Deployment:  # noqa: ARG001  # one may start PostgreSQL
    made: Deployment = request.getfixturevalue(f"on_{request.param}")
    return made


@pytest.fixture(scope="session")
def deployment_class() -> type[Deployment]:
    return Deployment


@pytest.fixture
def catalog_of() -> Iterator[Opened]:
    with ExitStack() as stack:

        def make(log: EventLog, state_dir: Path | None = None, **intervals: Any) -> LiveCatalog:
            catalog = LiveCatalog(log, "uat", state_dir, **{"poll_interval_s": 0.05, **intervals})
            stack.callback(catalog.close)
            return catalog

        yield make


@pytest.fixture
def dagster_home(tmp_path: Path, sqlite_pattern: Path) -> Path:
    return Path(shutil.copytree(sqlite_pattern, tmp_path / "dagster_home"))


@pytest.fixture
def write(dagster_home: Path, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Write a partition of `orders` and log it, or only write it."""
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:

        def materialize(day: str, amounts: list[int], *, log: bool = True) -> None:
            path = tmp_path / f"{day}.parquet"
            pq.write_table(pa.table({"amount": amounts}), path)
            if log:
                instance.report_runless_asset_event(_materialization(path, day))

        yield materialize


@pytest.fixture
def connect(dagster_home: Path) -> Iterator[Callable[..., EmbeddedConnection]]:
    opened: list[EmbeddedConnection] = []

    def connect(**settings: str) -> EmbeddedConnection:
        opened.append(connect_embedded(str(dagster_home), settings=settings))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def _materialization(path: Path, day: str) -> dg.AssetMaterialization:
    record = local_record(path, {"date": day}, columns={"amount": {"nulls": 0}})
    return dg.AssetMaterialization("orders", partition=day, metadata={"dagfusion/file": record})

"""Clients of the service's Iceberg catalog, and what the catalog takes to write its metadata."""

import contextlib
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyiceberg.catalog.rest import RestCatalog

from benchmarks import iceberg_catalog, service
from benchmarks.conftest import Clock, Findings
from benchmarks.dataset import TABLE, Dataset
from benchmarks.engines.iceberg import CLIENTS, LISTERS, QUERIES, Client, Objects
from benchmarks.engines.protocol import Engine, Session
from benchmarks.iceberg_catalog import Catalog
from benchmarks.workload import FULL_SCAN, Query, Row, point, rows

ROUNDS = 20
OF_PARTITIONS = pytest.mark.parametrize("catalog", [Objects.PARTITIONS], indirect=True, ids=lambda one: one.name)
# Polars says that it plans with PyIceberg.
pytestmark = pytest.mark.filterwarnings("ignore::polars.exceptions.PerformanceWarning")


@pytest.fixture(scope="module")
def catalog(
    request: pytest.FixtureRequest, data: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Catalog]:
    with iceberg_catalog.serving(data, tmp_path_factory.mktemp("iceberg"), request.param) as running:
        yield running


@pytest.fixture(scope="module")
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    return chosen


@pytest.fixture(scope="module")
def session(client: Client, catalog: Catalog, data: Dataset) -> Iterator[Session]:
    with contextlib.closing(client.open(data.place, catalog.url)) as opened:
        yield opened


@pytest.fixture(scope="module")
def listing(request: pytest.FixtureRequest, data: Dataset) -> Iterator[tuple[Engine, Session]]:
    engine: Engine = request.param
    with contextlib.closing(engine.open(data.place)) as opened:
        yield engine, opened


@pytest.mark.parametrize(
    ("catalog", "client", "query"),
    [
        pytest.param(client.objects, client, query, id=f"{client.name}-{query.name}")
        for objects in Objects
        for client in CLIENTS
        if client.objects is objects
        for query in client.queries
    ],
    indirect=["catalog", "client"],
)
def test_clients(session: Session, client: Client, query: Query, answers: dict[str, list[Row]], clock: Clock) -> None:
    time = clock.time_once if query is FULL_SCAN else clock.time
    time(
        lambda: session.run(query),
        lambda answer: rows(answer) == answers[query.name],
        kind="iceberg",
        engine=client.name,
        query=query.name,
    )


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
@pytest.mark.parametrize("listing", LISTERS, indirect=True, ids=lambda engine: engine.name)
def test_the_same_clients_list_the_folder(
    listing: tuple[Engine, Session], query: Query, answers: dict[str, list[Row]], clock: Clock
) -> None:
    engine, session = listing
    time = clock.time_once if query is FULL_SCAN else clock.time
    time(
        lambda: session.run(query),
        lambda answer: rows(answer) == answers[query.name],
        kind="listing",
        engine=engine.name,
        query=query.name,
    )


@OF_PARTITIONS
def test_writers_of_manifests(data: Dataset, catalog: Catalog, findings: Findings, tmp_path: Path) -> None:
    from benchmarks import manifest_writers  # noqa: PLC0415  # benchmarks are collected without its imports, too

    with contextlib.closing(RestCatalog("lake", uri=catalog.url, auth={"type": "noop"})) as client:  # type: ignore[arg-type]
        writers = manifest_writers.writers(data, client.load_table(TABLE), tmp_path)
        written = {name: manifest_writers.paths(write()) for name, write in writers.items()}
        assert {name: len(paths) for name, paths in written.items()} == dict.fromkeys(writers, data.partitions)
        assert written["fastavro"] == written["PyIceberg"] == written["DagFusion"]
        findings["iceberg_entries"] = data.partitions
        findings["iceberg_writers_s"] = service.in_turns(writers, 3)


@OF_PARTITIONS
def test_requests_for_the_table_and_a_new_partition(data: Dataset, catalog: Catalog, findings: Findings) -> None:
    """It changes the table, and changes it back."""
    clients = [client for client in CLIENTS if client.objects is Objects.PARTITIONS]
    unchanged = [catalog.load() for _ in range(ROUNDS)]
    [before] = {place for _, place in unchanged}
    new = point(*data.missing_partition())
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(contextlib.closing(one.open(data.place, catalog.url))) for one in clients]
        assert [len(session.run(new)) for session in sessions] == [0] * len(clients)
        stack.enter_context(data.one_more_partition())
        took, after = catalog.load()
        while after == before:
            took, after = catalog.load()
        assert all(len(session.run(new)) for session in sessions)
    findings["iceberg_load_table_s"] = {
        f"first, {data.partitions:,} partitions": catalog.first_s,
        "unchanged": statistics.median(took for took, _ in unchanged),
        "after a new partition": took,
    }

"""The servers, started once.

A test runs on containers where Docker answers, and else on the servers of the local stack. Tests of what may differ
between servers run on both:

    pytestmark = pytest.mark.parametrize("services", EVERY_PROVIDER, indirect=True, scope="session")
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.e2e.lake import (
    EXTRACTS,
    ORDERS,
    ORDERS_BY_STATE,
    ORG_AGGREGATES,
    REGISTER,
    SALES_AGGREGATES,
    Lake,
    lake,
)
from tests.e2e.services import PROVIDER_HERE, PROVIDERS, Database, ObjectStore, Services
from tests.e2e.serving import service
from tests.server.processes.process import Server

DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")


@pytest.fixture(scope="session", autouse=True)
def end_to_end(processes: None) -> None:
    """Puts every test of this folder into the tier `e2e`."""


@pytest.fixture(scope="session", params=PROVIDER_HERE)
def services(request: pytest.FixtureRequest) -> Services:
    provider = PROVIDERS[request.param]
    if (reason := provider.missing()) is not None:
        if os.environ.get("DAGFUSION_REQUIRE_CONTAINERS"):
            pytest.fail(f"{reason}, and DAGFUSION_REQUIRE_CONTAINERS asks for one")
        pytest.skip(reason)
    return provider


@pytest.fixture(scope="session")
def database(services: Services, server_folder: Callable[[str], Path]) -> Iterator[Database]:
    with services.database(server_folder("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def object_store(services: Services, server_folder: Callable[[str], Path]) -> Iterator[ObjectStore]:
    with services.object_store(server_folder("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def filled(database: Database, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """All six assets, three days of fifty states; read, never written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
        with lake(database, object_store, tmp_path_factory.mktemp("dagster")) as deployment:
            for key in (REGISTER, ORDERS):
                assert deployment.materialize(key)
            for key in (EXTRACTS, ORDERS_BY_STATE):
                assert deployment.materialize(key, f"{DAYS[0]}|AL", f"{DAYS[-1]}|WY")
            for key in (ORG_AGGREGATES, SALES_AGGREGATES):
                assert deployment.materialize(key, DAYS[0], DAYS[-1])
            patch.undo()  # other tests may run in this process before these servers end
            yield deployment


@pytest.fixture
def small(database: Database, object_store: ObjectStore, tmp_path: Path) -> Iterator[Lake]:
    """A deployment for one test: the register, and one day of three states."""
    with lake(database, object_store, tmp_path) as deployment:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
            assert deployment.materialize(REGISTER)
            assert deployment.materialize(EXTRACTS, "2024-01-01|AL", "2024-01-01|AZ")
        yield deployment


@pytest.fixture(scope="session")
def service_folder(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service below has its configuration and its tokens."""
    return tmp_path_factory.mktemp(f"service-{services.name}-")


@pytest.fixture
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps that fail be tried again without a delay."""
    monkeypatch.setattr(dg.RetryPolicy, "calculate_delay", lambda *_: 0)


@pytest.fixture(scope="session")
def server(filled: Lake, service_folder: Path) -> Iterator[Server]:
    """Serves the filled deployment as `local` and as `prod`, to tests with and without tokens."""
    with service(service_folder, filled, "local", "prod", DAGFUSION_ANONYMOUS="loopback") as server:
        yield server

"""A folder in which `dagfusion demo` might have run, and a service over it, for all documents together."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.service import Server, serving
from tests.e2e.lake import EXTRACTS, ORDERS, ORDERS_BY_STATE, ORG_AGGREGATES, REGISTER, SALES_AGGREGATES, lake
from tests.e2e.services import Embedded


@pytest.fixture(scope="session")
def variables(
    tmp_path_factory: pytest.TempPathFactory, server_folder: Callable[[str], Path]
) -> Iterator[Mapping[str, str]]:
    """Those of a user whose Dagster has materialized 7 days x 50 states."""
    home = tmp_path_factory.mktemp("dagster")
    services = Embedded()
    with (
        pytest.MonkeyPatch.context() as patch,
        services.database(server_folder("postgres")) as database,
        services.object_store(server_folder("s3")) as store,
    ):
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
        with lake(database, store, home) as deployment:
            for key in (REGISTER, ORDERS):
                assert deployment.materialize(key)
            for key in (EXTRACTS, ORDERS_BY_STATE):
                assert deployment.materialize(key, "2024-01-01|AL", "2024-01-07|WY")
            for key in (ORG_AGGREGATES, SALES_AGGREGATES):
                assert deployment.materialize(key, "2024-01-01", "2024-01-07")
            patch.undo()  # other tests may run in this process before these servers end
            own = {"DAGFUSION_EVENT_LOG": deployment.event_log, "DAGSTER_HOME": str(home)}
            yield {**deployment.variables, **own}


@pytest.fixture(scope="session")
def serve(variables: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving({**os.environ, **variables}, tmp_path_factory.mktemp("service")) as server:
        yield server


@pytest.fixture
def stack(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives this process the user's variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def service(stack: None, serve: Server) -> Server:  # noqa: ARG001  # its variables
    """`dagfusion serve` over the stack."""
    return serve

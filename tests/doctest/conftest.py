"""A folder in which `dagfusion demo` might have run, and a service over it, for all documents together."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.service import Server, serving
from tests.e2e.lake import EXTRACTS, ORDERS, ORDERS_BY_STATE, ORG_AGGREGATES, REGISTER, SALES_AGGREGATES, lake
from tests.e2e.services import Embedded


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, server_folder: Callable[[str], Path]) -> Iterator[None]:
    """The variables of a user whose Dagster has materialized 7 days x 50 states."""
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
            for name, value in {**deployment.variables, "DAGFUSION_EVENT_LOG": deployment.event_log}.items():
                patch.setenv(name, value)
            patch.setenv("DAGSTER_HOME", str(home))
            yield


@pytest.fixture(scope="session")
def service(stack: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:  # noqa: ARG001  # its variables
    """`dagfusion serve` over the stack."""
    with serving(os.environ, tmp_path_factory.mktemp("service")) as server:
        yield server

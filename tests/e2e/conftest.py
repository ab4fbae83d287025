"""The servers of each provider, started once; the tests run on all of them."""

import os
from collections.abc import Iterator

import pytest

from tests.e2e.services import PROVIDERS, Database, ObjectStore, Services


@pytest.fixture(scope="session", params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in PROVIDERS])
def services(request: pytest.FixtureRequest) -> Services:
    provider = PROVIDERS[request.param]
    if (reason := provider.missing()) is not None:
        if os.environ.get("DAGFUSION_REQUIRE_CONTAINERS"):
            pytest.fail(f"{reason}, and DAGFUSION_REQUIRE_CONTAINERS asks for one")
        pytest.skip(reason)
    return provider


@pytest.fixture(scope="session")
def database(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with services.database(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def object_store(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with services.object_store(tmp_path_factory.mktemp("s3")) as server:
        yield server

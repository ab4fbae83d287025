"""PostgreSQL servers and databases that Dagster has set up, once for each worker of pytest-xdist.

A plugin of the whole session: fixtures of a session that several conftests import would be made for each of them.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dagfusion_stack.postgres import Postgres


@pytest.fixture(scope="session")
def postgres_server(server_folder: Callable[[str], Path]) -> "Iterator[Postgres]":
    from dagfusion_stack import postgres  # noqa: PLC0415  # sessions that need none do not import it

    with postgres.running(server_folder("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def database(postgres_server: "Postgres", tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Makes databases that Dagster has set up; making the tables anew takes seconds."""
    import psycopg  # noqa: PLC0415  # likewise

    from tests.deployments import Deployment  # noqa: PLC0415  # likewise

    postgres_server.create_database("pattern")
    Deployment(tmp_path_factory.mktemp("pattern"), postgres_server.url("pattern")).instance.dispose()
    numbers = itertools.count()

    def make() -> str:
        name = f"test_{next(numbers)}"
        with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name} template pattern".encode())
        return postgres_server.url(name)

    return make


@pytest.fixture(scope="session")
def sqlite_pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DAGSTER_HOME that Dagster has set up, to be copied."""
    from tests.deployments import Deployment  # noqa: PLC0415  # likewise

    home = tmp_path_factory.mktemp("pattern")
    Deployment(home, None).instance.dispose()
    return home

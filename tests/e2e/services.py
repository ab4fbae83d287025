"""PostgreSQL and an S3 server for the end-to-end tests, from two providers: programs in wheels, and containers."""

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import docker
import psycopg
import pytest
from docker.errors import DockerException
from psycopg import sql
from testcontainers.community.localstack import LocalStackContainer
from testcontainers.community.postgres import PostgresContainer

from dagfusion_stack import object_store, postgres
from tests.ports import kept_ports

POSTGRES_IMAGE = "postgres:17.12"
LOCALSTACK_IMAGE = "localstack/localstack:4.14.0"


class Database(Protocol):
    """A running PostgreSQL server."""

    def create_database(self, name: str) -> None: ...

    def url(self, database: str) -> str: ...

    def restart(self) -> None: ...


class ObjectStore(Protocol):
    """A running S3 server."""

    def environ(self) -> Mapping[str, str]: ...

    def stop(self) -> None: ...


class Services(Protocol):
    """Where the servers come from; `missing` says why they cannot."""

    name: str

    def missing(self) -> str | None: ...

    def database(self, folder: Path) -> AbstractContextManager[Database]: ...

    def object_store(self, folder: Path) -> AbstractContextManager[ObjectStore]: ...


class EmbeddedDatabase:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = postgres.start(folder)

    def create_database(self, name: str) -> None:
        self._server.create_database(name)

    def url(self, database: str) -> str:
        return self._server.url(database)

    def restart(self) -> None:
        self.stop()
        self._server = postgres.start(self._folder)

    def stop(self) -> None:
        self._server.stop()


class Embedded:
    """The servers of the local stack."""

    name = "embedded"

    def missing(self) -> None:
        return None

    @contextlib.contextmanager
    def database(self, folder: Path) -> Iterator[Database]:
        server = EmbeddedDatabase(folder)
        try:
            yield server
        finally:
            server.stop()

    @contextlib.contextmanager
    def object_store(self, folder: Path) -> Iterator[ObjectStore]:
        with object_store.running(folder, buckets=[]) as server:
            yield server


class ContainerDatabase:
    def __init__(self, container: PostgresContainer) -> None:
        self._container = container

    def create_database(self, name: str) -> None:
        with psycopg.connect(self._container.get_connection_url(), autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))

    def url(self, database: str) -> str:
        server, _, _ = self._container.get_connection_url().rpartition("/")
        return f"{server}/{database}"

    def restart(self) -> None:
        self._container.get_wrapped_container().restart()
        self._container._connect()


class ContainerObjectStore:
    def __init__(self, container: LocalStackContainer) -> None:
        self._container = container
        self._environ = {
            "AWS_ENDPOINT_URL": container.get_url(),
            "AWS_REGION": container.region_name,
            "AWS_ACCESS_KEY_ID": "containers-key-id",  # any will do, if it can be told from other words
            "AWS_SECRET_ACCESS_KEY": "containers-secret-key",
        }

    def environ(self) -> Mapping[str, str]:
        return self._environ

    def stop(self) -> None:
        self._container.get_wrapped_container().kill()


class Containers:
    """PostgreSQL and LocalStack in Docker."""

    name = "containers"

    def missing(self) -> str | None:
        with warnings.catch_warnings():  # docker leaves the socket of a refused connection to the garbage collector
            warnings.simplefilter("ignore", ResourceWarning)
            reason = _silence_of_docker()
            gc.collect()
        return reason

    @contextlib.contextmanager
    def database(self, folder: Path) -> Iterator[Database]:
        del folder  # the data lies in the container
        image = os.environ.get("DAGFUSION_POSTGRES_IMAGE", POSTGRES_IMAGE)
        [port] = kept_ports(1)  # a fixed one, which a restart keeps
        with PostgresContainer(image, driver=None).with_bind_ports(5432, port) as container:
            yield ContainerDatabase(container)

    @contextlib.contextmanager
    def object_store(self, folder: Path) -> Iterator[ObjectStore]:
        del folder
        image = os.environ.get("DAGFUSION_LOCALSTACK_IMAGE", LOCALSTACK_IMAGE)
        container = LocalStackContainer(image, region_name="us-east-1").with_services("s3", "secretsmanager")
        with warnings.catch_warnings():  # LocalStackContainer waits by a function that testcontainers deprecates
            warnings.filterwarnings("ignore", "The wait_for_logs function", DeprecationWarning)
            container.start()
        try:
            yield ContainerObjectStore(container)
        finally:
            container.stop()


def _silence_of_docker() -> str | None:
    try:
        with contextlib.closing(docker.from_env()) as client:
            client.ping()
    except DockerException as error:
        return f"no Docker daemon answers ({error})"
    return None


PROVIDERS: Mapping[str, Services] = {provider.name: provider for provider in (Embedded(), Containers())}

_CONTAINERS_HERE = bool(os.environ.get("DAGFUSION_REQUIRE_CONTAINERS")) or Containers().missing() is None
# Parameters of the fixture `services`: every provider, and the one of tests that need no other.
EVERY_PROVIDER = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in PROVIDERS]
PROVIDER_HERE = [EVERY_PROVIDER[_CONTAINERS_HERE]]

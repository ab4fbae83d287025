"""Every door hides the same errors from clients, over a scripted service."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import httpx
import pytest

import dagfusion_query
from dagfusion_client.errors import (
    EnvironmentUnavailableError,
    EventLogUnavailableError,
    InternalError,
    PlanError,
    QueryError,
    SettingsError,
    SnapshotError,
)
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.access.grants import Caller
from dagfusion_query.config import Config, EnvironmentConfig
from dagfusion_query.service_settings import EnvironmentSettings, ServiceSettings
from dagfusion_query.settings import Settings
from dagfusion_server.doors.iceberg.iceberg_routes import IcebergRoutes
from dagfusion_server.environments import EnvironmentState
from tests.server.doors.doors import AdbcDoor, ConnectionDoor
from tests.server.doors.flight.conftest import Doors as FlightDoors
from tests.server.doors.flight.conftest import url as flight_url
from tests.server.doors.http.serving import serving
from tests.server.doors.iceberg.openapi import validated
from tests.server.fake_service import FakeService

TEXT = "/state/folder on db.internal"


class Failing(FakeService):
    """Fails with one error, whatever it is asked."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._all = self.error = error

    def environments(self, caller: Caller) -> Mapping[str, EnvironmentState]:  # noqa: ARG002  # as it is
        """Raise the error."""
        raise self._all


def shown(error: Exception, folder: Path, tokens: Tokens) -> tuple[list[QueryError], dict[str, str]]:
    """Return what clients get of an error: over HTTP and Flight, and the error model of the Iceberg catalog."""
    service, settings = Failing(error), ServiceSettings()
    uat = EnvironmentConfig("uat", Settings(), EnvironmentSettings(iceberg_metadata=f"file://{folder}/_iceberg"))
    iceberg = IcebergRoutes(service, Config(settings, (uat,), folder), tokens)
    with ExitStack() as closing:
        pages = closing.enter_context(validated(iceberg.mounts()))
        http = closing.enter_context(serving(service, tokens, settings, pages=pages)).url
        flight = flight_url(FlightDoors(folder, closing).open(service))
        errors = []
        for url in (http, flight):
            client = closing.enter_context(dagfusion_query.connect(url, settings={}))
            errors.append(ConnectionDoor(client).error("SELECT 1"))
            with pytest.raises(QueryError) as raised:
                client.tables()
            errors.append(raised.value)
        errors.append(AdbcDoor(closing.enter_context(flight_sql.connect(flight, autocommit=True))).error("SELECT 1"))
        namespaces = f"{http}/iceberg/v1/namespaces"
        return errors, closing.enter_context(httpx.Client(trust_env=False)).get(namespaces).json()["error"]


@pytest.mark.parametrize("kind", [SettingsError, EventLogUnavailableError, SnapshotError, OSError])
def test_errors_for_the_operator_are_internal_errors(
    tmp_path: Path, tokens: Tokens, caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    errors, model = shown(kind(TEXT), tmp_path, tokens)

    assert {type(error) for error in errors} == {InternalError}
    assert model["type"] == "InternalServerError"
    assert int(model["code"]) == 500
    for text in (*map(str, errors), model["message"]):
        told = re.fullmatch(r"internal error (\w+): see the service's log", text)
        assert told is not None
        assert told[1] in caplog.text
    assert TEXT in caplog.text


@pytest.mark.parametrize("kind", [EnvironmentUnavailableError, PlanError])
def test_other_errors_are_for_clients(
    tmp_path: Path, tokens: Tokens, caplog: pytest.LogCaptureFixture, kind: type[QueryError]
) -> None:
    errors, model = shown(kind(TEXT), tmp_path, tokens)

    assert {(type(error), str(error)) for error in errors} == {(kind, TEXT)}
    assert model["message"] == TEXT
    assert int(model["code"]) == kind.http_status
    assert TEXT not in caplog.text

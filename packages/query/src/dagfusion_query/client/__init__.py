"""`connect`, which returns an embedded connection or a client of a service, and these clients."""

import os
from collections.abc import Mapping
from importlib import import_module

from dagfusion_contract.uri import scheme_of
from dagfusion_query.abstract_connection import Connection
from dagfusion_query.errors import SettingsError, needs
from dagfusion_query.settings import READER, SERVICE_URL, ClientSettings

# By the scheme of a service's URL, so that none imports what only another needs.
_CLIENTS = {
    "http": ("http_client", "HttpConnection"),
    "https": ("http_client", "HttpConnection"),
    "grpc": ("flight_client", "FlightConnection"),
    "grpc+tcp": ("flight_client", "FlightConnection"),
    "grpc+tls": ("flight_client", "FlightConnection"),
}


def connect(
    source: str | None = None,
    *,
    token: str | None = None,
    environment: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> Connection:
    """Connect to what Dagster has materialized.

    Args:
        source: The URL of a query service (`http://`, `https://`, `grpc://`, `grpc+tls://`), or Dagster's event log: a
            `postgresql://` URL of its database, or a DAGSTER_HOME folder. Else `DAGFUSION_URL`, `DAGFUSION_EVENT_LOG`,
            `DAGSTER_HOME`, or the local stack of the current folder.
        token: The access token for a service; else `DAGFUSION_TOKEN`.
        environment: The name of an event log's environment, which begins the name of each schema; else `ENVIRONMENT`,
            else `local`.
        settings: Variables, by name, to use instead of the process's environment.

    Raises:
        SettingsError: A setting is missing or has a value that it cannot have.
        MissingExtraError: A `grpc://` URL needs the extra `flight`.
        QueryError: The event log cannot be read, or the service does not answer.
    """
    variables = os.environ if settings is None else settings
    defaults = ClientSettings.read(variables)
    url = source or defaults.url or ""
    client = _CLIENTS.get(scheme_of(url))
    if client is None:
        if url and not source:
            raise READER.refusal("DAGFUSION_URL", SERVICE_URL, url)
        if token is not None:
            raise SettingsError("a token is for a service: give its URL, or set DAGFUSION_URL")
        from dagfusion_query.connection import connect_embedded  # noqa: PLC0415  # DataFusion takes a while to import

        return connect_embedded(source, environment=environment, settings=variables)
    if environment is not None:
        raise SettingsError(
            f"a service has its own environments, so that {environment!r} cannot be chosen here: name their schemas"
        )
    module, name = client
    with needs("flight", "a connection over Arrow Flight SQL"):
        make = getattr(import_module(f"dagfusion_query.client.{module}"), name)
    connection: Connection = make(url, token or defaults.token)
    return connection

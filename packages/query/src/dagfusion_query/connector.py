"""`connect`, which returns an embedded connection or a client of a service."""

import os
from collections.abc import Mapping

from dagfusion_client import connector
from dagfusion_client.abstract_connection import Connection
from dagfusion_client.errors import SettingsError
from dagfusion_client.settings import ClientSettings, is_service_url


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
    url = source or ClientSettings.read(variables).url
    if url and (not source or is_service_url(url)):
        if environment is not None and is_service_url(url):
            raise SettingsError(
                f"a service has its own environments, so that {environment!r} cannot be chosen here: name their schemas"
            )
        return connector.connect(source, token=token, settings=variables)
    if token is not None:
        raise SettingsError("a token is for a service: give its URL, or set DAGFUSION_URL")
    from dagfusion_query.connection import connect_embedded  # noqa: PLC0415  # DataFusion takes a while to import

    return connect_embedded(source, environment=environment, settings=variables)

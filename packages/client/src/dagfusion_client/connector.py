"""`connect`, which returns a client of a query service."""

import os
from collections.abc import Mapping
from importlib import import_module

from dagfusion_client.abstract_connection import Connection
from dagfusion_client.errors import SettingsError, needs
from dagfusion_client.settings import READER, SERVICE_URL, ClientSettings, is_service_url
from dagfusion_contract.uri import scheme_of

_HTTP, _FLIGHT = ("http_client", "HttpConnection"), ("flight_client", "FlightConnection")


def connect(
    url: str | None = None, *, token: str | None = None, settings: Mapping[str, str] | None = None
) -> Connection:
    """Connect to a query service.

    Args:
        url: Its URL (`http://`, `https://`, `grpc://`, `grpc+tls://`); else `DAGFUSION_URL`.
        token: The access token; else `DAGFUSION_TOKEN`.
        settings: Variables, by name, to use instead of the process's environment.

    Raises:
        SettingsError: No service is named, or a setting has a value that it cannot have.
        MissingExtraError: A `grpc://` URL needs the extra `flight`.
        QueryError: The service does not answer.
    """
    defaults = ClientSettings.read(os.environ if settings is None else settings)
    where = url or defaults.url
    if not where:
        raise SettingsError("no query service is named: give its URL, or set DAGFUSION_URL")
    if not is_service_url(where):
        raise READER.refusal("url" if url else "DAGFUSION_URL", SERVICE_URL, where)
    module, name = _HTTP if scheme_of(where) in ("http", "https") else _FLIGHT  # only one is imported
    with needs("flight", "a connection over Arrow Flight SQL"):
        make = getattr(import_module(f"dagfusion_client.{module}"), name)
    connection: Connection = make(where, token or defaults.token)
    return connection

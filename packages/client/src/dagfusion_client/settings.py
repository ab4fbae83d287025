"""Settings of clients: the query service that they use."""

from collections.abc import Mapping
from dataclasses import dataclass

from dagfusion_client.errors import SettingsError
from dagfusion_contract.setting_declarations import SettingReader, declared, setting
from dagfusion_contract.uri import scheme_of

READER = SettingReader(SettingsError)
REVISIONS, REVISIONS_LIMIT = 20, 100  # of a table that are listed by default, and the most
SERVICE_SCHEMES = ("http", "https", "grpc", "grpc+tcp", "grpc+tls")
SERVICE_URL = "a URL that begins with http://, https://, grpc:// or grpc+tls://"


def is_service_url(text: str) -> bool:
    """Return True for the URL of a query service, and False for an event log."""
    return scheme_of(text) in SERVICE_SCHEMES


@dataclass(frozen=True)
class ClientSettings:
    """The service that clients use; `connect` and the commands that query take an argument for each, which wins."""

    url: str | None = setting(
        "DAGFUSION_URL",
        None,
        "The query service, http:// or grpc://, instead of an event log.",
    )
    token: str | None = setting(
        "DAGFUSION_TOKEN",
        None,
        "The access token for the query service. Prefer the variable: other users of the machine can see the arguments "
        "of a command.",
        is_secret=True,
    )

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> "ClientSettings":
        """Make settings from variables."""
        return cls(**READER.read_values(declared(cls), variables))

"""Checks of settings. Pure."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.doctor.fault import Fault
from dagfusion_query.secrets_manager import is_reference
from dagfusion_query.service_settings import ServiceSettings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def check_service(settings: ServiceSettings) -> Iterator[Fault]:
    """Find settings of the service that let in more than they should."""
    if settings.anonymous in ("always", "loopback"):
        yield Fault(
            "open_access",
            "DAGFUSION_ANONYMOUS",
            f"it is {settings.anonymous}: requests without a token can read all tables",
            "set it to never, and create tokens with `dagfusion token create`",
        )


def check_environment(config: EnvironmentConfig) -> Iterator[Fault]:
    """Find secrets in the clear, and a store that is reached without TLS."""
    settings, name = config.settings, config.name
    plain = [
        setting
        for setting, secret in (
            ("event_log", settings.event_log if _has_password(settings.event_log) else None),
            ("aws_secret_access_key", settings.secret_access_key),
            ("aws_session_token", settings.session_token),
        )
        if secret and not is_reference(secret)
    ]
    if plain and name != "local":
        yield Fault(
            "plain_secret",
            f"environment {name}",
            f"{' and '.join(plain)} {'has' if len(plain) == 1 else 'have'} a secret in the clear",
            "use a role for S3, and secretsmanager://name#key for the database",
        )
    endpoint = urlsplit(settings.endpoint_url or "")
    if endpoint.scheme == "http" and endpoint.hostname not in _LOOPBACK:
        yield Fault(
            "plain_http",
            f"environment {name}",
            f"the object store at {endpoint.hostname} is reached without TLS",
            "give an https:// URL as AWS_ENDPOINT_URL",
        )


def _has_password(event_log: str | None) -> bool:
    try:
        return bool(urlsplit(event_log or "").password)
    except ValueError:
        return False

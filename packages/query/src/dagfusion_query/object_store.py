"""Object stores: parses URIs, makes obstore clients, and has the retry times after an object was replaced."""

import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from obstore.store import LocalStore, ObjectStore, S3Store

from dagfusion_contract.secret_reference import is_reference
from dagfusion_query.secrets_manager import expiry, resolved
from dagfusion_query.settings import Settings

if TYPE_CHECKING:
    from obstore.store import S3Credential  # a type alone

# Until the run that writes the object has logged its event, every try finds it replaced.
_PAUSES_S = (0.0, 0.1, 0.2, 0.4, 0.6)
_LIMIT_S = 2.0


def object_path(uri: str) -> str:
    """Return what names an object inside its store: the key, or the path without its leading slash."""
    _, _, rest = uri.partition("://")
    _, _, path = rest.partition("/")
    return path


def store_url(uri: str) -> str:
    """Return the part of a URI that names its store: `s3://bucket/`, or `file:///`."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def store_parts(url: str) -> tuple[str, str]:
    """Return the scheme and the bucket of a store's URL."""
    scheme, _, rest = url.partition("://")
    return scheme, rest.rstrip("/")


def open_store(
    url: str, settings: Settings, *, connect_timeout: str, timeout: str, max_retries: int = 0
) -> ObjectStore:
    """Return a client for a store.

    Args:
        url: `s3://bucket/` or `file:///`.
        settings: Endpoint, region and credentials.
        connect_timeout: How long connecting may take, such as `2s`.
        timeout: How long a request may take.
        max_retries: How often a request is tried again.
    """
    scheme, bucket = store_parts(url)
    if scheme == "file":
        return LocalStore("/")
    options: dict[str, Any] = {
        "region": settings.region,
        "endpoint": settings.endpoint_url,
        **({"credential_provider": partial(_credential, settings)} if _is_in_secrets(settings) else _keys(settings)),
    }
    http: Any = {"connect_timeout": connect_timeout, "timeout": timeout}
    http["allow_http"] = bool(settings.endpoint_url and settings.endpoint_url.startswith("http://"))
    set_options = {key: value for key, value in options.items() if value is not None}
    return S3Store(bucket, client_options=http, retry_config={"max_retries": max_retries}, **set_options)


def store_keys(settings: Settings) -> Mapping[str, str | None]:
    """Return the access key, the secret key and the session token; those in AWS Secrets Manager as they are now.

    Raises:
        SettingsError: A reference to a secret is none.
        SecretUnavailableError: A secret cannot be read.
    """
    return {name: resolved(value, settings.region) for name, value in _keys(settings).items()}


def _keys(settings: Settings) -> dict[str, str | None]:
    return {
        "access_key_id": settings.access_key_id,
        "secret_access_key": settings.secret_access_key,
        "session_token": settings.session_token,
    }


def _is_in_secrets(settings: Settings) -> bool:
    return any(map(is_reference, _keys(settings).values()))


def _credential(settings: Settings) -> "S3Credential":
    keys = store_keys(settings)
    return {
        "access_key_id": keys["access_key_id"] or "",
        "secret_access_key": keys["secret_access_key"] or "",
        "token": keys["session_token"],
        "expires_at": expiry(),
    }


class StaleRetries:
    """The retries of one query: the first at once, then some within about two seconds; a long query has one."""

    def __init__(self) -> None:
        self._pauses = iter(_PAUSES_S)
        self._first_at: float | None = None

    def pause_s(self) -> float | None:
        """Return how long to wait before the catalog is refreshed and the query tried again; None to give up."""
        pause_s = next(self._pauses, None)
        if self._first_at is None:
            self._first_at = time.monotonic()
        elif pause_s is not None and time.monotonic() + pause_s - self._first_at > _LIMIT_S:
            return None
        return pause_s

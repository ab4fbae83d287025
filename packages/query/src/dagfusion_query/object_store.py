"""Object stores: makes obstore clients, tells why a request failed, and has the retry times of replaced objects.

`failure_of` is the one place of the query side that reads the errors of obstore and of the file system: a 403 is
`refused`. The text of an error is read by `dagfusion_contract.store_failure`, which says why the pipeline has another.
"""

import time
from collections.abc import Mapping
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError, NotFoundError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, ObjectStore, S3Store

from dagfusion_client.errors import StoreUnavailableError
from dagfusion_client.secrets_manager import expiry, resolved
from dagfusion_contract.secret_reference import is_reference
from dagfusion_contract.store_failure import Listing, failed_text, is_archived, status_of
from dagfusion_contract.uri import store_parts
from dagfusion_query.settings import Settings

if TYPE_CHECKING:
    from obstore.store import S3Credential  # a type alone

MISSING = (NotFoundError, FileNotFoundError, NotADirectoryError)
REFUSED = (PermissionDeniedError, UnauthenticatedError, PermissionError)
_LATER = (408, 425, 429)
_GONE = 404
# Until the run that writes the object has logged its event, every try finds it replaced.
_PAUSES_S = (0.0, 0.1, 0.2, 0.4, 0.6)
_LIMIT_S = 2.0


class StoreFailure(Enum):
    """The kinds of failures of a store."""

    missing = "missing"  # no such object, or no such bucket
    refused = "refused"  # the keys, the role or the request are wrong: asking again does not help
    archived = "archived"  # the object has to be restored before it can be read
    unavailable = "unavailable"  # no response, or one that asks for a retry


def failure_of(error: BaseException) -> StoreFailure:
    """Return why a store, or the file system, raised an error."""
    if isinstance(error, MISSING):  # the class before the text, in which a key may have any words
        return StoreFailure.missing
    if is_archived(error):
        return StoreFailure.archived
    if isinstance(error, REFUSED):
        return StoreFailure.refused
    if (status := status_of(error)) is None or status[0] in _LATER:
        return StoreFailure.unavailable
    return StoreFailure.missing if status[0] == _GONE else StoreFailure.refused


def is_absent(store: ObjectStore, path: str, error: BaseException) -> bool:
    """Return True if a request failed because the object is not there, or its bucket is not.

    S3 answers with 403 in place of 404 if a role may list some folders only. Then this lists the object's folder.

    Args:
        store: A client of the store.
        path: The object, as the client names it.
        error: As obstore or the file system raised it.
    """
    if not isinstance(error, PermissionDeniedError) or is_archived(error) or isinstance(store, LocalStore):
        return isinstance(error, MISSING)
    listing = Listing.of(path)
    try:
        pages = obstore.list(store, listing.folder, offset=listing.after, chunk_size=1000)
        return listing.lacks([found["path"] for found in page] for page in pages)
    except (BaseError, OSError):
        return False  # it may not be listed, either: the refusal is the caller's error


def store_error(error: BaseException, what: str, hint: str = "") -> StoreUnavailableError:
    """Return the error of a request that a store did not fulfil.

    Args:
        error: As obstore or the file system raised it.
        what: What was not done, such as `the object store did not give s3://lake/a`.
        hint: The next step.
    """
    return StoreUnavailableError(failed_text(error, what, hint))


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
    http["allow_http"] = settings.allows_http
    set_options = {key: value for key, value in options.items() if value is not None}
    return S3Store(bucket, client_options=http, retry_config={"max_retries": max_retries}, **set_options)


def store_keys(settings: Settings) -> Mapping[str, str | None]:
    """Return the access key, the secret key and the session token; those in AWS Secrets Manager as they are now.

    Raises:
        SettingsError: A reference to a secret cannot be parsed.
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

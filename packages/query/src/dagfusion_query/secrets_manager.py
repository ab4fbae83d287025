"""Values of settings that are references to secrets of AWS Secrets Manager, read by boto3, the extra `aws`.

The URL of an event log can be such a secret: `SecretUrl` follows the rotation of its password.
"""

import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from dagfusion_contract import aws_client as client
from dagfusion_contract.errors import RegionError, SecretError, SecretReferenceError
from dagfusion_contract.secret_reference import MAX_AGE_S, SecretReference, SecretValues
from dagfusion_query.errors import (
    EventLogLocationError,
    EventLogUnavailableError,
    QueryError,
    SecretUnavailableError,
    SettingsError,
    needs,
)

_POSTGRES = re.compile(r"postgres(ql)?(\+\w+)?://")
_PAUSE_S = 5.0  # between two readings of a secret whose password is wrong
_PARTS = ("host", "username", "password", "dbname")


def aws_client(service: str, region: str | None = None, **options: Any) -> Any:
    """Return a boto3 client of an AWS service.

    Args:
        service: Such as `secretsmanager`.
        region: If None, that of the process.
        options: For `boto3.client`, such as `endpoint_url`.

    Raises:
        MissingExtraError: The extra `aws` is not installed.
        SettingsError: No region is set.
    """
    try:
        with needs("aws", f"AWS's {service}"):
            return client.aws_client(service, region, **options)
    except RegionError as error:
        raise SettingsError(str(error)) from None


SECRETS = SecretValues(lambda region: aws_client("secretsmanager", region))


def reference_in(text: str) -> SecretReference | None:
    """Return the reference that a setting holds, or None.

    Raises:
        SettingsError: The setting begins as a reference and cannot be parsed.
    """
    try:
        return SecretReference.parse(text)
    except SecretReferenceError as error:
        raise SettingsError(str(error)) from None


def resolved(text: str | None, region: str | None = None) -> str | None:
    """Return the value that a setting refers to, or the setting as it is. A value is at most a minute old.

    Raises:
        SettingsError: The setting begins as a reference and cannot be parsed.
        SecretUnavailableError: The secret cannot be read.
    """
    try:
        return SECRETS.resolved(text, region)
    except (SecretReferenceError, SecretError) as error:
        raise query_error(error) from error


def query_error(error: SecretReferenceError | SecretError) -> QueryError:
    """Return the error of this package for one of the contract."""
    kind = SettingsError if isinstance(error, SecretReferenceError) else SecretUnavailableError
    return kind(str(error))


def expiry() -> datetime:
    """Return when values that are read now are to be read again."""
    return datetime.now(UTC) + timedelta(seconds=MAX_AGE_S)


class SecretUrl:
    """The URL of an event log that is a secret, whose password is rotated.

    The secret is a URL, or a JSON object as RDS and its rotation functions keep it: `host`, `port`, `username`,
    `password`, `dbname`.

    Args:
        reference: The secret.
        region: The region of AWS Secrets Manager; by default that of the process.
        secrets: Reads it.
    """

    def __init__(self, reference: SecretReference, region: str | None = None, secrets: SecretValues = SECRETS) -> None:
        self._reference, self._region, self._secrets = reference, region, secrets
        self._read_at = float("-inf")

    def attempts(self) -> Iterator[str]:
        """Yield the URLs to connect with, until one is accepted: as last read, as it is now, and the next.

        The next one is that of a rotation that has set the password of the database and has not ended yet.

        Raises:
            EventLogUnavailableError: The secret cannot be read.
            EventLogLocationError: The secret has no URL of PostgreSQL.
        """
        yield self._url(self._value(float("inf")))
        if time.monotonic() - self._read_at < _PAUSE_S:
            return
        self._read_at = time.monotonic()
        yield self._url(self._value(0.0))
        pending = self._secrets.pending(self._reference, self._region)
        if pending is not None:
            yield self._url(pending)

    def _value(self, max_age_s: float) -> str:
        try:
            return self._secrets.value(self._reference, self._region, max_age_s)
        except SecretError as error:
            raise EventLogUnavailableError(str(error)) from error

    def _url(self, text: str) -> str:
        if is_postgres(text):
            return without_dialect(text)
        try:
            parts = json.loads(text)
        except ValueError:
            parts = None
        if not isinstance(parts, dict) or not all(isinstance(parts.get(part), str) for part in _PARTS):
            raise EventLogLocationError(
                f"the secret {self._reference} must be a postgresql:// URL, or a JSON object with {', '.join(_PARTS)}"
            )
        host, user, password, database = (quote(parts[part], safe="") for part in _PARTS)
        return f"postgresql://{user}:{password}@{host}:{parts.get('port', 5432)}/{database}"

    def __str__(self) -> str:
        return str(self._reference)


def is_postgres(text: str) -> bool:
    """Return True for a URL of PostgreSQL."""
    return _POSTGRES.match(text) is not None


def without_dialect(url: str) -> str:
    """Return a URL of PostgreSQL without SQLAlchemy's dialect."""
    return _POSTGRES.sub("postgresql://", url, count=1)

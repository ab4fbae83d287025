"""The URL of an event log that is in AWS Secrets Manager, where its password is rotated.

The secret is a URL, or a JSON object as RDS and its rotation functions keep it: `host`, `port`, `username`, `password`,
`dbname`. They keep nothing about TLS, and libpq's default sends the password in plain text to a server that refuses
TLS. So a connection with the parts of an object requires TLS, unless its `sslmode` or libpq's `PGSSLMODE` is set.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from urllib.parse import quote

from dagfusion_client.errors import EventLogLocationError, EventLogUnavailableError
from dagfusion_client.secrets_manager import SECRETS
from dagfusion_contract.errors import SecretError
from dagfusion_contract.secret_reference import SecretReference, SecretValues

_POSTGRES = re.compile(r"postgres(ql)?(\+\w+)?://")
_PAUSE_S = 5.0  # between two readings of a secret whose password is wrong
_PARTS = ("host", "username", "password", "dbname")
_TLS_VARIABLE, _TLS = "PGSSLMODE", "require"
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class SecretUrl:
    """The URL that a secret has now.

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
        mode = parts.get("sslmode", os.environ.get(_TLS_VARIABLE) or _TLS)
        if mode not in _TLS_MODES:
            raise EventLogLocationError(
                f"sslmode of the secret {self._reference}, or {_TLS_VARIABLE}, must be one of {', '.join(_TLS_MODES)}"
            )
        return f"postgresql://{user}:{password}@{host}:{parts.get('port', 5432)}/{database}?sslmode={mode}"

    def __str__(self) -> str:
        return str(self._reference)


def is_postgres(text: str) -> bool:
    """Return True for a URL of PostgreSQL."""
    return _POSTGRES.match(text) is not None


def without_dialect(url: str) -> str:
    """Return a URL of PostgreSQL without SQLAlchemy's dialect."""
    return _POSTGRES.sub("postgresql://", url, count=1)

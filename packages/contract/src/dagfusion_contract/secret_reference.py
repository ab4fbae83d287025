"""References to secrets of AWS Secrets Manager, `secretsmanager://name#key`, and a cache of their values.

A setting that holds a secret may hold such a reference. A package brings the client, because this one needs pyarrow
alone. No error has the text of a secret.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dagfusion_contract.errors import SecretError, SecretReferenceError

SCHEME = "secretsmanager://"
CURRENT, PENDING = "AWSCURRENT", "AWSPENDING"
MAX_AGE_S = 60.0
_STALE_S = 15 * 60.0  # how long a value is used while Secrets Manager does not answer
_ARN_REGION = 3  # arn:aws:secretsmanager:us-east-2:...


def is_reference(text: str | None) -> bool:
    """Return True if a setting refers to a secret."""
    return text is not None and text.startswith(SCHEME)


@dataclass(frozen=True)
class SecretReference:
    """The name of a secret, and the key of its JSON object that has the value.

    Attributes:
        name: The name or the ARN of the secret.
        key: None for the whole text of the secret.
    """

    name: str
    key: str | None = None

    @classmethod
    def parse(cls, text: str | None) -> "SecretReference | None":
        """Return the reference that a setting holds, or None if the setting holds its value.

        Raises:
            SecretReferenceError: The text begins as a reference and is not one.

        Example:
            >>> SecretReference.parse("secretsmanager://prod/dagfusion#url")
            SecretReference(name='prod/dagfusion', key='url')
        """
        if text is None or not is_reference(text):
            return None
        name, mark, key = text.removeprefix(SCHEME).partition("#")
        if not name or (mark and not key) or name.split() != [name]:
            raise SecretReferenceError(
                f"a reference to a secret must be {SCHEME}name or {SCHEME}name#key, got {text!r}"
            )
        return cls(name, key or None)

    @property
    def region(self) -> str | None:
        """The region of the ARN; None for a name."""
        parts = self.name.split(":")
        return parts[_ARN_REGION] if parts[0] == "arn" and len(parts) > _ARN_REGION else None

    def value_in(self, secret: str) -> str:
        """Return the value in the text of the secret.

        Raises:
            SecretError: The text has no such key.
        """
        if self.key is None:
            return secret
        try:
            values = json.loads(secret)
        except ValueError:
            values = None
        found = values.get(self.key) if isinstance(values, dict) else None
        if not isinstance(found, str | int) or isinstance(found, bool) or found == "":
            raise SecretError(f"{self} has no value: the secret must be a JSON object with text under {self.key!r}")
        return str(found)

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"#{self.key}" if self.key else "")


class SecretValues:
    """Reads values of secrets, and keeps them for a minute. Thread-safe.

    Args:
        client_for: Makes a client with boto3's `get_secret_value`, for a region; None is the process's own region.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, client_for: Callable[[str | None], Any], clock: Callable[[], float] = time.monotonic) -> None:
        self._client_for, self._clock = client_for, clock
        self._clients: dict[str | None, Any] = {}
        self._texts: dict[tuple[str | None, str], tuple[float, str]] = {}
        self._returned: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def value(self, reference: SecretReference, region: str | None = None, max_age_s: float = MAX_AGE_S) -> str:
        """Return the current value of a secret, from the cache if it is not older than `max_age_s`.

        While Secrets Manager does not answer, a value is used for up to 15 minutes.

        Raises:
            SecretError: The secret cannot be read, or has no such value.
        """
        key = (reference.region or region, reference.name)
        with self._lock:
            age_s = self._clock() - self._texts[key][0] if key in self._texts else None
            if age_s is None or age_s > max_age_s or max_age_s <= 0:
                try:
                    self._texts[key] = (self._clock(), self._fetch(reference, key[0], CURRENT))
                except SecretError:
                    if age_s is None or age_s > _STALE_S or max_age_s <= 0:
                        raise
            return self._recorded(reference.value_in(self._texts[key][1]))

    def pending(self, reference: SecretReference, region: str | None = None) -> str | None:
        """Return the value that a rotation has set and not yet made current; None if there is no such value."""
        with self._lock:
            try:
                return self._recorded(reference.value_in(self._fetch(reference, reference.region or region, PENDING)))
            except SecretError:
                return None

    def resolved(self, text: str | None, region: str | None = None) -> str | None:
        """Return the value that a setting refers to, or the setting as it is.

        Raises:
            SecretReferenceError: The setting begins as a reference and is not one.
            SecretError: The secret cannot be read, or has no such value.
        """
        reference = SecretReference.parse(text)
        return text if reference is None else self.value(reference, region)

    @property
    def returned(self) -> frozenset[str]:
        """All values that were returned, which no text may show."""
        return self._returned

    def _recorded(self, value: str) -> str:
        self._returned |= {value}
        return value

    def _fetch(self, reference: SecretReference, region: str | None, stage: str) -> str:
        if region not in self._clients:
            self._clients[region] = self._client_for(region)
        try:
            answer = self._clients[region].get_secret_value(SecretId=reference.name, VersionStage=stage)
        except Exception as error:  # its class is that of a library that is not imported here
            code = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
            raise SecretError(
                f"the secret {reference} cannot be read from AWS Secrets Manager ({code}): check its name, the region, "
                "and that the role has secretsmanager:GetSecretValue for it"
            ) from error
        text = answer.get("SecretString")
        if not isinstance(text, str):
            raise SecretError(f"the secret {reference} is binary: store text in it")
        return text

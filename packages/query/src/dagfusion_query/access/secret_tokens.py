"""Access tokens whose file is the text of a secret of AWS Secrets Manager, for services that share no folder."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from dagfusion_client.errors import QueryError, SettingsError
from dagfusion_client.secrets_manager import SECRETS
from dagfusion_contract.errors import SecretError
from dagfusion_contract.secret_reference import SecretReference, SecretValues
from dagfusion_query.access.authentication import Token, Tokens

_MAX_AGE_S = 10.0  # about the time after which a revoked token is refused


class SecretTokens(Tokens):
    """The tokens of a secret, which this class cannot change. Thread-safe.

    The first look reads the secret. Later ones start a thread that reads it again, and do not wait, because the doors
    look at tokens on their event loops.

    Args:
        reference: The secret; its text is a file of tokens.
        secrets: Reads it.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        reference: SecretReference,
        secrets: SecretValues = SECRETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(Path(reference.name))
        self._reference, self._secrets, self._clock = reference, secrets, clock
        self._latest: dict[str, Token] | SettingsError | None = None
        self._read_at = 0.0
        self._reading = threading.Lock()

    def _current(self) -> dict[str, Token]:
        if self._latest is None:
            with self._reading:
                self._reread()
        elif self._clock() - self._read_at > _MAX_AGE_S and self._reading.acquire(blocking=False):
            threading.Thread(target=self._reread_and_release, name="dagfusion-tokens", daemon=True).start()
        latest = self._latest
        if isinstance(latest, dict):
            return latest
        raise SettingsError(str(latest))

    def _reread_and_release(self) -> None:
        try:
            self._reread()
        finally:
            self._reading.release()

    def _reread(self) -> None:
        try:
            self._latest = self._tokens_in(self._secrets.value(self._reference, max_age_s=_MAX_AGE_S))
        except (SecretError, QueryError) as error:
            self._latest = SettingsError(str(error))
        self._read_at = self._clock()

    def _changing(self) -> NoReturn:
        raise SettingsError(
            f"the access tokens are in {self._reference}, which this command does not change: change a file of tokens "
            "with DAGFUSION_TOKENS=FILE, and store it with `aws secretsmanager put-secret-value --secret-string "
            "file://FILE`"
        )

    def _unusable(self, why: str) -> SettingsError:
        return SettingsError(f"the file of access tokens in {self._reference} {why}")


def open_tokens(where: Path | SecretReference) -> Tokens:
    """Return the tokens of a file or of a secret."""
    return SecretTokens(where) if isinstance(where, SecretReference) else Tokens(where)

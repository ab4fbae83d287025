"""Access tokens whose file is the text of a secret of AWS Secrets Manager, for services that share no folder."""

from pathlib import Path
from typing import NoReturn

from dagfusion_contract.errors import SecretError
from dagfusion_contract.secret_reference import SecretReference, SecretValues
from dagfusion_query.access.authentication import Token, Tokens
from dagfusion_query.errors import SettingsError
from dagfusion_query.secrets_manager import SECRETS

_MAX_AGE_S = 10.0  # a revoked token is refused after this time


class SecretTokens(Tokens):
    """The tokens of a secret, which this class cannot change. Thread-safe.

    Args:
        reference: The secret; its text is a file of tokens.
        secrets: Reads it.
    """

    def __init__(self, reference: SecretReference, secrets: SecretValues = SECRETS) -> None:
        super().__init__(Path(reference.name))
        self._reference, self._secrets = reference, secrets
        self._parsed: tuple[str, dict[str, Token]] = ("", {})

    def _current(self) -> dict[str, Token]:
        try:
            text = self._secrets.value(self._reference, max_age_s=_MAX_AGE_S)
        except SecretError as error:
            raise SettingsError(str(error)) from error
        read, known = self._parsed
        if read != text:
            known = self._tokens_in(text)
            self._parsed = (text, known)
        return known

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

"""The access token that clients send, which may be in AWS Secrets Manager."""

from dagfusion_query.errors import SettingsError
from dagfusion_query.secrets_manager import resolved


def authorization(token: str | None) -> str | None:
    """Return the value of the header with an access token, or None without one.

    Args:
        token: The token; or a reference to the secret that has it, which is read again each minute.

    Raises:
        SettingsError: It is no token.
        SecretUnavailableError: The secret cannot be read.
    """
    secret = resolved(token)
    if secret is not None and not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise SettingsError("an access token must be printable ASCII without spaces: was it copied as a whole?")
    return None if secret is None else f"Bearer {secret}"

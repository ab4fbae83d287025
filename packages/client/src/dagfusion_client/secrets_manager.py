"""Values of settings that are references to secrets of AWS Secrets Manager, read by boto3, the extra `aws`."""

from datetime import UTC, datetime, timedelta
from typing import Any

from dagfusion_client.errors import QueryError, SecretUnavailableError, SettingsError, needs
from dagfusion_contract import aws_client as client
from dagfusion_contract.errors import RegionError, SecretError, SecretReferenceError
from dagfusion_contract.secret_reference import MAX_AGE_S, SecretReference, SecretValues


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
    """Return the `QueryError` for an error of the contract."""
    kind = SettingsError if isinstance(error, SecretReferenceError) else SecretUnavailableError
    return kind(str(error))


def expiry() -> datetime:
    """Return when values that are read now are to be read again."""
    return datetime.now(UTC) + timedelta(seconds=MAX_AGE_S)

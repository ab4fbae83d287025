"""Values of settings that are references to secrets of AWS Secrets Manager, read by boto3, the extra `aws`.

boto3 finds credentials, and the endpoint, in its own variables, profile or role.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from dagfusion_contract.errors import SecretError, SecretReferenceError
from dagfusion_contract.secret_reference import MAX_AGE_S, SCHEME, SecretReference, SecretValues
from dagfusion_query.errors import QueryError, SecretUnavailableError, SettingsError, needs

_TIMEOUTS = {"connect_timeout": 3, "read_timeout": 5, "retries": {"total_max_attempts": 2, "mode": "standard"}}


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
    with needs("aws", f"AWS's {service}"):
        import boto3  # noqa: PLC0415  # takes a third of a second to import
        from botocore.config import Config  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415
    session = Session()
    if is_reference(os.environ.get("AWS_ACCESS_KEY_ID")):  # boto3 would take the reference for a key
        session.get_component("credential_provider").remove("env")
    region = region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if region is None:
        raise SettingsError(f"AWS's {service} needs a region: set AWS_REGION, or give the ARN of a secret")
    config = Config(**_TIMEOUTS)
    return boto3.Session(botocore_session=session).client(service, region_name=region, config=config, **options)


SECRETS = SecretValues(lambda region: aws_client("secretsmanager", region))


def is_reference(text: str | None) -> bool:
    """Return True if a setting refers to a secret."""
    return text is not None and text.startswith(SCHEME)


def reference_in(text: str) -> SecretReference | None:
    """Return the reference that a setting holds, or None.

    Raises:
        SettingsError: It begins as one and is none.
    """
    try:
        return SecretReference.parse(text)
    except SecretReferenceError as error:
        raise SettingsError(str(error)) from None


def resolved(text: str | None, region: str | None = None) -> str | None:
    """Return the value that a setting refers to, or the setting as it is. A value is at most a minute old.

    Raises:
        SettingsError: The setting begins as a reference and is none.
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

"""Values of settings that are references to secrets of AWS Secrets Manager.

boto3 finds credentials, and the endpoint, in its own variables, profile or role.
"""

import os
from typing import Any

from dagfusion_contract.errors import SecretError, SecretReferenceError
from dagfusion_contract.secret_reference import SCHEME, SecretValues
from dagfusion_pipeline.errors import ConfigurationError, SecretUnavailableError


def is_reference(text: str | None) -> bool:
    """Whether a setting refers to a secret."""
    return text is not None and text.startswith(SCHEME)


def resolved(text: str | None, region: str | None = None) -> str | None:
    """The value that a setting refers to, at most a minute old; or the setting as it is.

    Raises:
        ConfigurationError: the setting begins as a reference and is none, or no region is known.
        SecretUnavailableError: the secret cannot be read.
    """
    try:
        return SECRETS.resolved(text, region)
    except SecretReferenceError as error:
        raise ConfigurationError(str(error)) from None
    except SecretError as error:
        raise SecretUnavailableError(str(error)) from error


def _client(region: str | None) -> Any:
    import boto3  # noqa: PLC0415  # takes a third of a second to import
    from botocore.session import Session  # noqa: PLC0415

    session = Session()
    if is_reference(os.environ.get("AWS_ACCESS_KEY_ID")):  # boto3 would take the reference for a key
        session.get_component("credential_provider").remove("env")
    region = region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if region is None:
        raise ConfigurationError("AWS Secrets Manager needs a region: set AWS_REGION, or give the ARN of a secret")
    return boto3.Session(botocore_session=session).client("secretsmanager", region_name=region)


SECRETS = SecretValues(_client)

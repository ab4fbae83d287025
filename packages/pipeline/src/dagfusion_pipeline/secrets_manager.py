"""Values of settings that are references to secrets of AWS Secrets Manager."""

from dagfusion_contract.aws_client import aws_client
from dagfusion_contract.errors import RegionError, SecretError, SecretReferenceError
from dagfusion_contract.secret_reference import SecretValues
from dagfusion_pipeline.errors import ConfigurationError, SecretUnavailableError

SECRETS = SecretValues(lambda region: aws_client("secretsmanager", region))


def resolved(text: str | None, region: str | None = None) -> str | None:
    """Return the value that a setting refers to, at most a minute old; or the setting as it is.

    Raises:
        ConfigurationError: The setting begins as a reference and is none, or no region is known.
        SecretUnavailableError: The secret cannot be read.
    """
    try:
        return SECRETS.resolved(text, region)
    except (RegionError, SecretReferenceError) as error:
        raise ConfigurationError(str(error)) from None
    except SecretError as error:
        raise SecretUnavailableError(str(error)) from error

"""Clients of AWS services by boto3, which both sides use and which this package does not require.

boto3 finds credentials, and the endpoint, in its own variables, profile or role.
"""

import os
from typing import Any

from dagfusion_contract.errors import RegionError
from dagfusion_contract.secret_reference import is_reference

# Without these, boto3 waits a minute for an answer, and asks five times.
_LIMITS = {"connect_timeout": 3, "read_timeout": 5, "retries": {"total_max_attempts": 2, "mode": "standard"}}


def aws_client(service: str, region: str | None = None, **options: Any) -> Any:
    """Return a boto3 client of an AWS service, which connects within 3 s, reads within 5 s, and tries twice.

    Args:
        service: Such as `secretsmanager`.
        region: If None, that of the process.
        options: For `boto3.client`, such as `endpoint_url`.

    Raises:
        ModuleNotFoundError: boto3 is not installed.
        RegionError: No region is set.
    """
    import boto3  # noqa: PLC0415  # takes a third of a second to import
    from botocore.config import Config  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    session = Session()
    if is_reference(os.environ.get("AWS_ACCESS_KEY_ID")):  # boto3 would take the reference for a key
        session.get_component("credential_provider").remove("env")
    region = region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if region is None:
        raise RegionError(f"AWS's {service} needs a region: set AWS_REGION, or give the ARN of a secret")
    made = boto3.Session(botocore_session=session)
    return made.client(service, region_name=region, config=Config(**_LIMITS), **options)

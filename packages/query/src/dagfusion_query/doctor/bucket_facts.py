"""Reads the facts about a bucket that checks and costs need, by boto3."""

import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

from dagfusion_query.doctor.bucket_checks import BucketFacts
from dagfusion_query.object_store import store_keys
from dagfusion_query.secrets_manager import aws_client
from dagfusion_query.settings import Settings

_NOT_SET = frozenset(
    {
        "NoSuchPublicAccessBlockConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
        "NoSuchLifecycleConfiguration",
    }
)
# The check that needs an operation.
_OPERATIONS = {
    "get_public_access_block": "bucket_public",
    "get_bucket_encryption": "bucket_unencrypted",
    "get_bucket_versioning": "bucket_unversioned",
    "get_bucket_lifecycle_configuration": "bucket_without_lifecycle",
    "get_bucket_location": "bucket_region",
}


def s3_client(settings: Settings) -> Any:
    """Return boto3's client of an environment's object store.

    Raises:
        MissingExtraError: The extra `aws` is not installed.
    """
    keys = {f"aws_{name}": value for name, value in store_keys(settings).items() if value is not None}
    return aws_client("s3", settings.region, endpoint_url=settings.endpoint_url, **keys)


def read_bucket_facts(client: Any, bucket: str, clock: Callable[[], float] = time.time) -> BucketFacts:
    """Return the facts of a bucket; what its user may not ask for is in `unknown`.

    Args:
        client: Of boto3.
        bucket: The name.
        clock: The clock of this machine, in seconds since 1970.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # with the client, it is installed

    try:
        answer = client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except (ClientError, BotoCoreError) as error:
        return BucketFacts(bucket, problem=_reason(error))
    skew_s = _skew_s(answer["ResponseMetadata"]["HTTPHeaders"], clock())
    found: dict[str, Mapping[str, Any]] = {}
    unknown: dict[str, str] = {}
    for operation, check in _OPERATIONS.items():
        try:
            found[operation] = getattr(client, operation)(Bucket=bucket)
        except (ClientError, BotoCoreError) as error:
            if _reason(error) not in _NOT_SET:
                unknown.setdefault(check, f"{operation}: {_reason(error)}")
    if "bucket_without_lifecycle" in unknown:
        unknown["bucket_keeps_parts"] = unknown["bucket_without_lifecycle"]
    rules = found.get("get_bucket_encryption", {}).get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules]
    return BucketFacts(
        bucket,
        region=found["get_bucket_location"].get("LocationConstraint") or "us-east-1"
        if "get_bucket_location" in found
        else None,
        public_access_block=found.get("get_public_access_block", {}).get("PublicAccessBlockConfiguration", {}),
        encryption=next((default["SSEAlgorithm"] for default in defaults if "SSEAlgorithm" in default), None),
        versioning=found.get("get_bucket_versioning", {}).get("Status"),
        lifecycle=tuple(found.get("get_bucket_lifecycle_configuration", {}).get("Rules", ())),
        skew_s=skew_s,
        unknown=MappingProxyType(unknown),
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__)


def _skew_s(headers: Mapping[str, str], now_s: float) -> float:
    date = headers.get("date")
    return 0.0 if date is None else now_s - parsedate_to_datetime(date).timestamp()

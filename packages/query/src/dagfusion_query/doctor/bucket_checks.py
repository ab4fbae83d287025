"""Checks of a bucket. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from dagfusion_query.doctor.fault import Fault, Unknown

BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@dataclass(frozen=True)
class BucketFacts:
    """What S3 reports of a bucket.

    Attributes:
        name: Of the bucket.
        problem: Why it cannot be listed; None if it can.
        region: Its region.
        public_access_block: The four settings; those that are not there are off.
        encryption: The default encryption; None without one.
        versioning: `Enabled`, `Suspended`, or None if it never had versions.
        lifecycle: Its rules.
        skew_s: How far the clock of this machine is ahead of the server's, in seconds.
        unknown: Why facts cannot be read, by the name of the check.
    """

    name: str
    problem: str | None = None
    region: str | None = None
    public_access_block: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    encryption: str | None = None
    versioning: str | None = None
    lifecycle: Sequence[Mapping[str, Any]] = ()
    skew_s: float = 0.0
    unknown: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def url(self) -> str:
        """The URL of the bucket."""
        return f"s3://{self.name}"


def check_bucket(facts: BucketFacts, region: str | None) -> Iterator[Fault]:
    """Find faults of a bucket.

    Args:
        facts: The bucket.
        region: The region that the settings have.
    """
    if facts.problem is not None:
        step = "check the name, the endpoint, the credentials, and that the role has s3:ListBucket"
        yield Fault("bucket_unreachable", facts.url, f"the bucket cannot be listed: {facts.problem}", step)
        return
    for name, fault in (
        ("bucket_public", _public(facts)),
        ("bucket_unencrypted", _unencrypted(facts)),
        ("bucket_unversioned", _unversioned(facts)),
        ("bucket_without_lifecycle", _without_lifecycle(facts)),
        ("bucket_keeps_parts", _keeps_parts(facts)),
        ("bucket_region", _elsewhere(facts, region)),
    ):
        if fault is not None and name not in facts.unknown:
            yield Fault(name, facts.url, *fault)


def unknown_facts(facts: BucketFacts) -> list[Unknown]:
    """Return what could not be looked at."""
    return [Unknown(check, facts.url, why) for check, why in facts.unknown.items()]


def _public(facts: BucketFacts) -> tuple[str, str] | None:
    off = [name for name in BLOCKS if not facts.public_access_block.get(name)]
    if not off:
        return None  # then no policy and no list of rights can make it public
    what = f"{', '.join(off)} of its public access block {'is' if len(off) == 1 else 'are'} off"
    return what, "turn on all four settings of the public access block"


def _unencrypted(facts: BucketFacts) -> tuple[str, str] | None:
    if facts.encryption is not None:
        return None
    return "it has no default encryption", "set SSE-S3 (AES256) or SSE-KMS as its default encryption"


def _unversioned(facts: BucketFacts) -> tuple[str, str] | None:
    if facts.versioning == "Enabled":
        return None
    state = "suspended" if facts.versioning else "off"
    return (
        f"its versioning is {state}: a deleted or replaced object is lost",
        "enable versioning, with a lifecycle rule that expires noncurrent versions",
    )


def _without_lifecycle(facts: BucketFacts) -> tuple[str, str] | None:
    if any(rule.keys() & {"Expiration", "Transitions", "NoncurrentVersionExpiration"} for rule in _enabled(facts)):
        return None
    return (
        "no enabled lifecycle rule moves or expires objects or their old versions",
        "add rules such as those of deploy/aws: archive after 90 days, delete after a year, expire old versions",
    )


def _keeps_parts(facts: BucketFacts) -> tuple[str, str] | None:
    if any("AbortIncompleteMultipartUpload" in rule for rule in _enabled(facts)):
        return None
    return (
        "no lifecycle rule aborts multipart uploads that never end, whose parts are paid for",
        "add a rule with AbortIncompleteMultipartUpload after 7 days",
    )


def _elsewhere(facts: BucketFacts, region: str | None) -> tuple[str, str] | None:
    if facts.region is None or region is None or facts.region == region:
        return None
    return (
        f"it is in {facts.region}, and the settings have {region}",
        f"set AWS_REGION={facts.region}, or aws_region of the environment: requests to another region fail",
    )


def _enabled(facts: BucketFacts) -> list[Mapping[str, Any]]:
    return [rule for rule in facts.lifecycle if rule.get("Status") == "Enabled"]

"""Checks of the settings, the database, the buckets, the tables and their objects: facts in, faults out. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from dagfusion_cli.doctor.bucket_facts import BucketFacts, Comparison
from dagfusion_client.errors import EventLogError, EventLogSchemaError, NotParquetError
from dagfusion_client.preview import counted
from dagfusion_contract.secret_reference import is_reference
from dagfusion_query.catalog.model import Snapshot, Table
from dagfusion_query.config import EnvironmentConfig
from dagfusion_query.event_log.postgres_connection import DatabaseFacts
from dagfusion_query.scan.large_objects import consolidation_gain
from dagfusion_query.service_settings import ServiceSettings

_NAMED = 3  # items of a list in a text
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# The revision that this reader is tested with, and those before it, which differ in tables that it does not read.
KNOWN_SCHEMAS = frozenset({"29b539ebc72a", "f495c27d5019", "7e2f3204cf8e", "6b7fb194ff9c", "16e3655b4d9b"})
# What reading needs. `docs/how-to/deployment.md` has the same tables.
GRANT = "grant select on event_logs, asset_keys, runs, run_tags, alembic_version"
MOST_SKEW_S = 30.0
BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Its kind, such as `bucket_public`.
        where: The database, bucket, table or setting.
        what: What is wrong.
        next_step: What to do.
    """

    name: str
    where: str
    what: str
    next_step: str


@dataclass(frozen=True)
class Unknown:
    """Something that could not be looked at, and why."""

    check: str
    where: str
    why: str


def named(items: Sequence[str]) -> str:
    """Return the first of some names, and the number of the others."""
    more = len(items) - _NAMED
    return ", ".join(items[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def check_service(settings: ServiceSettings) -> Iterator[Fault]:
    """Find settings of the service that let in more than they should."""
    if settings.anonymous in ("always", "loopback"):
        yield Fault(
            "open_access",
            "DAGFUSION_ANONYMOUS",
            f"it is {settings.anonymous}: requests without a token can read all tables",
            "set it to never, and create tokens with `dagfusion token create`",
        )
    if "token=" in (settings.spark_remote or "") and not is_reference(settings.spark_remote):
        yield Fault(
            "plain_secret",
            "DAGFUSION_SPARK_REMOTE",
            "it has a token in the clear",
            "use secretsmanager://name#key for the URL",
        )


def check_environment(config: EnvironmentConfig) -> Iterator[Fault]:
    """Find secrets in the clear, and a store that is reached without TLS."""
    settings, name = config.settings, config.name
    readable = [
        setting
        for setting, secret in (
            ("event_log", settings.event_log if _has_password(settings.event_log) else None),
            ("aws_secret_access_key", settings.secret_access_key),
            ("aws_session_token", settings.session_token),
        )
        if secret and not is_reference(secret)
    ]
    if readable and name != "local":
        yield Fault(
            "plain_secret",
            f"environment {name}",
            f"{' and '.join(readable)} {'has' if len(readable) == 1 else 'have'} a secret in the clear",
            "use a role for S3, and secretsmanager://name#key for the database",
        )
    endpoint = urlsplit(settings.endpoint_url or "")
    if endpoint.scheme == "http" and endpoint.hostname not in _LOOPBACK:
        yield Fault(
            "plain_http",
            f"environment {name}",
            f"the object store at {endpoint.hostname} is reached without TLS",
            "give an https:// URL as AWS_ENDPOINT_URL",
        )


def _has_password(event_log: str | None) -> bool:
    try:
        return bool(urlsplit(event_log or "").password)
    except ValueError:
        return False


def unreachable(error: EventLogError, where: str) -> Fault:
    """Return the fault of a database that cannot be read."""
    if isinstance(error, EventLogSchemaError):
        step = f"give the URL of Dagster's database, and grant its user what it reads: `{GRANT}`"
        return Fault("database_not_dagster", where, str(error), step)
    step = "check that PostgreSQL runs, that the network lets this machine through, and the password"
    return Fault("database_unreachable", where, str(error), step)


def check_rights(facts: DatabaseFacts, where: str) -> Iterator[Fault]:
    """Find rights that reading does not need."""
    reasons = []
    if facts.is_privileged:
        reasons.append("it is a superuser, or may create roles or databases")
    if facts.may_create:
        reasons.append("it may create tables or schemas")
    if facts.writable:
        reasons.append(f"it may change {named(facts.writable)}")
    if reasons:
        yield Fault(
            "database_rights",
            where,
            f"the user {facts.user} has more rights than reading needs: {'; '.join(reasons)}",
            f"create a role with LOGIN and `{GRANT}` only, and connect as that role",
        )


def check_schema_version(facts: DatabaseFacts, where: str) -> Iterator[Fault]:
    """Find a schema that this reader does not know."""
    if facts.schema_version not in KNOWN_SCHEMAS:
        found = "no revision that can be read" if facts.schema_version is None else f"revision {facts.schema_version}"
        yield Fault(
            "schema_version_unknown",
            where,
            f"the tables of Dagster have {found}, which this version of DagFusion does not know",
            "run `dagster instance migrate` after an upgrade of Dagster, grant SELECT on alembic_version, or upgrade "
            "DagFusion",
        )


def check_clock(skew_s: float, where: str) -> Iterator[Fault]:
    """Find a clock that differs from that of a server."""
    if abs(skew_s) > MOST_SKEW_S:
        off = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'}"
        yield Fault(
            "clock_skew",
            where,
            f"the clock of this machine is {off} that of the server",
            "run a time service such as chrony: S3 refuses requests that are 15 minutes off",
        )


@dataclass(frozen=True)
class CheckpointFacts:
    """The checkpoint of a catalog.

    Attributes:
        folder: Where it is to be; None if none is configured.
        problem: Why it cannot be used; None if it can, or is not there.
        written_at_s: When it was written, in seconds since 1970; None if it is not there.
        missed: Materializations of more than an hour ago that it does not have.
        purged: Assets whose materializations were purged from the event log, and that no checkpoint has.
    """

    folder: str | None
    problem: str | None = None
    written_at_s: float | None = None
    missed: int = 0
    purged: tuple[str, ...] = ()


def check_checkpoint(facts: CheckpointFacts, where: str) -> Iterator[Fault]:
    """Find a checkpoint that is of no use, and tables that were lost for want of one."""
    if facts.purged:
        yield Fault(
            "event_log_purged",
            where,
            f"all materializations of {named(facts.purged)} were deleted, and no checkpoint has them",
            "materialize these assets again, and set DAGFUSION_CATALOG_CHECKPOINT before events are purged",
        )
    if facts.folder is None:
        return
    if facts.problem is not None:
        step = "read the message; if the objects of the checkpoint are of no use any more, delete them"
        yield Fault("checkpoint_unusable", facts.folder, facts.problem, step)
    elif facts.written_at_s is None:
        step = "start the service, whose role needs the right to read and to write there"
        yield Fault("checkpoint_missing", facts.folder, "there is no checkpoint yet", step)
    elif facts.missed:
        at = datetime.fromtimestamp(facts.written_at_s, UTC)
        yield Fault(
            "checkpoint_stale",
            facts.folder,
            f"it was written at {at:%Y-%m-%d %H:%M} UTC, and {counted(facts.missed, 'materialization')} came after it, "
            "more than an hour ago",
            "start the service, and read in the service's log why it does not write the checkpoint",
        )


def check_tables(snapshot: Snapshot) -> Iterator[Fault]:
    """Find tables that cannot be read, that leave something out, or that would gain from a consolidation."""
    for name, collision in snapshot.problems.items():
        step = "rename one of the assets, and wipe the other name's materializations"
        yield Fault("name_collision", str(name), str(collision), step)
    for name, table in snapshot.tables.items():
        if isinstance(table.problem, NotParquetError):
            continue  # an asset of another IO manager, which is no table
        if table.problem is not None:
            step = "materialize the partitions that differ again, or give the asset another key"
            yield Fault("table_unusable", str(name), str(table.problem), step)
            continue
        for warning in table.warnings:
            step = "materialize what is left out again; `dagfusion describe` has all warnings of the table"
            yield Fault("table_incomplete", str(name), str(warning), step)
        if consolidation_gain(table).would_gain:
            yield Fault(
                "small_files",
                str(name),
                f"it has {counted(len(table.files), 'small file')}, each of which costs a request",
                f"run `dagfusion consolidate {name}`, or schedule build_consolidate_job",
            )


def check_objects(table: Table, found: Comparison) -> Iterator[Fault]:
    """Find differences between the objects of a table and its events."""
    files = len(table.files)
    partitions = dict(zip(table.files["uri"].to_pylist(), table.files["partition_key"].to_pylist(), strict=True))
    where = str(table.name)

    def again(uris: list[str]) -> str:
        keys = [str(partitions[uri]) for uri in uris if partitions.get(uri) is not None]
        asset = "/".join(table.asset_key)
        again = f"materialize asset {asset} again{f', partitions {named(keys)}' if keys else ''}"
        return f"{again}, or run `dagfusion doctor --repair`, which logs events for the objects as they are"

    if found.missing:
        what = f"{len(found.missing):,} of {counted(files, 'object')} are not in the bucket: {named(found.missing)}"
        yield Fault("objects_missing", where, what, f"restore their last versions, or {again([*found.missing])}")
    if found.changed:
        changed = f"{len(found.changed):,} of {counted(files, 'object')}"
        what = f"{changed} are not those of their events: {named(found.changed)}"
        yield Fault("objects_changed", where, what, f"find what else writes there, then {again([*found.changed])}")
    if found.orphaned:
        what = f"{counted(len(found.orphaned), 'object')} that no event names: {named(found.orphaned)}"
        step = "run the vacuum job for objects of earlier runs; delete others by hand, or log events for them"
        yield Fault("objects_orphaned", where, what, step)
    if found.archived:
        what = (
            f"{counted(len(found.archived), 'object')} in an archive that queries cannot read: {named(found.archived)}"
        )
        step = (
            "restore them, let the lifecycle rule use GLACIER_IR, which can be read, or set"
            " DAGFUSION_ARCHIVED_AFTER_DAYS, so that queries leave them out with a warning"
        )
        yield Fault("objects_archived", where, what, step)


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

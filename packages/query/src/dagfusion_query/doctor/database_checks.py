"""Checks of the database of an event log. Pure."""

from collections.abc import Iterator

from dagfusion_query.doctor.fault import Fault, named
from dagfusion_query.errors import EventLogError, EventLogSchemaError
from dagfusion_query.event_log.postgres_connection import DatabaseFacts

# The revision that this reader is tested with, and those before it, which differ in tables that it does not read.
KNOWN_SCHEMAS = frozenset({"29b539ebc72a", "f495c27d5019", "7e2f3204cf8e", "6b7fb194ff9c", "16e3655b4d9b"})
MOST_SKEW_S = 30.0


def unreachable(error: EventLogError, where: str) -> Fault:
    """Return the fault of a database that cannot be read."""
    if isinstance(error, EventLogSchemaError):
        step = "give the URL of Dagster's database, and grant its user SELECT on all tables"
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
            "create a role with LOGIN and `grant select on all tables in schema public` only, and connect as that role",
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

"""Facts about the database of an event log that `dagfusion doctor` checks: the rights of its user, and its schema."""

from dataclasses import dataclass

from dagfusion_query.event_log.postgres_connection import Transaction

_ROLE = """
select current_user, rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls,
    has_database_privilege(current_database(), 'CREATE')
        or exists (select from pg_namespace where nspname !~ '^pg_' and has_schema_privilege(oid, 'CREATE')),
    extract(epoch from clock_timestamp())::float8
from pg_roles where rolname = current_user
"""
_WRITABLE = """
select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    and has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
order by 1
"""
_HAS_VERSION = (
    "select has_table_privilege('alembic_version', 'SELECT') from to_regclass('alembic_version') t where t > 0"
)
_VERSION = "select version_num from alembic_version"


@dataclass(frozen=True)
class DatabaseFacts:
    """The database, as its user sees it.

    Attributes:
        user: The role of the connection.
        is_privileged: Whether the role is a superuser, or may create roles or databases, replicate, or bypass policies.
        may_create: Whether it may create tables or schemas.
        writable: The tables that it may change.
        schema_version: Dagster's revision of the tables; None if it cannot be read.
        now_s: The clock of the server, in seconds since 1970.
    """

    user: str
    is_privileged: bool
    may_create: bool
    writable: tuple[str, ...]
    schema_version: str | None
    now_s: float


def read_database_facts(run: Transaction) -> DatabaseFacts:
    """Return the facts of a transaction's database."""
    user, is_privileged, may_create, now_s = run(_ROLE)[0]
    writable = tuple(name for (name,) in run(_WRITABLE))
    has_version = run(_HAS_VERSION) == [(True,)]
    versions = run(_VERSION) if has_version else []
    version = str(versions[0][0]) if len(versions) == 1 else None
    return DatabaseFacts(user, is_privileged, may_create, writable, version, now_s)

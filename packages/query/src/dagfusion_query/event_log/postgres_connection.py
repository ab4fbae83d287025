"""The connection to PostgreSQL: connects, reconnects once after a loss, runs transactions and translates errors.

A transaction is read-only and repeatable-read, with a statement timeout. A connection pooler may be in between.
`DatabaseFacts` are what `dagfusion doctor` checks of the database: the rights of its user, and its schema.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dagfusion_client.errors import EventLogError, EventLogLocationError, EventLogSchemaError, EventLogUnavailableError
from dagfusion_query.event_log.secret_url import SecretUrl

_CONNECT_TIMEOUT_S = 5
_ROWS_AT_ONCE = 512
_PREFETCHED_CHUNKS = 16  # a socket holds a hundred rows or so, and beyond that the server would wait for their reader

# Read the facts for `dagfusion doctor`.
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

T = TypeVar("T")


class Transaction:
    """Runs statements inside one transaction."""

    def __init__(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        self._connection = connection

    def __call__(self, query: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Return all rows of a statement."""
        cursor = self._connection.execute(query.encode(), params)
        return cursor.fetchall() if cursor.description else []

    def stream(self, query: str, params: Any) -> Iterator[tuple[Any, ...]]:
        """Yield rows while the server still finds them, so that both work at once and neither holds them all."""
        for rows in prefetched(self._chunks(query, params), _PREFETCHED_CHUNKS):
            yield from rows

    def _chunks(self, query: str, params: Any) -> Generator[list[tuple[Any, ...]]]:
        with self._connection.cursor() as cursor:
            rows = cursor.stream(query.encode(), params, size=_ROWS_AT_ONCE)
            while chunk := list(islice(rows, _ROWS_AT_ONCE)):
                yield chunk


class Database:
    """Runs transactions, one at a time, over a connection that is made when it is needed. Thread-safe.

    Args:
        conninfo: A libpq connection string or URL, without a dialect; or the secret that has it, which is read again
            when the server refuses the password.

    Raises:
        EventLogLocationError: `conninfo` is not one.
    """

    def __init__(self, conninfo: str | SecretUrl) -> None:
        self._secret = conninfo if isinstance(conninfo, SecretUrl) else None
        self._conninfo, self._name = ("", str(conninfo)) if isinstance(conninfo, SecretUrl) else _parsed(conninfo)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, operation: Callable[[Transaction], T], timeout_s: int, *, retry: bool = True) -> T:
        """Return what an operation makes of a transaction.

        Args:
            operation: Called with the transaction.
            timeout_s: Seconds that each of its statements may take.
            retry: Whether it is called again if an old connection turns out to be closed.

        Raises:
            EventLogError: The database cannot be reached, is not Dagster's, or does not answer in time.
        """
        with self._lock:
            fresh = self._connection is None
            try:
                return self._transact(operation, timeout_s)
            except EventLogUnavailableError:
                if fresh or not retry or self._connection is not None:
                    raise
            return self._transact(operation, timeout_s)  # it was an old connection: the server may be back already

    def close(self) -> None:
        """Close the connection, and end a transaction that is in progress in another thread."""
        self._closed = True
        connection = self._connection
        if connection is not None and self._lock.locked():
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_CONNECT_TIMEOUT_S)
        with self._lock:
            self._disconnect()

    def _transact(self, operation: Callable[[Transaction], T], timeout_s: int) -> T:
        if self._closed:
            raise EventLogUnavailableError(f"the event log at {self._name} was closed")
        try:
            if self._connection is None:
                self._connection = self._connect()
                self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                self._connection.read_only = True
            with self._connection.transaction():
                run = Transaction(self._connection)
                run(f"set local statement_timeout = {timeout_s * 1000}")
                return operation(run)
        except psycopg.errors.QueryCanceled as error:
            raise EventLogUnavailableError(
                f"the event log at {self._name} did not answer within {timeout_s} s: {_first_line(error)}"
            ) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._disconnect()
            raise EventLogUnavailableError(
                f"the event log at {self._name} cannot be reached; is PostgreSQL running there? {_first_line(error)}"
            ) from error
        except psycopg.ProgrammingError as error:
            raise EventLogSchemaError(
                f"the database at {self._name} does not look like Dagster's, or may not be read: {_first_line(error)}"
            ) from error
        except psycopg.Error as error:
            self._disconnect()
            raise EventLogError(f"the event log at {self._name} cannot be read: {_first_line(error)}") from error

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._secret is None:
            return psycopg.connect(self._conninfo)
        tried: set[str] = set()
        refused: psycopg.OperationalError | None = None
        for url in self._secret.attempts():
            conninfo, self._name = _parsed(url)
            if conninfo in tried:
                continue
            tried.add(conninfo)
            try:
                return psycopg.connect(conninfo)
            except psycopg.OperationalError as error:
                if not _needs_password(error):
                    raise
                refused = error
        raise refused or psycopg.OperationalError("the secret has no URL")

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _parsed(conninfo: str) -> tuple[str, str]:
    """Return a complete connection string, and the URL without its password.

    Raises:
        EventLogLocationError: The text is not a connection string.
    """
    try:
        given = conninfo_to_dict(conninfo)
    except psycopg.Error:  # its text may quote the password
        raise EventLogLocationError(
            "the event log's URL must read postgresql://user:password@host:port/database, with any special "
            "character of the password percent-encoded; PostgreSQL's client cannot parse the one given"
        ) from None
    given.setdefault("connect_timeout", _CONNECT_TIMEOUT_S)
    given.setdefault("application_name", "dagfusion")
    user, host, port, database = (given.get(part) or "" for part in ("user", "host", "port", "dbname"))
    return make_conninfo("", **given), f"postgresql://{user}@{host}{port and ':'}{port}/{database}"


def _needs_password(error: psycopg.OperationalError) -> bool:
    """Return True if the server wanted a password, whatever language its messages have."""
    connection = error.pgconn
    return connection is not None and bool(connection.used_password or connection.needs_password)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def prefetched(items: Generator[T], count: int) -> Generator[T]:
    """Yield items, up to `count` of which a thread fetches in advance.

    Args:
        items: Runs in that thread, and is closed when the last item was taken or no more are wanted.
        count: At least 1.
    """
    with closing(items), ThreadPoolExecutor(1, "dagfusion-fetch") as thread:
        pending = deque(thread.submit(next, items, None) for _ in range(count))
        try:
            while (item := pending.popleft().result()) is not None:
                pending.append(thread.submit(next, items, None))
                yield item
        finally:
            for fetch in pending:
                fetch.cancel()


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

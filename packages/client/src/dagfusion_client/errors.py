"""The errors of the query side as a tree, with their HTTP and gRPC statuses, and the extra that a library needs.

A class without statuses has those of its base. Its code is its name in snake case. `scripts/reference.py` makes the
page of errors from this tree.

`needs` turns the import error of an optional library into an error that names the extra to install.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import ClassVar, Self

# Top-level modules of the libraries that only extras install.
OPTIONAL = frozenset(
    {
        "boto3",
        "botocore",
        "dagfusion_cli",
        "dagfusion_interop",
        "dagfusion_server",
        "google",  # protobuf
        "grpc",
        "httptools",
        "opentelemetry",
        "pandas",
        "polars",
        "prometheus_client",
        "starlette",
        "typer",
        "uvicorn",
        "uvloop",
    }
)


class QueryError(Exception):
    """The base of all errors of the query side. The text names what is wrong and what to do.

    Attributes:
        http_status: The status of the HTTP response.
        grpc_status: The name of the gRPC status that the Flight door returns.
        code: The kind of error for programs, such as `unknown_table`.
    """

    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    code: ClassVar[str] = "query"

    def __init_subclass__(cls, http: int | None = None, grpc: str | None = None) -> None:
        """Set the statuses of a class, and its code: that of `UnknownTableError` is `unknown_table`."""
        cls.http_status, cls.grpc_status = http or cls.http_status, grpc or cls.grpc_status
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()

    def details(self) -> dict[str, int | float]:
        """Return the values that the error has beside its text, by name."""
        return {}

    @classmethod
    def restore(cls, text: str, details: dict[str, int | float]) -> Self:
        """Return the error of a text and details that another process sent."""
        return cls(text, **details)


def restored(code: str, text: str, details: dict[str, int | float]) -> QueryError:
    """Return the error that another process sent. If its code is unknown, it is a `QueryError`."""
    found = _by_code().get(code)
    return QueryError(text) if found is None else found.restore(text, details)


def _by_code() -> dict[str, type[QueryError]]:
    return {kind.code: kind for kind in tree(QueryError)}


def tree(root: type[QueryError]) -> Iterator[type[QueryError]]:
    """Yield a class of errors and all its subclasses."""
    yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


class InternalError(QueryError):
    """The service failed for a reason that is not for clients; the service's log has it."""


class SettingsError(QueryError):
    """A setting is missing or has a value that it cannot have."""


class MissingExtraError(QueryError):
    """An optional library is not installed; the text names the extra that installs it."""


class SecretUnavailableError(QueryError, http=503, grpc="UNAVAILABLE"):
    """A secret that a setting refers to cannot be read from AWS Secrets Manager."""


class StatementError(QueryError, http=400, grpc="INVALID_ARGUMENT"):
    """A statement cannot be run as it is written."""


class PlacedError(StatementError):
    """A statement is wrong at one place, whose line and column are given if they are known.

    Attributes:
        line: The line, from 1; None if it is not known.
        column: The column, from 1; None if it is not known.
    """

    def __init__(self, text: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(text)
        self.line, self.column = line, column

    def details(self) -> dict[str, int | float]:
        """Return the position, if it is known."""
        return {} if self.line is None or self.column is None else {"line": self.line, "column": self.column}


class SqlSyntaxError(PlacedError):
    """A statement does not parse."""


class UnknownTableError(PlacedError):
    """A statement names a table that the catalog does not have."""


class ReadOnlyError(StatementError):
    """A statement would change data or settings; only queries are allowed."""


class PlanError(PlacedError):
    """A statement cannot be planned: an unknown column or function, a wrong type, a missing parameter."""


class ParameterError(StatementError):
    """A parameter of a statement cannot be read."""


class AsOfError(StatementError):
    """The `as_of` of a statement cannot be used: it is no time and no event id, or it is in the future."""


class EngineChoiceError(StatementError):
    """The chosen engine cannot run a statement: it is unknown or not configured, or is not sent this statement."""


class StatementTooLongError(StatementError, http=413):
    """A statement is longer than the service accepts."""


class ExecutionError(QueryError, http=422, grpc="INVALID_ARGUMENT"):
    """A statement failed while it ran."""


class StaleObjectError(ExecutionError, http=503, grpc="UNAVAILABLE"):
    """An object was deleted, or replaced by one that its event does not describe."""


class ArchivedObjectError(ExecutionError, http=409, grpc="FAILED_PRECONDITION"):
    """An object is in an archive storage class, such as S3's GLACIER, and has to be restored before it is read."""


class CorruptObjectError(ExecutionError, http=502, grpc="INTERNAL"):
    """An object's bytes are not those that were written."""


class StoreUnavailableError(ExecutionError, http=503, grpc="UNAVAILABLE"):
    """The object store does not answer, or refuses the request."""


class ResourcesError(ExecutionError, http=507, grpc="RESOURCE_EXHAUSTED"):
    """A statement needs more memory or disk space than it may use."""


class RemoteEngineError(ExecutionError, grpc="INTERNAL"):
    """The Spark engine refused a statement, failed while it ran it, or returned other columns than a worker would."""


class RemoteEngineUnavailableError(RemoteEngineError, http=503, grpc="UNAVAILABLE"):
    """The Spark engine does not answer, or the connection to it was lost."""


class ResultTooLargeError(ExecutionError, grpc="RESOURCE_EXHAUSTED"):
    """A result has more rows or bytes than the limit."""


class QueryTimeoutError(ExecutionError, http=504, grpc="DEADLINE_EXCEEDED"):
    """A query exceeded its timeout."""


class QueryCancelledError(ExecutionError, http=499, grpc="CANCELLED"):
    """A query was cancelled by a request, or because its client disconnected."""


class WorkerDiedError(ExecutionError, http=500, grpc="INTERNAL"):
    """The worker process ended while it ran the statement."""


class RequestError(QueryError):
    """The base of the errors of requests to a service."""


class UnauthenticatedError(RequestError, http=401, grpc="UNAUTHENTICATED"):
    """A request has no token, or an invalid one."""


class ForbiddenError(RequestError, http=403, grpc="PERMISSION_DENIED"):
    """The caller is not allowed to send this request."""


class TooBusyError(RequestError, http=429, grpc="RESOURCE_EXHAUSTED"):
    """The service or the user has reached the limit of queries.

    Attributes:
        retry_after_s: Seconds to wait before the next attempt.
    """

    def __init__(self, text: str, retry_after_s: float = 1.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s

    def details(self) -> dict[str, int | float]:
        """Return the time until the next attempt."""
        return {"retry_after_s": self.retry_after_s}


class UnknownQueryError(RequestError, http=404, grpc="NOT_FOUND"):
    """The caller has no query, ticket or prepared statement with this id."""


class BadRequestError(RequestError, http=400, grpc="INVALID_ARGUMENT"):
    """A request is not valid for this API."""


class BodyTooLongError(BadRequestError, http=413):
    """The body of a request is longer than the service accepts."""


class ContentEncodingError(RequestError, http=415, grpc="UNIMPLEMENTED"):
    """The body of a request has a content coding, such as gzip. The service accepts none."""


class UnsupportedError(RequestError, http=501, grpc="UNIMPLEMENTED"):
    """A part of the Flight SQL protocol that the service does not implement."""


class ServiceUnavailableError(RequestError, http=503, grpc="UNAVAILABLE"):
    """The service is starting or stopping, or has no worker."""


class ServiceUnreachableError(RequestError, http=503, grpc="UNAVAILABLE"):
    """No service answers at the URL."""


class ConnectionClosedError(RequestError):
    """A connection was used after it was closed."""


class BrokenStreamError(RequestError):
    """The stream of a result was cut off."""


class UnsupportedTypeError(QueryError, http=422, grpc="INVALID_ARGUMENT"):
    """A column has a type that is not supported."""


class PastError(QueryError, http=410, grpc="NOT_FOUND"):
    """The base of the errors of a past state that cannot be read any more."""


class UnknownPastError(PastError):
    """The event log does not have what a table held at that time."""


class RemovedObjectError(PastError):
    """An object of a past state was removed: the time is outside of the retention."""


class ReplacedObjectError(PastError):
    """An object of a past state was replaced, because its table has stable file names."""


class CatalogError(QueryError, http=422, grpc="FAILED_PRECONDITION"):
    """The base of the errors of tables and snapshots of the catalog."""


class NameCollisionError(CatalogError):
    """Two asset keys have the same table name."""


class SchemaConflictError(CatalogError):
    """The partitions of a table have columns or partition columns without a common type."""


class SnapshotError(CatalogError, http=500, grpc="INTERNAL"):
    """A stored snapshot cannot be read or written: it is damaged, or of another format or event log."""


class EventLogError(QueryError, http=503, grpc="UNAVAILABLE"):
    """Dagster's event log cannot be read."""


class EventLogLocationError(EventLogError):
    """The given location is not one of an event log."""


class EventLogUnavailableError(EventLogError):
    """The event log's database does not answer."""


class EventLogSchemaError(EventLogError):
    """The database has no event log of Dagster, or the user may not read it."""


class EnvironmentUnavailableError(QueryError, http=503, grpc="UNAVAILABLE"):
    """An environment of the service cannot be read now. Only its tables are unavailable."""


class EventRecordError(QueryError, http=422, grpc="FAILED_PRECONDITION"):
    """The record of one materialization cannot be used. It affects one partition of one table."""


class MalformedRecordError(EventRecordError):
    """A `dagfusion/file` entry does not follow the contract."""


class MissingRecordError(EventRecordError):
    """An event names no file. The partition keeps the file of its last event that names one."""


class RecordVersionError(EventRecordError):
    """A `dagfusion/file` entry has a version that this reader does not know."""


class UndiscoverableError(EventRecordError):
    """A materialization of another IO manager names no Parquet file that can be read."""


class NotParquetError(UndiscoverableError):
    """A materialization names an object that is not Parquet, such as a pickle, so its asset is not a table.

    Attributes:
        PREFIX: The beginning of the text.
    """

    PREFIX: ClassVar[str] = "not Parquet: "


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """A context for imports of the libraries that an extra installs.

    Args:
        extra: The extra of the distribution `dagfusion-query`, such as `server`. Those of `dagfusion-client` have the
            same names.
        what: What needs it, for the message.

    Raises:
        MissingExtraError: An optional library is not installed. Errors of other imports are not changed.

    Example:
        >>> with needs("server", "the query service"):
        ...     raise ModuleNotFoundError(name="starlette.applications")
        Traceback (most recent call last):
            ...
        dagfusion_client.errors.MissingExtraError: the query service needs starlette, which is not installed: pip install 'dagfusion-query[server]'
    """  # noqa: E501
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in OPTIONAL:
            raise
        raise missing_extra(extra, what, {"google": "protobuf", "grpc": "grpcio"}.get(module, module)) from None


def missing_extra(extra: str, what: str, library: str) -> MissingExtraError:
    """Return the error for a library that is not installed; see `needs`."""
    distribution = "dagfusion-query" if find_spec("dagfusion_query") else "dagfusion-client"
    install = f"pip install '{distribution}[{extra}]'"
    return MissingExtraError(f"{what} needs {library.replace('_', '-')}, which is not installed: {install}")

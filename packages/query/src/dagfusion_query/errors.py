"""Every error of the query side as a tree, with the statuses that the doors give it.

A class has its base's statuses where it names none, and a code that its name says. The page of errors is made from this
tree.
"""

import re
from typing import ClassVar, Self


class QueryError(Exception):
    """The base of all errors of this package; its text is one that a user can act on.

    Attributes:
        http_status: What the HTTP door answers with.
        grpc_status: What the Flight door answers with, by the name of gRPC's status code.
        code: Names the kind of error for programs, such as `unknown_table`.
    """

    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    code: ClassVar[str] = "query"

    def __init_subclass__(cls, http: int | None = None, grpc: str | None = None) -> None:
        """Give each class its statuses, and the code that its name says: `UnknownTableError` is `unknown_table`."""
        cls.http_status, cls.grpc_status = http or cls.http_status, grpc or cls.grpc_status
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Error")).lower()

    def details(self) -> dict[str, int | float]:
        """Return what the error says beside its text, by name."""
        return {}

    @classmethod
    def restore(cls, text: str, details: dict[str, int | float]) -> Self:
        """Make an error again of its text and details, as another process wrote them."""
        return cls(text, **details)


def restored(code: str, text: str, details: dict[str, int | float]) -> QueryError:
    """Make an error again that another process described; one of an unknown kind is a plain `QueryError`."""
    found = _by_code().get(code)
    return QueryError(text) if found is None else found.restore(text, details)


def _by_code() -> dict[str, type[QueryError]]:
    found: dict[str, type[QueryError]] = {}
    waiting: list[type[QueryError]] = [QueryError]
    while waiting:
        kind = waiting.pop()
        found[kind.code] = kind
        waiting += kind.__subclasses__()
    return found


class SettingsError(QueryError):
    """A setting is missing or has a value that it cannot have."""


class MissingExtraError(QueryError):
    """An optional library is not installed; the text names the extra that installs it."""


class StatementError(QueryError, http=400, grpc="INVALID_ARGUMENT"):
    """A statement cannot be run as it is written."""


class PlacedError(StatementError):
    """A statement is wrong at one place of it.

    Attributes:
        line: 1-based line, or None where it is not known.
        column: 1-based column, likewise.
    """

    def __init__(self, text: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(text)
        self.line, self.column = line, column

    def details(self) -> dict[str, int | float]:
        """Return the position, where it is known."""
        return {} if self.line is None or self.column is None else {"line": self.line, "column": self.column}


class SqlSyntaxError(PlacedError):
    """A statement does not parse."""


class UnknownTableError(PlacedError):
    """A statement names a table that the catalog does not have."""


class ReadOnlyError(StatementError):
    """A statement would change something."""


class PlanError(PlacedError):
    """A statement does not make sense: an unknown column or function, a wrong type, a missing parameter."""


class ParameterError(StatementError):
    """A parameter of a statement cannot be read."""


class StatementTooLongError(StatementError, http=413):
    """A statement is longer than the service takes."""


class ExecutionError(QueryError, http=422):
    """A statement failed while it ran."""


class StaleObjectError(ExecutionError, http=503, grpc="UNAVAILABLE"):
    """An object is gone, or is not the one that its event describes."""


class CorruptObjectError(ExecutionError, http=502, grpc="INTERNAL"):
    """An object's bytes are not those that were written."""


class StoreUnavailableError(ExecutionError, http=503, grpc="UNAVAILABLE"):
    """The object store does not answer, or refuses."""


class ResourcesError(ExecutionError, http=507, grpc="RESOURCE_EXHAUSTED"):
    """A statement needs more memory than it may use."""


class ResultTooLargeError(ExecutionError, grpc="RESOURCE_EXHAUSTED"):
    """A result has more rows or bytes than the service gives."""


class QueryTimeoutError(ExecutionError, http=504, grpc="DEADLINE_EXCEEDED"):
    """A query took longer than it may."""


class QueryCancelledError(ExecutionError, http=499, grpc="CANCELLED"):
    """A query was cancelled: by a request, or because its client went away."""


class WorkerDiedError(ExecutionError, http=500):
    """A statement ended the process that ran it."""


class RequestError(QueryError):
    """The service does not take a request."""


class UnauthenticatedError(RequestError, http=401, grpc="UNAUTHENTICATED"):
    """A request has no token, or one that is not valid."""


class ForbiddenError(RequestError, http=403, grpc="PERMISSION_DENIED"):
    """The caller may not do this."""


class TooBusyError(RequestError, http=429, grpc="RESOURCE_EXHAUSTED"):
    """The service, or the caller, has as many queries as it may.

    Attributes:
        retry_after_s: Seconds after which another try makes sense.
    """

    def __init__(self, text: str, retry_after_s: float = 1.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s

    def details(self) -> dict[str, int | float]:
        """Return when to try again."""
        return {"retry_after_s": self.retry_after_s}


class UnknownQueryError(RequestError, http=404, grpc="NOT_FOUND"):
    """No query of the caller's has this id."""


class BadRequestError(RequestError, http=400, grpc="INVALID_ARGUMENT"):
    """A request is not one that the service knows."""


class BodyTooLongError(BadRequestError, http=413):
    """The body of a request is longer than the service takes."""


class ContentEncodingError(RequestError, http=415, grpc="UNIMPLEMENTED"):
    """The body of a request has a content coding that the service does not take."""


class UnsupportedError(RequestError, http=501, grpc="UNIMPLEMENTED"):
    """The protocol has this, and the service does not; clients know how to do without."""


class ServiceUnavailableError(RequestError, http=503, grpc="UNAVAILABLE"):
    """The service is starting, stopping or without a worker."""


class ServiceUnreachableError(RequestError, http=503, grpc="UNAVAILABLE"):
    """No service answers at the URL."""


class ConnectionClosedError(RequestError):
    """A connection is used after it was closed."""


class BrokenStreamError(RequestError):
    """A client's result ended before its end."""


class UnsupportedTypeError(QueryError, http=422):
    """A column has a type that cannot be handled here."""


class CatalogError(QueryError, http=422):
    """The catalog cannot describe a table."""


class NameCollisionError(CatalogError):
    """Two asset keys fall on one table name."""


class SchemaConflictError(CatalogError):
    """The partitions of a table disagree on columns that no common type fits."""


class SnapshotError(CatalogError):
    """A stored snapshot is torn, damaged, of another format or of another event log."""


class EventLogError(QueryError, http=503, grpc="UNAVAILABLE"):
    """Dagster's event log cannot be read."""


class EventLogLocationError(EventLogError):
    """The location given does not name an event log."""


class EventLogUnavailableError(EventLogError):
    """The event log's database does not answer."""


class EventLogSchemaError(EventLogError):
    """The database answers, but it is not an event log of Dagster's."""


class EnvironmentUnavailableError(QueryError, http=503, grpc="UNAVAILABLE"):
    """An environment of the service cannot be read now; its tables are unavailable, and nothing else."""


class EventRecordError(QueryError, http=422):
    """The record of one materialization cannot be used; it concerns one partition of one table."""


class MalformedRecordError(EventRecordError):
    """A `dagfusion/file` entry breaks the contract."""


class MissingRecordError(EventRecordError):
    """An event names no file; the partition's last event that names one is used."""


class RecordVersionError(EventRecordError):
    """A `dagfusion/file` entry has a version that this reader does not know."""


class UndiscoverableError(EventRecordError):
    """A materialization that another IO manager wrote names no Parquet that can be read."""


class NotParquetError(UndiscoverableError):
    """A materialization names something that is not Parquet, such as a pickle: its asset is no table.

    Attributes:
        PREFIX: How the text of what is not Parquet begins.
    """

    PREFIX: ClassVar[str] = "it is not Parquet: "

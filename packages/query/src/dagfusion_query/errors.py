"""Every error of the query side, with its code and the status that the doors give it.

QueryError                          500 INTERNAL
├── SettingsError                   a setting is missing or has a value it cannot have
├── MissingExtraError               an optional library is not installed: the extra that installs it
├── StatementError                  400 INVALID_ARGUMENT: the statement cannot be run as it is written
│   ├── PlacedError                 ... is wrong at one place: line and column, where they are known
│   │   ├── SqlSyntaxError          ... does not parse
│   │   ├── UnknownTableError       ... names a table that is not there: the nearest names
│   │   └── PlanError               ... does not make sense: unknown column, wrong type
│   ├── ReadOnlyError               ... would change something
│   ├── ParameterError              ... has a parameter that cannot be read
│   └── StatementTooLongError       413: ... is longer than the service takes
├── ExecutionError                  422: it failed while it ran
│   ├── StaleObjectError            503 UNAVAILABLE: an object is gone, or is not the one its event describes
│   ├── CorruptObjectError          502 INTERNAL: an object's bytes are not those that were written
│   ├── StoreUnavailableError       503 UNAVAILABLE: the object store does not answer, or refuses
│   ├── ResourcesError              507 RESOURCE_EXHAUSTED: it needs more memory than it may use
│   ├── ResultTooLargeError         422 RESOURCE_EXHAUSTED: its result has more rows or bytes than allowed
│   ├── QueryTimeoutError           504 DEADLINE_EXCEEDED: it took longer than allowed
│   ├── QueryCancelledError         499 CANCELLED: somebody cancelled it
│   └── WorkerDiedError             500 INTERNAL: it ended the process that ran it
├── RequestError                    the service does not take a request
│   ├── UnauthenticatedError        401 UNAUTHENTICATED: no token, or not a valid one
│   ├── ForbiddenError              403 PERMISSION_DENIED: the caller may not do this
│   ├── TooBusyError                429 RESOURCE_EXHAUSTED: too many queries; after how many seconds to try again
│   ├── UnknownQueryError           404 NOT_FOUND: no query of the caller's has this id
│   ├── BadRequestError             400 INVALID_ARGUMENT: the request is not one that the service knows
│   │   └── BodyTooLongError        413: ... its body is longer than the service takes
│   ├── ContentEncodingError        415: the request's body is compressed
│   ├── UnsupportedError            501 UNIMPLEMENTED: the protocol has it, and this service does not
│   ├── ServiceUnavailableError     503 UNAVAILABLE: it is starting, stopping or has no worker
│   ├── ServiceUnreachableError     503 UNAVAILABLE: a client found nobody at the URL
│   └── BrokenStreamError           500 INTERNAL: a client's result ended before its end
├── CatalogError                    422: the catalog cannot describe a table
│   ├── NameCollisionError          ... two asset keys fall on one table name
│   ├── SchemaConflictError         ... partitions of one table disagree
│   └── SnapshotError               ... a stored snapshot is torn, damaged or foreign
├── EventLogError                   503 UNAVAILABLE: Dagster's event log cannot be read
│   ├── EventLogLocationError       ... the location names none
│   ├── EventLogUnavailableError    ... its database does not answer
│   └── EventLogSchemaError         ... the database is not Dagster's
├── EnvironmentUnavailableError     503 UNAVAILABLE: an environment of the service cannot be read now
├── EventRecordError                422: the record of one materialization cannot be used
│   ├── MalformedRecordError        ... it breaks the contract
│   ├── MissingRecordError          ... there is none: the event names no file
│   ├── RecordVersionError          ... a newer pipeline wrote it
│   └── UndiscoverableError         ... it names no Parquet that can be read
└── UnsupportedTypeError            422: a column has a type that cannot be handled
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

    def __init_subclass__(cls) -> None:
        """Give each class the code that its name says: `UnknownTableError` is `unknown_table`."""
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


class StatementError(QueryError):
    """A statement cannot be run as it is written."""

    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


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


class StatementTooLongError(StatementError):
    """A statement is longer than the service takes."""

    http_status = 413


class ExecutionError(QueryError):
    """A statement failed while it ran."""

    http_status = 422


class StaleObjectError(ExecutionError):
    """An object is gone, or is not the one that its event describes."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class CorruptObjectError(ExecutionError):
    """An object's bytes are not those that were written."""

    http_status = 502
    grpc_status = "INTERNAL"


class StoreUnavailableError(ExecutionError):
    """The object store does not answer, or refuses."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class ResourcesError(ExecutionError):
    """A statement needs more memory than it may use."""

    http_status = 507
    grpc_status = "RESOURCE_EXHAUSTED"


class ResultTooLargeError(ExecutionError):
    """A result has more rows or bytes than the service gives."""

    grpc_status = "RESOURCE_EXHAUSTED"


class QueryTimeoutError(ExecutionError):
    """A query took longer than it may."""

    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"


class QueryCancelledError(ExecutionError):
    """A query was cancelled: by a request, or because its client went away."""

    http_status = 499
    grpc_status = "CANCELLED"


class WorkerDiedError(ExecutionError):
    """A statement ended the process that ran it."""

    http_status = 500


class RequestError(QueryError):
    """The service does not take a request."""


class UnauthenticatedError(RequestError):
    """A request has no token, or one that is not valid."""

    http_status = 401
    grpc_status = "UNAUTHENTICATED"


class ForbiddenError(RequestError):
    """The caller may not do this."""

    http_status = 403
    grpc_status = "PERMISSION_DENIED"


class TooBusyError(RequestError):
    """The service, or the caller, has as many queries as it may.

    Attributes:
        retry_after_s: Seconds after which another try makes sense.
    """

    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, text: str, retry_after_s: float = 1.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s

    def details(self) -> dict[str, int | float]:
        """Return when to try again."""
        return {"retry_after_s": self.retry_after_s}


class UnknownQueryError(RequestError):
    """No query of the caller's has this id."""

    http_status = 404
    grpc_status = "NOT_FOUND"


class BadRequestError(RequestError):
    """A request is not one that the service knows."""

    http_status = 400
    grpc_status = "INVALID_ARGUMENT"


class BodyTooLongError(BadRequestError):
    """The body of a request is longer than the service takes."""

    http_status = 413


class ContentEncodingError(RequestError):
    """The body of a request has a content coding that the service does not take."""

    http_status = 415
    grpc_status = "UNIMPLEMENTED"


class UnsupportedError(RequestError):
    """The protocol has this, and the service does not; clients know how to do without."""

    http_status = 501
    grpc_status = "UNIMPLEMENTED"


class ServiceUnavailableError(RequestError):
    """The service is starting, stopping or without a worker."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class ServiceUnreachableError(RequestError):
    """A client found nobody at the service's URL."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class BrokenStreamError(RequestError):
    """A client's result ended before its end."""


class UnsupportedTypeError(QueryError):
    """A column has a type that cannot be handled here."""

    http_status = 422


class CatalogError(QueryError):
    """The catalog cannot describe a table."""

    http_status = 422


class NameCollisionError(CatalogError):
    """Two asset keys fall on one table name."""


class SchemaConflictError(CatalogError):
    """The partitions of a table disagree on columns that no common type fits."""


class SnapshotError(CatalogError):
    """A stored snapshot is torn, damaged, of another format or of another event log."""


class EventLogError(QueryError):
    """Dagster's event log cannot be read."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class EventLogLocationError(EventLogError):
    """The location given does not name an event log."""


class EventLogUnavailableError(EventLogError):
    """The event log's database does not answer."""


class EventLogSchemaError(EventLogError):
    """The database answers, but it is not an event log of Dagster's."""


class EnvironmentUnavailableError(QueryError):
    """An environment of the service cannot be read now; its tables are unavailable, and nothing else."""

    http_status = 503
    grpc_status = "UNAVAILABLE"


class EventRecordError(QueryError):
    """The record of one materialization cannot be used; it concerns one partition of one table."""

    http_status = 422


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

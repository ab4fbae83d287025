"""Every error of the query side.

QueryError
├── SettingsError               a setting is missing or has a value it cannot have
├── StatementError              the statement cannot be run as it is written
│   ├── SqlSyntaxError          ... does not parse: line and column
│   ├── UnknownTableError       ... names a table that is not there: the nearest names
│   ├── ReadOnlyError           ... would change something
│   └── PlanError               ... does not make sense: unknown column, wrong type
├── ExecutionError              it failed while it ran
│   ├── StaleObjectError        an object is gone, or is not the one its event describes
│   ├── StoreUnavailableError   the object store does not answer, or refuses
│   └── ResourcesError          it needs more memory than it may use
├── CatalogError                the catalog cannot describe a table
│   ├── NameCollisionError      ... two asset keys fall on one table name
│   ├── SchemaConflictError     ... partitions of one table disagree
│   └── SnapshotError           ... a stored snapshot is torn, damaged or foreign
├── EventLogError               Dagster's event log cannot be read
│   ├── EventLogLocationError   ... the location names none
│   ├── EventLogUnavailableError  ... its database does not answer
│   └── EventLogSchemaError     ... the database is not Dagster's
├── EventRecordError            the record of one materialization cannot be used
│   ├── MalformedRecordError    ... it breaks the contract
│   └── RecordVersionError      ... a newer pipeline wrote it
└── UnsupportedTypeError        a column has a type that cannot be handled
"""


class QueryError(Exception):
    """The base of all errors of this package; its text is one that a user can act on."""


class SettingsError(QueryError):
    """A setting is missing or has a value that it cannot have."""


class StatementError(QueryError):
    """A statement cannot be run as it is written."""


class SqlSyntaxError(StatementError):
    """A statement does not parse.

    Attributes:
        line: 1-based line, or None where the parser does not say.
        column: 1-based column, likewise.
    """

    def __init__(self, text: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(text)
        self.line, self.column = line, column


class UnknownTableError(StatementError):
    """A statement names a table that the catalog does not have."""


class ReadOnlyError(StatementError):
    """A statement would change something."""


class PlanError(StatementError):
    """A statement does not make sense: an unknown column or function, a wrong type, a missing parameter."""


class ExecutionError(QueryError):
    """A statement failed while it ran."""


class StaleObjectError(ExecutionError):
    """An object is gone, or is not the one that its event describes."""


class StoreUnavailableError(ExecutionError):
    """The object store does not answer, or refuses."""


class ResourcesError(ExecutionError):
    """A statement needs more memory than it may use."""


class UnsupportedTypeError(QueryError):
    """A column has a type that cannot be handled here."""


class CatalogError(QueryError):
    """The catalog cannot describe a table."""


class NameCollisionError(CatalogError):
    """Two asset keys fall on one table name."""


class SchemaConflictError(CatalogError):
    """The partitions of a table disagree on columns that no common type fits."""


class SnapshotError(CatalogError):
    """A stored snapshot is torn, damaged, of another format or of another event log."""


class EventLogError(QueryError):
    """Dagster's event log cannot be read."""


class EventLogLocationError(EventLogError):
    """The location given does not name an event log."""


class EventLogUnavailableError(EventLogError):
    """The event log's database does not answer."""


class EventLogSchemaError(EventLogError):
    """The database answers, but it is not an event log of Dagster's."""


class EventRecordError(QueryError):
    """The record of one materialization cannot be used; it concerns one partition of one table."""


class MalformedRecordError(EventRecordError):
    """A `dagfusion/file` entry breaks the contract."""


class RecordVersionError(EventRecordError):
    """A `dagfusion/file` entry has a version that this reader does not know."""

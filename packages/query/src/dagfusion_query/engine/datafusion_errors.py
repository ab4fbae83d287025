"""Converts DataFusion's errors to classes of `QueryError`.

An error has its position in the statement; DataFusion gives one for syntax errors only.
"""

import difflib
import errno
import re
from collections.abc import Iterable, Mapping

from dagfusion_client.errors import (
    ExecutionError,
    PlanError,
    QueryError,
    ReadOnlyError,
    ResourcesError,
    SqlSyntaxError,
    UnknownTableError,
)
from dagfusion_client.sql_text import parts_of, position_of
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Table

_NO_ROOM = ("No space left on device", "Disk quota exceeded")
# An error begins with its kind, below what DataFusion says of where it arose. Callers' words come only after the kind.
_KIND = r"Arrow error|Schema error|SQL error|Error during planning|Execution error|This feature is not implemented"
_CONTEXT = re.compile(rf"DataFusion error: |(?!{_KIND})[^\n\"]*\ncaused by\n")
_IO = re.compile(
    r"(?:(?:Arrow error|External error|ParquetError|Parquet error|External): )*"
    r"(?:(?:I[Oo] error|Resources exhausted|Object Store error): |Execution error: (?=.*(?:os error|code:) \d))",
    re.DOTALL,
)
_DECODING = re.compile(
    r"(?:(?:Arrow error|External error|External): )*(?:ParquetError|Parquet error|Parquet argument error): "
    r"(?!.*(?:Generic \S+ error|Object at location|Object Store error|I[Oo] error))"
    r"|(?:External error: )?(?:Join error|task \d+ panicked)|rust future panicked",  # decoders may panic
    re.DOTALL,
)
_MEMORY = re.compile(r"(?:(?:Arrow error|External error): )*Resources exhausted: ")
_POSITION = re.compile(r" at Line: (\d+), Column: (\d+)")
_NO_TABLE = re.compile(r"Error during planning: table '(?:datafusion\.)?(?:public\.)?([^']+)' not found")
_REFUSED = re.compile(r"Error during planning: (?:DDL|DML|Statement) not supported: (\w+)")
_COPY = "Invalid or Unsupported Configuration: Format not explicitly set"
_NOT_ONE = (
    "Error during planning: No SQL statements were provided",
    "This feature is not implemented: The context currently only supports a single SQL statement",
)
_NO_PLAN = "This feature is not implemented: Physical plan does not support"
_WILDCARD = f"{_NO_PLAN} logical expression Wildcard"
_TIMESTAMP = re.compile(r"(?:Arrow error: )?(?:Parser|Cast) error: Error parsing timestamp")
_PLANNED_WILDCARD = re.compile(
    r"(?:This feature is not implemented: |Internal error: )?[\w ]*logical expression Wildcard"
)
_SERIES = re.compile(r"<series: (.*?)>", re.DOTALL)
_NOISE = re.compile(
    r"^(DataFusion error: |Error during planning: |Schema error: |(?:Optimizer rule '\w+' failed|\w+)\ncaused by\n)+"
)
_NAMED = re.compile(
    r"""^(?:No\ field\ named\ |Invalid\ function\ '|Ambiguous\ reference\ to\ unqualified\ field\ )
    (?P<name>(?:"(?:[^"]|"")*"|[^\s."']+)(?:\.(?:"(?:[^"]|"")*"|[^\s."']+))*)""",
    re.VERBOSE,
)


def is_datafusion_error(error: BaseException) -> bool:
    """Return True if DataFusion raised this: a bare Exception or ValueError, or a Rust panic, which is no Exception."""
    return type(error) in (Exception, ValueError) or _is_panic(error)


def is_syntax_error(error: BaseException) -> bool:
    """Return True if DataFusion could not parse the statement."""
    return str(error).startswith("SQL error:")


def planning_error(error: BaseException, tables: Iterable[TableName], sql: str) -> QueryError:
    """Return the error of a statement that DataFusion did not plan, with its position."""
    text = series_error(str(error)) or str(error)
    if is_syntax_error(error):
        return _syntax_error(text)
    message = _from_kind(text)
    if missing := _NO_TABLE.match(message):
        return unknown_table(missing[1], [str(name) for name in tables], sql)
    if message.startswith(_COPY):
        return ReadOnlyError("only queries can be run here, and this statement is COPY: use SELECT")
    if refused := _REFUSED.match(message):
        return ReadOnlyError(f"only queries can be run here, and this statement is {refused[1]}: use SELECT")
    if message.startswith(_NOT_ONE):
        return PlanError("one statement at a time: the text has none, or more than one")
    is_late = _MEMORY.match(message) or is_no_room(text) or message.startswith(_NO_PLAN)  # met after a part was planned
    return execution_error(error) if is_late else _plan_error(_fault(error) or _NOISE.sub("", text).strip(), sql)


def left_out_column(error: BaseException, tables: Mapping[TableName, Table], sql: str) -> QueryError | None:
    """Return why a table that a statement mentions leaves out the column that DataFusion did not find."""
    text = _NOISE.sub("", str(error)).strip()
    name = named_in(text) if text.startswith("No field named") else None
    if name is None:
        return None
    column, mentioned = parts_of(name)[-1], sql.lower()
    tables_with_it = (table for table in tables.values() if column in table.left_out)
    return next((table.left_out[column] for table in tables_with_it if table.name.table in mentioned), None)


def missing_table(text: str) -> str | None:
    """Return the table that DataFusion says is not there."""
    missing = _NO_TABLE.match(_from_kind(text))
    return missing and missing[1]


def execution_error(error: BaseException) -> QueryError:
    """Return the error of a statement that failed while it ran."""
    if isinstance(error, QueryError):
        return error
    text, message = _NOISE.sub("", str(error)).strip(), _from_kind(str(error))
    if is_no_room(message):
        return no_room()
    if message.startswith(_WILDCARD):
        return PlanError("* is not an argument that this function takes: name columns; only count(*) counts all rows")
    if message.startswith(_NO_PLAN):
        return PlanError(text)
    if _MEMORY.match(message):
        return ResourcesError(
            f"the statement needs more memory than it may use ({text.splitlines()[0]}): "
            "filter or aggregate earlier, or raise DAGFUSION_MEMORY_LIMIT_BYTES"
        )
    return ExecutionError(_fault(error) or text or type(error).__name__)


def series_error(text: str) -> str | None:
    """Return what DataFusion said of the arguments of a series, out of the error that comes of it."""
    found = _SERIES.search(text)
    return None if found is None else found[1].replace("\\'", "'").replace('\\"', '"')


def is_no_room(text: str) -> bool:
    """Return True if DataFusion's error says that a disk is full."""
    message = _from_kind(text)
    return _IO.match(message) is not None and says_no_room(message)


def is_decoding_error(error: BaseException) -> bool:
    """Return True if DataFusion could not decode the bytes of a Parquet file, which it has got."""
    return not isinstance(error, QueryError) and _DECODING.match(_from_kind(str(error))) is not None


def says_no_room(text: str) -> bool:
    """Return True if a text without a caller's words says that a disk is full."""
    return any(word in text for word in _NO_ROOM)


def is_full_disk(error: BaseException) -> bool:
    """Return True if an error of the operating system says that a disk is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def no_room_to_plan() -> ResourcesError:
    """Return the error of a statement that cannot be planned because nothing can be written."""
    return ResourcesError(
        "the statement cannot be planned because the folder for temporary files (TMPDIR) of the process that runs it "
        "is full: make room in it, and try again"
    )


def no_room() -> ResourcesError:
    """Return the error of a statement whose rows fit neither in memory nor on the disk."""
    return ResourcesError(
        "the statement needs more room for temporary files than there is: filter or aggregate earlier, or make room in "
        "the folder for temporary files (TMPDIR) of the process that runs it"
    )


def unknown_table(name: str, tables: list[str], sql: str) -> UnknownTableError:
    """Return the error of a name that no table has; it names those that are near."""
    near = difflib.get_close_matches(name, tables, n=3, cutoff=0.5)
    # A name without its schema is the commonest slip.
    last = name.rsplit(".", 1)[-1]
    near += [other for other in tables if other.endswith(f".{last}") and other not in near]
    hint = f"did you mean {' or '.join(near[:3])}?" if near else _hint(tables)
    return UnknownTableError(f"there is no table {name}: {hint}", *(position_of(sql, name) or ()))


def named_in(text: str) -> str | None:
    """Return the column or function that an error of DataFusion's is about."""
    found = _NAMED.search(text)
    return found["name"] if found else None


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


def _fault(error: BaseException) -> str | None:
    """Return the error of a statement with which DataFusion panics; None for any other error."""
    if not _is_panic(error):
        return None
    return (
        f"this statement meets a fault of DataFusion ({error}): write it in another way. One cause is a subquery that "
        "never has rows, such as (SELECT 1 WHERE false): use NULL in its place"
    )


def _from_kind(text: str) -> str:
    """Return an error from its kind on."""
    while context := _CONTEXT.match(text):
        text = text[context.end() :]
    return text


def _syntax_error(text: str) -> SqlSyntaxError:
    if nested := re.match(r"SQL error: RecursionLimitExceeded \(current limit: (\d+)\)", text):
        return SqlSyntaxError(f"syntax error: the statement is nested more than {nested[1]} deep: flatten it")
    position = _POSITION.search(text)
    inner = re.search(r'\("(.*)"\)', text, re.DOTALL)
    message = _POSITION.sub("", inner[1] if inner else text).replace('\\"', '"')
    if position is None:
        return SqlSyntaxError(f"syntax error: {message}")
    line, column = int(position[1]), int(position[2])
    return SqlSyntaxError(f"syntax error at line {line}, column {column}: {message}", line, column)


def _plan_error(text: str, sql: str) -> PlanError:
    name = named_in(text)
    if _PLANNED_WILDCARD.match(text):
        return PlanError("* is not a value: only count(*) takes it as an argument, and SELECT as a list of columns")
    if _TIMESTAMP.match(text):
        text = f"{text}. Write a timestamp as '2024-03-10 03:00:00', with an offset such as +01:00 where it matters"
    return PlanError(text, *(position_of(sql, name) or () if name else ()))


def _hint(tables: list[str]) -> str:
    if not tables:
        return "the catalog is empty; materialize an asset first"
    return "`SELECT * FROM information_schema.tables` lists the tables"

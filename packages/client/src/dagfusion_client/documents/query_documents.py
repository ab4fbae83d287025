"""Documents of queries: requests, state, stats, plans and errors; of the caller; and of the health of the service.

A process that receives the document of an error raises the same class again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from dagfusion_client.documents.codec import details, omitted
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import QueryError, restored
from dagfusion_client.formats import Format
from dagfusion_client.returned_values import Explanation


@dataclass(frozen=True)
class TypedParam:
    """A parameter of a type that JSON has not.

    Attributes:
        type: An Arrow type, such as date32[day].
        value: The value, as text where JSON has no better.
    """

    type: str
    value: Any


_Param = TypedParam | str | float | bool | None


@dataclass(frozen=True)
class ExplainRequest:
    """The body of `POST /v1/explain`.

    Attributes:
        sql: One read-only statement.
        params: An array for $1, $2, ..., or an object for $name.
        as_of: Read the tables as of the id of an event, or a time in ISO 8601 (UTC without a zone).
    """

    sql: str
    params: Any = omitted(Sequence[_Param] | Mapping[str, _Param] | None)  # noqa: RUF009  # it makes a field
    as_of: Any = omitted(int | str | None)  # noqa: RUF009  # it makes a field


@dataclass(frozen=True)
class SqlRequest(ExplainRequest):
    """The body of `POST /v1/sql`.

    Attributes:
        format: The result's format. Not set: as Accept says, else arrow.
        timeout_s: Seconds after which the query is cancelled. The service's own timeout applies, too.
        limit_rows: Cut the result after so many rows, without an error.
        result_cache: Whether the result of an equal query may be used. Not set: true.
        engine: The engine: local, spark (the Spark Connect server), or auto (spark for large scans). Not set: as the
            service is configured.
    """

    format: Format | None = omitted()  # noqa: RUF009  # it makes a field
    timeout_s: float | None = omitted()
    limit_rows: int | None = omitted()
    result_cache: bool | None = omitted()
    engine: EngineChoice | None = omitted()  # noqa: RUF009  # it makes a field


@dataclass(frozen=True, kw_only=True)
class Details:
    """The values that some errors have beside their text.

    Attributes:
        line: 1-based line of the statement.
        column: 1-based column.
        retry_after_s: Seconds after which another try makes sense.
    """

    line: int | None = omitted()
    column: int | None = omitted()
    retry_after_s: float | None = omitted()

    def _restored(self, code: str, text: str) -> QueryError:
        names = ("line", "column", "retry_after_s")
        return restored(code, text, {name: value for name, value in details(self).items() if name in names})


@dataclass(frozen=True, kw_only=True)
class Failure(Details):
    """An error of a query, in worker messages and in the trailer of a Flight call.

    Attributes:
        code: The kind, such as `unknown_table`.
        message: Its text.
    """

    code: str
    message: str

    @classmethod
    def of(cls, error: QueryError, text: str | None = None) -> Self:
        """Describe an error, with its own text or another one."""
        return cls(code=error.code, message=str(error) if text is None else text, **error.details())  # type: ignore[arg-type]

    def error(self) -> QueryError:
        """Return the error again."""
        return self._restored(self.code, self.message)


@dataclass(frozen=True, kw_only=True)
class ProblemDocument(Details):
    """An error as `application/problem+json` (RFC 9457).

    Attributes:
        type: Always `about:blank`.
        title: The status in words.
        status: The HTTP status.
        code: The kind of the error, such as `unknown_table`.
        detail: Its text.
        query_id: The query that failed.
    """

    type: str = "about:blank"
    title: str = ""
    status: int = 500
    code: str = ""
    detail: str = "the service failed"
    query_id: str | None = omitted()

    def error(self) -> QueryError:
        """Return the error that it describes."""
        return self._restored(self.code, self.detail)


class State(StrEnum):
    """The state of a query."""

    queued = "queued"
    running = "running"  # a worker has it, and no row has come
    streaming = "streaming"
    finished = "finished"
    failed = "failed"
    cancelled = "cancelled"

    @property
    def is_over(self) -> bool:
        """True if the query has ended."""
        return self in (State.finished, State.failed, State.cancelled)


@dataclass(frozen=True)
class ScanStats:
    """The files that one scan of a table reads.

    Attributes:
        files_left_out: Files beside `files_total` that it may need and does not read; see `Stats`.
    """

    table: str
    files_total: int
    files_read: int
    bytes_total: int
    bytes_kept: int
    files_left_out: int = 0


@dataclass(frozen=True)
class Stats:
    """The cost of a query.

    Attributes:
        files_total: Files of the tables that it scans, once for each scan.
        files_read: The number of files that were opened; until the end, of those that may be.
        files_skipped: The others.
        bytes_read: Asked of the object store.
        rows: The rows of the result.
        result_bytes: The size of the encoded result.
        requests: Sent to object stores; None until the end, for a query that failed, and on systems other than Linux.
        requests_s: Seconds of these requests, added over those at once. Of objects that are read in place it has the
            time from opening each to its first rows.
        copies_found: Local copies, of objects or of blocks of large objects, that it needed and that were there; 0
            until the end.
        copies_fetched: Local copies that it needed and that were fetched for it.
        queued_s: Seconds it waited for a worker.
        planning_s: Seconds from the worker's start on it to the plan over its files.
        first_batch_s: Seconds from there to the first rows.
        total_s: Seconds from its arrival to its end.
        generations: The catalog generation of each environment that it saw; as of the past, the event.
        path: `splice`, `staged`, `catalog` (no file was needed), `cache` (the result of an equal query was kept) or
            `spark` (the Spark Connect server ran it; files and bytes are those that the plan here keeps).
        runs: Dagster runs that wrote the files that it reads: of the first files, at most 20.
        files_left_out: Files beside `files_total` that may have matching rows and are left out, because their objects
            are archived or expired (`DAGFUSION_ARCHIVED_AFTER_DAYS`).
        warnings: What the result leaves out, and why.
    """

    files_total: int = 0
    files_read: int = 0
    files_skipped: int = 0
    bytes_read: int = 0
    rows: int = 0
    result_bytes: int = 0
    requests: int | None = None
    requests_s: float = 0.0
    copies_found: int = 0
    copies_fetched: int = 0
    queued_s: float = 0.0
    planning_s: float = 0.0
    first_batch_s: float = 0.0
    total_s: float = 0.0
    generations: Mapping[str, int] = field(default_factory=dict)
    path: str = ""
    scans: Sequence[ScanStats] = ()
    truncated: bool = False
    runs: Sequence[str] = ()
    files_left_out: int = 0
    warnings: Sequence[str] = ()

    def short(self) -> dict[str, Any]:
        """Return everything but the scans and the runs, of which there may be more than a header holds."""
        return {name: value for name, value in details(self).items() if name not in ("scans", "runs")}


@dataclass(frozen=True)
class QueryCost:
    """The price of a query in US dollars, by the dated table of `dagfusion cost`.

    Attributes:
        requests_usd: Its requests to object stores, as GETs; null if they were not counted.
        worker_usd: Its time on a worker, as one vCPU and a worker's memory on Fargate. An idle worker costs the same.
        prices_date: The date of the table of prices.
    """

    requests_usd: float | None
    worker_usd: float
    prices_date: str


@dataclass(frozen=True)
class QueryInfo:
    """One query, running or ended.

    Attributes:
        id: As in the header `DagFusion-Query-Id`.
        door: `http`, `console` or `flight`.
        error: The error of a query that failed.
        as_of: The past event or time that it reads the tables as of; null for now.
        ended_at: Null while it runs.
        cost: Its price; null while it runs.
        trace_id: The id of its trace in OpenTelemetry; null while it runs, and if it was not traced.
    """

    id: str
    user: str
    door: str
    sql: str
    state: State
    submitted_at: datetime
    stats: Stats
    error: Failure | None = None
    as_of: str | None = None
    ended_at: datetime | None = None
    cost: QueryCost | None = None
    trace_id: str | None = None


@dataclass(frozen=True)
class QueriesDocument:
    """A caller's queries, the newest first."""

    queries: Sequence[QueryInfo]


@dataclass(frozen=True, kw_only=True)
class ExplanationDocument(Explanation):
    """The files that a statement reads, the effect of its filters, and its plans.

    Attributes:
        generations: The catalog generation of each environment that it saw.
    """

    generations: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SessionDocument:
    """The caller.

    Attributes:
        anonymous: Whether it came without a token.
        everything: Whether it may read all tables.
        version: The service's.
        engine: The engine of statements that choose none.
        spark: Whether the service has a Spark Connect server, so that a statement can choose one of several engines.
    """

    user: str
    anonymous: bool
    everything: bool
    version: str
    engine: EngineChoice
    spark: bool


@dataclass(frozen=True)
class StatusDocument:
    """The health of a process.

    Attributes:
        status: `alive` or `ready`.
    """

    status: str

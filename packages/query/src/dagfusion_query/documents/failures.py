"""Documents of errors. The receiving process raises the same class again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from dagfusion_query.documents.codec import details, omitted
from dagfusion_query.errors import QueryError, restored


@dataclass(frozen=True, kw_only=True)
class Details:
    """What some errors have beside their text.

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
    """An error.

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


@dataclass(frozen=True)
class TroubleDocument:
    """Why a table or an environment cannot be read.

    Attributes:
        code: The kind of the error, such as `not_parquet`.
        detail: Its text.
    """

    code: str
    detail: str


@dataclass(frozen=True)
class FlightFailure:
    """An error in a trailer of Flight."""

    code: str
    message: str
    details: Mapping[str, float]

    @classmethod
    def of(cls, error: QueryError) -> Self:
        """Describe an error."""
        return cls(error.code, str(error), error.details())

    def error(self) -> QueryError:
        """Return the error again."""
        return restored(self.code, self.message, dict(self.details))

"""The description of this API, as OpenAPI 3.1; a test compares it with the routes."""

from collections.abc import Mapping, Sequence
from typing import Any

from dagfusion_client.documents.catalog_documents import (
    GenerationsDocument,
    HistoryDocument,
    PartitionsDocument,
    TablesDocument,
)
from dagfusion_client.documents.codec import schemas
from dagfusion_client.documents.query_documents import (
    ExplainRequest,
    ExplanationDocument,
    ProblemDocument,
    QueriesDocument,
    SessionDocument,
    SqlRequest,
    StatusDocument,
)
from dagfusion_client.errors import (
    AsOfError,
    BadRequestError,
    BodyTooLongError,
    CatalogError,
    ContentEncodingError,
    EnvironmentUnavailableError,
    EventRecordError,
    ExecutionError,
    ForbiddenError,
    InternalError,
    NameCollisionError,
    PastError,
    QueryError,
    ServiceUnavailableError,
    StatementError,
    TooBusyError,
    UnauthenticatedError,
    UnknownQueryError,
    UnknownTableError,
    UnsupportedTypeError,
    tree,
)
from dagfusion_client.formats import Format, RowsDocument
from dagfusion_client.returned_values import TableDiff
from dagfusion_client.settings import REVISIONS, REVISIONS_LIMIT
from dagfusion_query.service_settings import QUERIES, QUERIES_LIMIT
from dagfusion_server.doors.http.catalog_routes import PAGE_LIMIT_ROWS, PAGE_ROWS
from dagfusion_server.doors.http.requests_and_responses import MEDIA_TYPE as PROBLEM
from dagfusion_server.doors.http.requests_and_responses import status_of

JsonObject = Mapping[str, Any]

_OPEN: Sequence[JsonObject] = ()
_MOST_QUERIES = "The maximum number of ended queries. A page ends early at 4 MiB of statements and error messages."
Errors = Sequence[type[QueryError]]

# What every request can fail with that has a caller; the tests compare the others with the code of the routes.
_ANY: Errors = (BadRequestError, UnauthenticatedError, ForbiddenError, InternalError, ServiceUnavailableError)
_UNUSABLE: Errors = (*tree(CatalogError), *tree(EventRecordError), UnsupportedTypeError)  # a table's metadata
_STATEMENT: Errors = (
    *(BodyTooLongError, ContentEncodingError, TooBusyError, EnvironmentUnavailableError),
    *(*tree(StatementError), *tree(ExecutionError), *tree(PastError), *_UNUSABLE),
)
_TABLE_ERRORS: Errors = (UnknownTableError, NameCollisionError)
_PAST: Errors = (*_TABLE_ERRORS, TooBusyError, EnvironmentUnavailableError)


def describe(version: str) -> JsonObject:
    """Return the OpenAPI document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DagFusion",
            "version": version,
            "description": "Read-only SQL over the tables that Dagster assets wrote.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": _paths(),
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "From `dagfusion token create`."}
            },
            "responses": {"Problem": {"description": "What is wrong.", "content": {PROBLEM: _of("Problem")}}},
        },
    }


def _paths() -> JsonObject:
    return {
        "/v1/sql": {"post": _run()},
        "/v1/explain": {
            "post": _operation(
                "explain",
                "Explain a statement: the partitions that it reads, and why it skips the others",
                "Explanation",
                errors=_STATEMENT,
                method="POST",
                body="ExplainRequest",
            )
        },
        "/v1/queries": {
            "parameters": [
                _query("limit", _whole(QUERIES, QUERIES_LIMIT), _MOST_QUERIES),
                _query(
                    "before",
                    {"type": "string", "format": "date-time"},
                    "Only queries that ended before this time. For the next page: the last `ended_at`.",
                ),
            ],
            "get": _operation(
                "listQueries",
                "The caller's running queries, then the ended ones, the latest first",
                "Queries",
                errors=(TooBusyError,),
            ),
        },
        "/v1/queries/{id}": {
            "parameters": [_path("id", "From the header DagFusion-Query-Id.")],
            "get": _operation(
                "getQuery", "One query, its cost and its error", "QueryInfo", errors=(UnknownQueryError, TooBusyError)
            ),
            "delete": _operation("cancelQuery", "Cancel a query", "QueryInfo", errors=(UnknownQueryError,)),
        },
        "/v1/tables": {
            "parameters": [
                _query("tables", {"enum": ["brief", "full", "none"], "default": "brief"}, "Full ones have columns.")
            ],
            "get": _list_tables(),
        },
        "/v1/tables/{schema}/{table}": {
            "parameters": _TABLE,
            "get": _operation("getTable", "One table: columns, size, problems", "Table", errors=_TABLE_ERRORS),
        },
        "/v1/tables/{schema}/{table}/partitions": {
            "parameters": [
                *_TABLE,
                _query("format", {"enum": ["json", "arrow"], "default": "json"}, "Arrow has all partitions."),
                _query("limit", _whole(PAGE_ROWS, PAGE_LIMIT_ROWS), "JSON only."),
                _query("offset", _whole(0), "JSON only."),
            ],
            "get": _operation(
                "listPartitions",
                "The partitions of a table, as rows: one for each file",
                "Partitions",
                errors=_TABLE_ERRORS,
                other={Format.arrow.media_type: {}},
            ),
        },
        "/v1/tables/{schema}/{table}/history": {
            "parameters": [
                *_TABLE,
                _query(
                    "partition_key",
                    {"type": "string"},
                    "Dagster's key of a partition, such as 2024-01-15|CA. Default: the whole table.",
                ),
            ],
            "get": _operation(
                "getHistory",
                "The Dagster runs that wrote a table or one partition, or should have written it",
                "History",
                errors=(*_TABLE_ERRORS, EnvironmentUnavailableError),
            ),
        },
        "/v1/tables/{schema}/{table}/generations": {
            "parameters": [
                *_TABLE,
                _query("limit", _whole(REVISIONS, REVISIONS_LIMIT), "The maximum number of revisions."),
            ],
            "get": _operation(
                "listGenerations",
                "The revisions of a table, newest first: what each of its latest runs wrote, and wipes",
                "Generations",
                errors=_PAST,
            ),
        },
        "/v1/tables/{schema}/{table}/diff": {
            "parameters": [
                *_TABLE,
                _query("from", {"type": "string"}, "The first state: the id of an event, or a time.", required=True),
                _query("to", {"type": "string"}, "The second state. Default: the current one."),
            ],
            "get": _operation(
                "diffTable",
                "The partitions that differ between two states of a table, from metadata alone",
                "TableDiff",
                errors=(*_PAST, AsOfError, *tree(PastError), *_UNUSABLE),
            ),
        },
        "/v1/session": {"get": _operation("getSession", "The caller", "Session")},
        "/healthz": {"get": _open("getHealth", "Report whether the process is alive", ())},
        "/readyz": {"get": _open("getReadiness", "Report whether statements can run", (ServiceUnavailableError,))},
        "/metrics": {
            "get": {
                "operationId": "getMetrics",
                "summary": "Metrics as Prometheus text; needs the grant *",
                "responses": {"200": {"description": "Metrics.", "content": {"text/plain": {}}}, **_problems(_ANY)},
            }
        },
        "/openapi.json": {
            "get": {
                "operationId": "getOpenapi",
                "summary": "This document",
                "responses": {
                    "200": {"description": "OpenAPI 3.1.", "content": {"application/json": {}}},
                    **_problems(_ANY),
                },
            }
        },
    }


def _run() -> JsonObject:
    formats = {
        Format.json.media_type: _of("Rows"),
        **{name: {} for form in Format if form is not Format.json for name in form.row.media_types},
    }
    text = {"schema": {"type": "string"}}
    return {
        "operationId": "runSql",
        "summary": "Run a statement, and stream its result",
        "description": (
            "The status is sent with the first rows, so most errors are problem documents. If a query fails later, the "
            "response is cut off without its final chunk (and, as Arrow, without the end-of-stream marker), and "
            "/v1/queries/{id} has the error. The query is cancelled if the client disconnects."
        ),
        "requestBody": _body("SqlRequest"),
        "responses": {
            "200": {
                "description": "The rows.",
                "headers": {
                    "DagFusion-Query-Id": {**text, "description": "The query's id."},
                    "DagFusion-Stats": {
                        **text,
                        "description": "Stats as JSON, if the whole result was ready at once.",
                    },
                    "DagFusion-Warnings": {
                        **text,
                        "description": "What the result leaves out, as texts in a JSON array; only if there is any.",
                    },
                },
                "content": formats,
            },
            **_problems((*_ANY, *_STATEMENT), "POST"),
        },
    }


def _list_tables() -> JsonObject:
    operation = _operation("listTables", "Environments and their tables", "Tables")
    tag = {"ETag": {"description": "Changes with the catalog.", "schema": {"type": "string"}}}
    responses = operation["responses"]
    return {
        **operation,
        "parameters": [
            {
                "name": "If-None-Match",
                "in": "header",
                "required": False,
                "description": "The ETag of an earlier response.",
                "schema": {"type": "string"},
            }
        ],
        "responses": {
            **responses,
            "200": {**responses["200"], "headers": tag},
            "304": {"description": "Nothing changed since; `age_s` aside, while it is below a minute.", "headers": tag},
        },
    }


def _operation(
    name: str,
    summary: str,
    answer: str,
    *,
    errors: Errors = (),
    method: str = "GET",
    body: str | None = None,
    other: JsonObject | None = None,
) -> JsonObject:
    content = {"application/json": _of(answer), **(other or {})}
    return {
        "operationId": name,
        "summary": summary,
        **({} if body is None else {"requestBody": _body(body)}),
        "responses": {"200": {"description": f"{answer}.", "content": content}, **_problems((*_ANY, *errors), method)},
    }


def _open(name: str, summary: str, errors: Errors) -> JsonObject:
    """Return the operation of a request without a caller."""
    ok = {"200": {"description": "Status.", "content": {"application/json": _of("Status")}}}
    return {"operationId": name, "summary": summary, "responses": {**ok, **_problems(errors)}, "security": _OPEN}


def _body(schema: str) -> JsonObject:
    return {"required": True, "content": {"application/json": _of(schema)}}


def _problems(errors: Errors, method: str = "GET") -> JsonObject:
    statuses = sorted({int(status_of(kind, method)) for kind in errors})
    return {str(status): {"$ref": "#/components/responses/Problem"} for status in statuses}


def _of(schema: str) -> JsonObject:
    return {"schema": {"$ref": f"#/components/schemas/{schema}"}}


def _path(name: str, text: str) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string"}}


def _query(name: str, schema: JsonObject, text: str, *, required: bool = False) -> JsonObject:
    return {"name": name, "in": "query", "required": required, "description": text, "schema": schema}


def _whole(default: int, most: int | None = None) -> JsonObject:
    """Return the schema of a whole number in a URL."""
    limit = {} if most is None else {"maximum": most}
    return {"type": "integer", "minimum": 0, **limit, "default": default}


_TABLE = [_path("schema", "Such as uat_silver_tax_id."), _path("table", "Such as raw_organizations.")]

SCHEMAS: JsonObject = schemas(
    SqlRequest,
    RowsDocument,
    ExplainRequest,
    ExplanationDocument,
    QueriesDocument,
    TablesDocument,
    PartitionsDocument,
    HistoryDocument,
    GenerationsDocument,
    TableDiff,
    SessionDocument,
    StatusDocument,
    ProblemDocument,
)

"""Reads requests strictly and within limits of size and time, and writes JSON responses.

Requests: the body, and the result format that the headers name. Responses: documents, and errors as
`application/problem+json` (RFC 9457) with their HTTP status.
"""

import asyncio
import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from dagfusion_client.as_of import read_as_of
from dagfusion_client.documents.codec import DocumentError, encode, read
from dagfusion_client.documents.query_documents import ExplainRequest, ProblemDocument, SqlRequest
from dagfusion_client.engine_choice import EngineChoice
from dagfusion_client.errors import (
    BadRequestError,
    BodyTooLongError,
    ContentEncodingError,
    QueryError,
    UnknownTableError,
)
from dagfusion_client.formats import Format
from dagfusion_client.parameters import read_params
from dagfusion_query.redact import for_clients
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.service.query_registry import TRACE_HEADERS, Query

UPLOAD_TIMEOUT_S = 15.0
PARAMS_LIMIT_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_ESCAPED = 2  # JSON's escapes make a statement longer than it is
_REQUIREMENTS = {
    "sql": "a text with one statement",
    "format": f"one of {', '.join(Format)}",
    "timeout_s": "a positive number",
    "limit_rows": "a whole number from 0 on",
    "result_cache": "true or false",
    "engine": f"one of {', '.join(EngineChoice)}",
}
MEDIA_TYPE = "application/problem+json"


def number(request: Request, name: str, default: int, most: int) -> int:
    """Return a whole number of a request's URL.

    Raises:
        BadRequestError: It is none, or greater than `most`.
    """
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most):
        raise BadRequestError(f"{name} must be a whole number from 0 to {most}, got {text[:100]!r}")
    return int(text)


async def read_query(
    request: Request, settings: ServiceSettings, kind: type[SqlRequest | ExplainRequest] = SqlRequest
) -> Query:
    """Read a request's statement.

    Args:
        request: The request.
        settings: The limits of its body.
        kind: What its body is.

    Raises:
        BadRequestError: The body is not what it must be, or does not come.
        BodyTooLongError: The body is longer than the service takes.
        ContentEncodingError: The body is compressed.
        ParameterError: A parameter cannot be read.
        AsOfError: `as_of` is no event id and no time.
        SqlSyntaxError: The statement is no Unicode text, or has a NUL.
    """
    limit = _ESCAPED * settings.sql_limit_bytes + PARAMS_LIMIT_BYTES
    body = _checked(_parse(await read_body(request, limit), kind), kind)
    params, as_of = read_params(body.params), None if body.as_of is None else read_as_of(body.as_of)
    trace = {name: request.headers[name] for name in TRACE_HEADERS if name in request.headers}
    if not isinstance(body, SqlRequest):
        return Query(body.sql, params, as_of=as_of, trace=trace)
    return Query(
        body.sql,
        params,
        body.format or negotiated(request.headers.get("accept", "*/*")),
        body.timeout_s,
        body.limit_rows,
        result_cache=body.result_cache is not False,
        as_of=as_of,
        engine=body.engine,
        trace=trace,
    )


def negotiated(accept: str) -> Format:
    """Return the format that a client likes best.

    Raises:
        BadRequestError: It takes none that there is.
    """
    for wanted in _by_quality(accept):
        for form in Format:
            if any(_fits(name, wanted) for name in form.row.media_types):
                return form
    supported = ", ".join(form.media_type for form in Format)
    raise BadRequestError(f"Accept must name one of {supported}, unless the body has a format; got {accept[:200]!r}")


def content_type(form: Format, accept: str) -> str:
    """Return what a result in a format is called: as the client calls it, if it does by one of the format's names."""
    accepted = next((wanted for wanted in _by_quality(accept) if wanted in form.row.media_types), form.media_type)
    return f"{accepted}{form.row.parameters}"


def takes(accept_encoding: str, coding: str) -> bool:
    """Return True if a client accepts a content coding and has named it."""
    return coding in _by_quality(accept_encoding)


def document(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a value as JSON."""
    return Response(encode(value), status, headers, media_type="application/json")


def status_of(kind: type[QueryError], method: str) -> int:
    """Return the status of the response for a class of errors."""
    # A table that a path names is a resource; one that a statement names is a mistake in the statement.
    is_resource = issubclass(kind, UnknownTableError) and method != "POST"
    return HTTPStatus.NOT_FOUND if is_resource else kind.http_status


def problem(error: BaseException, query_id: str | None = None, method: str = "POST") -> Response:
    """Return the response for an error, or for the internal error that hides it from clients."""
    shown = for_clients(error)
    details = shown.details()
    headers = {}
    if shown.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if shown.http_status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["Accept-Encoding"] = "identity"
    if "retry_after_s" in details:
        headers["Retry-After"] = str(math.ceil(details["retry_after_s"]))
    extra = {} if query_id is None else {"query_id": query_id}
    return problem_response(status_of(type(shown), method), shown.code, str(shown), headers, **extra, **details)


def problem_response(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """Return the response of a problem document."""
    text = detail.encode("utf-8", "replace").decode()  # it may quote what is no Unicode text
    content = ProblemDocument(title=_title(status), status=status, code=code, detail=text, **more)
    return Response(encode(content), status, headers, MEDIA_TYPE)


async def read_body(request: Request, limit: int) -> bytes:
    """Read the body of a request.

    Args:
        request: The request.
        limit: The most bytes that it may have.

    Raises:
        BadRequestError: The body does not come, or not within `UPLOAD_TIMEOUT_S`.
        BodyTooLongError: It is longer.
        ContentEncodingError: It is compressed.
    """
    if codings := [coding for coding in _codings(request) if coding != "identity"]:
        raise _compressed(f"has the content coding {_shown(', '.join(codings))}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise _too_long(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_long(limit)
    except TimeoutError:
        raise BadRequestError(f"the request's body was not received within {UPLOAD_TIMEOUT_S:.0f} s") from None
    except ClientDisconnect:
        raise BadRequestError("the client disconnected before its request was complete") from None
    return bytes(body)


def _codings(request: Request) -> list[str]:
    listed = ",".join(request.headers.getlist("content-encoding")).split(",")
    return [coding.strip().lower() for coding in listed if coding.strip()]


def _compressed(how: str) -> ContentEncodingError:
    return ContentEncodingError(f"the request's body {how}, and this service takes none: send it uncompressed")


def _too_long(limit: int) -> BodyTooLongError:
    return BodyTooLongError(
        f"the request's body is longer than {limit:,} bytes: shorten the statement, its parameters or the filter"
    )


def _parse(body: bytes, kind: type) -> Mapping[str, Any]:
    if body.startswith(_GZIP):
        raise _compressed("is compressed with gzip")
    try:
        spec = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f'the body must be JSON such as {{"sql": "SELECT 1"}}: {_why(error, body)}') from None
    if not isinstance(spec, dict):
        raise BadRequestError('the body must be an object such as {"sql": "SELECT 1"}')
    fields = [field.name for field in dataclasses.fields(kind)]
    if unknown := sorted(spec.keys() - set(fields)):
        raise BadRequestError(f"the body has unknown fields {_shown(unknown)}: it may have {', '.join(fields)}")
    return spec


def _checked(spec: Mapping[str, Any], kind: type[SqlRequest | ExplainRequest]) -> SqlRequest | ExplainRequest:
    """Return a body as its dataclass, with values that its fields can have."""
    if "sql" not in spec:
        raise BadRequestError('the body must have a statement: {"sql": "SELECT ..."}')
    try:
        body = read(kind, spec)
    except DocumentError as error:
        raise _refused(spec, str(error.name)) from None
    if isinstance(body, SqlRequest):
        if body.timeout_s is not None and not 0 < body.timeout_s < math.inf:
            raise _refused(spec, "timeout_s")
        if body.limit_rows is not None and body.limit_rows < 0:
            raise _refused(spec, "limit_rows")
    return body


def _refused(spec: Mapping[str, Any], name: str) -> BadRequestError:
    return BadRequestError(f"{name} must be {_REQUIREMENTS[name]}, got {_shown(spec[name])}")


def _why(error: Exception, body: bytes) -> str:
    if not body:
        return "it is empty"
    if b"\0" in body:
        return f"its byte {body.index(0):,} of {len(body):,} is zero"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 at byte {error.start:,} of {len(body):,}"
    if isinstance(error, json.JSONDecodeError):
        return _why_not_json(error, len(body))
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "a number has too many digits" if "integer string conversion" in str(error) else str(error)


def _why_not_json(error: json.JSONDecodeError, size: int) -> str:
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"it ends after {size:,} bytes, before the JSON does"
    if error.msg == "Extra data":
        return f"the JSON ends after {len(error.doc[: error.pos].encode()):,} bytes, and the body has {size:,}"
    return str(error)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}..."  # noqa: PLR2004  # enough to recognise it


def _by_quality(header: str) -> Iterator[str]:
    """Yield what a header lists, the best first, without what it refuses."""
    listed: list[tuple[float, int, str]] = []
    for item in header.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((_quality(p.removeprefix("q=")) for p in parameters if p.startswith("q=")), 1.0)
        if name and quality > 0:
            listed.append((-quality, len(listed), name))
    return (name for _, _, name in sorted(listed))


def _quality(text: str) -> float:
    try:
        return min(float(text), 1.0)
    except ValueError:
        return 0.0


def _fits(name: str, wanted: str) -> bool:
    kind, _, rest = wanted.partition("/")
    return wanted in (name, "*/*") or (rest == "*" and name.startswith(f"{kind}/"))


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request"  # 499 is nginx's

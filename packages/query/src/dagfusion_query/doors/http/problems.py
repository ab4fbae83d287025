"""JSON responses: documents, and errors as `application/problem+json` (RFC 9457) with their HTTP status."""

import logging
import math
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from dagfusion_query.documents.codec import encode
from dagfusion_query.documents.queries import ProblemDocument
from dagfusion_query.errors import EventLogError, QueryError, SettingsError, SnapshotError

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
# Their texts are for the operator, because they name settings, hosts and paths. Clients get an internal error.
_PRIVATE = (SettingsError, EventLogError, SnapshotError)


def problem(error: BaseException, query_id: str | None = None, status: int | None = None) -> Response:
    """Return the response for an error. An error that is not for clients is logged, and its response has an id."""
    if not isinstance(error, QueryError) or isinstance(error, _PRIVATE):
        return internal(error)
    details = error.details()
    headers = {}
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.http_status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        headers["Accept-Encoding"] = "identity"
    if "retry_after_s" in details:
        headers["Retry-After"] = str(math.ceil(details["retry_after_s"]))
    known = {} if query_id is None else {"query_id": query_id}
    return answer(status or error.http_status, error.code, str(error), headers, **known, **details)


def internal(error: BaseException) -> Response:
    """Return a response without details. The log has the error under the same id."""
    reference = secrets.token_hex(4)
    _log.error("error %s", reference, exc_info=error)
    return answer(500, "internal", f"internal error {reference}: see the service's log")


def answer(status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """Return the response of a problem document."""
    said = detail.encode("utf-8", "replace").decode()  # it may quote what is no Unicode text
    content = ProblemDocument(title=_title(status), status=status, code=code, detail=said, **more)
    return Response(encode(content), status, headers, MEDIA_TYPE)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Client Closed Request"  # 499 is nginx's


def document(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a value as JSON."""
    return Response(encode(value), status, headers, media_type="application/json")

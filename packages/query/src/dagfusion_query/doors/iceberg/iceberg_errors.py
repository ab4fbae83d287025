"""Errors in the form of the Iceberg REST protocol."""

import logging
import secrets

import orjson
from starlette.responses import Response

from dagfusion_query.errors import EventLogError, QueryError, SettingsError, SnapshotError

_log = logging.getLogger(__name__)

JSON = "application/json"
# Their texts are for the operator.
_PRIVATE = (SettingsError, EventLogError, SnapshotError)
_TYPES = {
    400: "BadRequestException",
    401: "NotAuthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
    503: "ServiceUnavailableException",
}


class MissingError(QueryError, http=404):
    """The catalog has no such thing that the caller may see.

    Attributes:
        kind: The protocol's type of the error, such as `NoSuchTableException`.
    """

    def __init__(self, text: str, kind: str = "NotFoundException") -> None:
        super().__init__(text)
        self.kind = kind


def refusal(error: BaseException) -> Response:
    """Return the response for an error. One that is not for clients is logged, and its response has an id."""
    if not isinstance(error, QueryError) or isinstance(error, _PRIVATE):
        reference = secrets.token_hex(4)
        _log.error("error %s", reference, exc_info=error)
        return failed(500, "InternalServerError", f"internal error {reference}: see the service's log")
    status = error.http_status
    kind = error.kind if isinstance(error, MissingError) else _TYPES.get(status, type(error).__name__)
    return failed(status, kind, str(error))


def failed(status: int, kind: str, message: str) -> Response:
    """Return the response of an error model."""
    said = message.encode("utf-8", "replace").decode()
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}  # noqa: PLR2004
    content = orjson.dumps({"error": {"message": said, "type": kind, "code": status}})
    return Response(content, status, headers, JSON)

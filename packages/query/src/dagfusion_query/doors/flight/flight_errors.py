"""Converts errors to Flight errors: the gRPC status of the class and the text, without details of this machine."""

import logging
import secrets
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson
import pyarrow as pa
from pyarrow import flight

from dagfusion_query.documents.codec import encode
from dagfusion_query.documents.queries import FlightFailure
from dagfusion_query.doors.flight.messages import ERROR_TRAILER
from dagfusion_query.errors import QueryError, TooBusyError

LOG = logging.getLogger("dagfusion.flight")


class _NoTraceback(Exception):  # noqa: N818  # a mixin
    """An exception that the traceback module cannot format.

    pyarrow sends the formatted traceback of an exception that is no FlightError along with its text, paths and source
    lines included. Where formatting fails, it sends the name of the exception's class instead.
    """

    @property
    def __cause__(self) -> NoReturn:  # type: ignore[override]  # that it cannot be written is the point
        raise AttributeError("this exception does not show where it was raised")


def _without_traceback(name: str, base: type[Exception]) -> type[Exception]:
    return type(name, (_NoTraceback, base), {"__doc__": f"{name}: clients are shown this name."})


_STATUSES: Mapping[str, type[Exception]] = {
    "INVALID_ARGUMENT": _without_traceback("InvalidArgument", pa.ArrowInvalid),
    "NOT_FOUND": _without_traceback("NotFound", pa.ArrowKeyError),
    "UNIMPLEMENTED": _without_traceback("Unimplemented", pa.ArrowNotImplementedError),
    "UNAUTHENTICATED": _without_traceback("Unauthenticated", flight.FlightUnauthenticatedError),
    "PERMISSION_DENIED": _without_traceback("PermissionDenied", flight.FlightUnauthorizedError),
    "DEADLINE_EXCEEDED": _without_traceback("DeadlineExceeded", flight.FlightTimedOutError),
    "CANCELLED": _without_traceback("Cancelled", flight.FlightCancelledError),
    "UNAVAILABLE": _without_traceback("Unavailable", flight.FlightUnavailableError),
    "INTERNAL": _without_traceback("Internal", flight.FlightInternalError),
    # pyarrow cannot say this status: the text has its name, and the trailer its code.
    "RESOURCE_EXHAUSTED": _without_traceback("ResourceExhausted", flight.FlightServerError),
}


def failure(error: BaseException, context: Any = None) -> Exception:
    """Return what a handler raises for an error.

    Args:
        error: Anything that went wrong. What is no QueryError is logged with an id, and the client gets the id only.
        context: The call's `ServerCallContext`; with it, the error also travels in the trailer.
    """
    said = error if isinstance(error, QueryError) else _unexpected(error)
    if context is not None:
        context.add_trailer(ERROR_TRAILER, encoded(said))
    if isinstance(said, TooBusyError):
        hint = "" if "try again in" in str(said) else f" (try again in {said.retry_after_s:g} s)"
        # On UNAVAILABLE clients try again, which is right here.
        return _STATUSES["UNAVAILABLE"](f"{said}{hint}", orjson.dumps(said.details()))
    text = f"{said.grpc_status}: {said}" if said.grpc_status == "RESOURCE_EXHAUSTED" else str(said)
    return _STATUSES[said.grpc_status](text)


def encoded(error: QueryError) -> bytes:
    """Encode an error as the trailer has it."""
    return encode(FlightFailure.of(error))


def _unexpected(error: BaseException) -> QueryError:
    number = secrets.token_hex(6)
    LOG.error("unexpected error %s", number, exc_info=error)
    return QueryError(f"internal error {number}: see the service's log")

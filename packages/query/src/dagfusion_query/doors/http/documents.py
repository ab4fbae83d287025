"""JSON documents: written from the service's values."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response


def encode(value: object) -> bytes:
    """Write a value as JSON: dataclasses by their fields, moments in ISO 8601."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def document(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a value as JSON."""
    return Response(encode(value), status, headers, media_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    return str(value)  # decimals, durations, and what else Arrow has

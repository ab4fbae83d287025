"""Answers of JSON documents."""

from collections.abc import Mapping

from starlette.responses import Response

from dagfusion_query.documents.codec import encode


def document(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a value as JSON."""
    return Response(encode(value), status, headers, media_type="application/json")

"""Requests to servers of the stack that may not listen yet."""

import http.client
import json
import urllib.request
from collections.abc import Mapping

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def content(url: str, *, timeout_s: float, body: Mapping[str, str] | None = None) -> bytes | None:
    """Return what a server answers with status 200; None if it does not, or nothing listens there.

    A connection to a free port may be connected with itself, if it got this port as its own, and then the answer is the
    request.

    Args:
        url: On a loopback address.
        timeout_s: How long an answer may take.
        body: Sent as JSON by POST; None for GET.
    """
    data, headers = None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310  # the stack's own URLs
    try:
        with _opener.open(request, timeout=timeout_s) as response:
            return bytes(response.read()) if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None

"""Requests to servers of the stack that may not listen yet."""

import http.client
import json
import urllib.request
from collections.abc import Mapping

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def content(url: str, *, timeout_s: float, body: Mapping[str, str] | None = None) -> bytes | None:
    """Return the body of a response with status 200; None for another status, a malformed response, or no server.

    If nothing listens on the port, the operating system may choose the same port for the client's end (a TCP
    self-connect). The client then receives its own request, which is a malformed response.

    Args:
        url: On a loopback address.
        timeout_s: The longest wait for the response, in seconds.
        body: Sent as JSON by POST; None for GET.
    """
    data, headers = None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)  # noqa: S310  # the stack's own URLs
    try:
        with _opener.open(request, timeout=timeout_s) as response:
            return bytes(response.read()) if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None

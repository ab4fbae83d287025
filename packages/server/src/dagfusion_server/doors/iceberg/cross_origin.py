"""Cross-origin requests (CORS) to the Iceberg catalog, from the web pages that the operator names."""

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST",
    "Access-Control-Allow-Headers": "Authorization, *",  # the asterisk does not cover Authorization
    "Access-Control-Max-Age": "600",
}


class CrossOriginMiddleware:
    """Middleware that lets pages of some other sites read the responses. Browsers keep responses from all others.

    Args:
        app: What it wraps.
        origins: The sites, such as `https://app.example.com`.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app, self._origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a browser's question before a request (preflight), or pass a request on."""
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        if origin not in self._origins:
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = MutableHeaders(raw=[*message["headers"]])
                added["Access-Control-Allow-Origin"] = origin
                added["Access-Control-Expose-Headers"] = "ETag"
                added.add_vary_header("Origin")
                message["headers"] = added.raw
            await send(message)

        if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)

"""What every answer has: headers against misuse in browsers, and no word of what went wrong inside."""

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dagfusion_query.doors.http.problems import internal

_log = logging.getLogger(__name__)

_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NOT_KEPT = (b"cache-control", b"no-store")


class Shield:
    """Middleware around everything: an unexpected error is logged, and answered by its id alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_shielded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = [*message.get("headers", ())]
                names = {name for name, _ in given}
                message["headers"] = given + [header for header in (*_HEADERS, _NOT_KEPT) if header[0] not in names]
            await send(message)

        try:
            await self._app(scope, receive, send_shielded)
        except Exception as error:  # noqa: BLE001  # whatever it is, a client must not see it
            if not started:
                await internal(error)(scope, receive, send_shielded)
            else:
                _log.exception("an answer broke off")  # and is not completed: the connection is cut

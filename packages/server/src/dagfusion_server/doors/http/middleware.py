"""Middleware: security headers, internal errors hidden from clients, authentication, checks of origin and host."""

import ipaddress
import logging
import socket
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dagfusion_client.errors import BadRequestError, ForbiddenError, QueryError, UnauthenticatedError
from dagfusion_client.loopback import is_loopback
from dagfusion_query.access.authentication import ANONYMOUS, Tokens, identify, is_forwarded
from dagfusion_query.access.grants import Caller
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.http.requests_and_responses import problem

_GUARDED = ("/v1/", "/metrics", "/openapi.json")
_ONCE = ("authorization", "host", "origin", "content-length")
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


class AuthenticationMiddleware:
    """Middleware that knows each caller before a request is read any further.

    Args:
        app: What it guards.
        tokens: The tokens of the service.
        settings: Say who needs no token.
        guarded: How the paths begin that only known callers may ask for.
        unguarded: How those of them begin that anybody may ask for.
        origins: The other sites whose pages may send requests, such as `https://app.example.com`.
        refuse: Makes the response for a request that is not let in.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        settings: ServiceSettings,
        *,
        guarded: tuple[str, ...] = _GUARDED,
        unguarded: tuple[str, ...] = (),
        origins: Collection[str] = frozenset(),
        refuse: Callable[[QueryError], Response] = problem,
    ) -> None:
        self._app, self._tokens, self._settings = app, tokens, settings
        self._guarded, self._unguarded, self._origins, self._refuse = guarded, unguarded, origins, refuse
        self._own_name = socket.gethostname().lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate a request, or answer with the error."""
        if scope["type"] == "http" and self._guards(scope["path"]):
            try:
                scope.setdefault("state", {})["caller"] = self._caller(Headers(scope=scope), client_of(scope))
            except QueryError as error:
                await self._refuse(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _guards(self, path: str) -> bool:
        return path.startswith(self._guarded) and not path.startswith(self._unguarded)

    def _caller(self, headers: Headers, client: str | None) -> Caller:
        for name in _ONCE:
            if len(headers.getlist(name)) > 1:
                raise BadRequestError(f"the header {name} may come once, got {len(headers.getlist(name))}")
        if headers.get("origin") not in self._origins:
            _check_origin(headers)
        bearer = _bearer(headers.get("authorization"))
        door = "console" if headers.get("dagfusion-door") == "console" else "http"
        caller = identify(self._tokens, self._settings, bearer=bearer, peer=client, door=door)
        if bearer is None and caller.user == ANONYMOUS:
            self._check_host(_host(headers))
        return caller

    def _check_host(self, host: str) -> None:
        """Refuse a name that is not this machine's own.

        A page of another site may have a name that resolves to this address (DNS rebinding). A proxy on this machine
        may pass on the name that its client asked for.

        Raises:
            ForbiddenError: The name is none of this machine's.
        """
        if host == "localhost" or host.endswith(".localhost") or is_loopback(host):
            return
        if self._settings.anonymous == "always" and (host == self._own_name or _is_address(host) or _is_local(host)):
            return
        raise ForbiddenError(
            "without an access token this service answers only to localhost and loopback addresses, not to the host "
            "name of this request: use one of those, or send a token"
        )


def caller_of(request: Request) -> Caller:
    """Return the caller, which AuthenticationMiddleware has put on the request: only paths that it guards have one."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def client_of(scope: Scope) -> str | None:
    """Return the client's IP address, or None when only a proxy's is known."""
    if not scope.get("client") or is_forwarded(name.decode("latin-1") for name, _ in scope["headers"]):
        return None
    return str(scope["client"][0])


class SecurityMiddleware:
    """Middleware around everything: an unexpected error is logged, and answered by its id alone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [*message.get("headers", ())]
                names = {name for name, _ in headers}
                message["headers"] = headers + [header for header in (*_HEADERS, _NOT_KEPT) if header[0] not in names]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:  # noqa: BLE001  # whatever it is, a client must not see it
            if not started:
                await problem(error)(scope, receive, send_with_headers)
            else:
                _log.exception("a response broke off")  # and is not completed: the connection is cut


def _check_origin(headers: Mapping[str, str]) -> None:
    """Refuse requests from pages of other sites.

    Raises:
        ForbiddenError: A page of another site sent the request.
    """
    origin = headers.get("origin")
    try:
        foreign = origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    except ValueError:  # it is no URL
        foreign = True
    embedded = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
    if foreign or embedded:
        raise ForbiddenError("this service refuses requests from pages of other sites")


def _bearer(authorization: str | None) -> str | None:
    if authorization is None:
        return None
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthenticatedError("the header Authorization must be `Bearer <token>`")
    return secret.strip()


def _host(headers: Mapping[str, str]) -> str:
    """Return the name or address of `Host`, without the port."""
    try:
        return (urlsplit(f"//{headers.get('host', '')}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_local(host: str) -> bool:
    """Return True for a name without a dot: no page of the open web has one."""
    return host != "" and "." not in host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

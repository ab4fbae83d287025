"""Authentication: identifies the caller of a request by its token, or as a local program that needs none."""

import ipaddress
import logging
from collections.abc import Iterable

from dagfusion_query.access.grants import ALL, Caller, Grants
from dagfusion_query.access.tokens import ANONYMOUS, Tokens
from dagfusion_query.errors import ServiceUnavailableError, SettingsError, UnauthenticatedError
from dagfusion_query.service_settings import ServiceSettings

_log = logging.getLogger(__name__)

_PROXY_HEADERS = frozenset(
    ("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "client-ip", "true-client-ip", "cdn-loop")
)
_PROXY_PREFIXES = ("x-forwarded", "x-original-", "x-envoy-", "cf-")


def identify(tokens: Tokens, settings: ServiceSettings, *, bearer: str | None, peer: str | None, door: str) -> Caller:
    """Return the caller of a request.

    Args:
        tokens: The tokens of the service.
        settings: The settings of the service, which decide whether a token is needed.
        bearer: The secret that came with the request. An invalid one is refused, also if no token is needed.
        peer: The client's IP address, or None if it is unknown because a proxy passed the request on.
        door: `http`, `flight` or `console`.

    Raises:
        UnauthenticatedError: There is no token, or one that is not valid.
        ServiceUnavailableError: The tokens cannot be read now, so no token is accepted.
    """
    try:
        if bearer is not None:
            token = tokens.authenticate(bearer)
            return Caller(token.name, Grants(frozenset(token.grants)), door, token.id)
        if _needs_no_token(tokens, settings, peer):
            return Caller(ANONYMOUS, ALL, door)
    except SettingsError:
        _log.exception("no access token can be checked")
        raise ServiceUnavailableError("access tokens cannot be checked now: the service's log says why") from None
    raise _token_wanted()


def check(tokens: Tokens, settings: ServiceSettings, caller: Caller) -> None:
    """Check that a caller who was authenticated before is still allowed.

    Raises:
        UnauthenticatedError: Its token is no longer valid, or it has none and there are tokens now.
        SettingsError: The tokens cannot be read.
    """
    if caller.token_id:
        tokens.check(caller.token_id)
    elif settings.anonymous == "never" or (settings.anonymous == "auto" and tokens.exist()):
        raise _token_wanted()


def is_forwarded(names: Iterable[str]) -> bool:
    """Return True if the names of a request's headers, in lower case, show that a proxy passed it on."""
    return any(name in _PROXY_HEADERS or name.startswith(_PROXY_PREFIXES) for name in names)


def _needs_no_token(tokens: Tokens, settings: ServiceSettings, peer: str | None) -> bool:
    match settings.anonymous:
        case "always":
            return True
        case "loopback":
            return is_loopback(peer)
        case "auto":
            return is_loopback(peer) and not tokens.exist()
        case _:
            return False


def _token_wanted() -> UnauthenticatedError:
    return UnauthenticatedError(
        "this service requires an access token: send the header `Authorization: Bearer <token>`"
    )


def is_loopback(peer: str | None) -> bool:
    """Return True for a loopback IP address, and False for a name or None."""
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback

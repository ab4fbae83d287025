"""Who asks: the bearer of a token, or somebody who needs none."""

import ipaddress
import logging

from dagfusion_query.access.caller import Caller
from dagfusion_query.access.grants import ALL, Grants
from dagfusion_query.access.tokens import ANONYMOUS, Tokens
from dagfusion_query.errors import ServiceUnavailableError, SettingsError, UnauthenticatedError
from dagfusion_query.service_settings import ServiceSettings

_log = logging.getLogger(__name__)


def identify(tokens: Tokens, settings: ServiceSettings, *, bearer: str | None, peer: str | None, door: str) -> Caller:
    """Tell who asks.

    Args:
        tokens: Of the service.
        settings: Say who needs no token.
        bearer: The secret that came with the request. One that is not valid is refused, also where none is needed.
        peer: The IP address of the other end, or None when that is not the client's: unknown, or a proxy's.
        door: `http`, `flight` or `console`.

    Raises:
        UnauthenticatedError: There is no token, or one that is not valid.
        ServiceUnavailableError: The tokens cannot be read now; nobody with a token gets in.
    """
    if bearer is not None:
        try:
            token = tokens.authenticate(bearer)
        except SettingsError:
            _log.exception("no access token can be checked")
            raise ServiceUnavailableError("access tokens cannot be checked now: the service's log says why") from None
        return Caller(token.name, Grants(frozenset(token.grants)), door, token.id)
    if settings.anonymous == "always" or (settings.anonymous == "loopback" and is_loopback(peer)):
        return Caller(ANONYMOUS, ALL, door)
    raise UnauthenticatedError("this service wants an access token: send the header `Authorization: Bearer <token>`")


def is_loopback(peer: str | None) -> bool:
    """Tell whether an IP address is this machine's own; a name, or nothing, is not."""
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback

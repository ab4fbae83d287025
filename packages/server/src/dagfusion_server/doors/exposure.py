"""Access without a token: the addresses at which it is refused, and the danger where it is not."""

from dagfusion_client.errors import SettingsError
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.service_settings import ServiceSettings
from dagfusion_server.doors.address import Address


def check_exposure(settings: ServiceSettings, tokens: Tokens) -> None:
    """Refuse to listen on an address that other machines can reach without tokens and TLS.

    Raises:
        SettingsError: TLS or a token is missing, the tokens cannot be read, or an address is malformed.
    """
    there_are_tokens = tokens.exist()
    addresses = (
        ("DAGFUSION_HTTP_ADDRESS", Address.parse(settings.http_address, "DAGFUSION_HTTP_ADDRESS")),
        ("DAGFUSION_FLIGHT_ADDRESS", Address.parse(settings.flight_address, "DAGFUSION_FLIGHT_ADDRESS")),
    )
    if settings.anonymous == "always":
        return
    for name, address in addresses:
        if address.is_loopback:
            continue
        if settings.tls_certificate is None:
            raise SettingsError(
                f"{name} is {address.host}, which other machines can reach, and there is no TLS to keep tokens and "
                "results secret: set DAGFUSION_TLS_CERTIFICATE and DAGFUSION_TLS_KEY, listen on 127.0.0.1 behind a "
                "proxy that has TLS, or set DAGFUSION_ANONYMOUS=always in a trusted network"
            )
        if not there_are_tokens:
            raise SettingsError(
                f"{name} is {address.host}, which other machines can reach, and there is no access token: create one "
                "with `dagfusion token create NAME --grant ...`, or set DAGFUSION_ANONYMOUS=always to allow access "
                "without tokens"
            )


def danger_of(settings: ServiceSettings, tokens: Tokens) -> str | None:
    """Return what an operator must know about access without a token, or None if all requests need one.

    Raises:
        SettingsError: The tokens cannot be read.
    """
    proxy = (
        "A proxy on this machine that adds no Forwarded or X-Forwarded header looks like one, and then everybody whom "
        "it serves can read all tables."
    )
    match settings.anonymous:
        case "always":
            return "DAGFUSION_ANONYMOUS=always: everybody who reaches this service can read all tables without a token."
        case "loopback":
            return (
                f"DAGFUSION_ANONYMOUS=loopback: every program on this machine can read all tables without a token. "
                f"{proxy} Remove the setting, and create tokens, before you start a proxy."
            )
        case "auto" if not tokens.exist():
            return (
                f"there is no access token: every program on this machine can read all tables without one. {proxy} "
                "Create a token before you start a proxy: from then on requests without a token are refused."
            )
        case _:
            return None

"""The address and the TLS files of a door."""

import socket
import ssl
from dataclasses import dataclass

from dagfusion_client.errors import SettingsError
from dagfusion_client.loopback import is_loopback
from dagfusion_query.service_settings import ServiceSettings


@dataclass(frozen=True)
class Address:
    """A host, which may be a name, and a port; port 0 is any that is free."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, setting: str) -> "Address":
        """Read `127.0.0.1:8080`, `localhost:8080` or `[::1]:8080`.

        Raises:
            SettingsError: The text is not an address; the message names the setting.
        """
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        is_port = port.isascii() and port.isdecimal() and int(port) < 2**16
        if not (colon and bare and is_port) or (":" in bare) != host.startswith("["):
            raise SettingsError(f"{setting} must be host:port, such as 127.0.0.1:8080 or [::1]:8080, got {text!r}")
        return cls(bare, int(port))

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can reach it."""
        return self.host == "localhost" or is_loopback(self.host)

    def url(self, scheme: str, port: int) -> str:
        """Return the URL of a door that listens here, at the port that it has got."""
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self.host, self.host)  # noqa: S104
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def bind(self, option: str) -> socket.socket:
        """Return a socket that has this address, and does not listen yet.

        Raises:
            SettingsError: It cannot; the message names the option to change.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError as error:
            raise SettingsError(
                f"{self.host} is not an address of this machine ({error}): choose one with {option}"
            ) from error
        family, kind, protocol, _, where = min(found, key=lambda info: info[0] != socket.AF_INET)
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(where)
        except OSError as error:
            listening.close()
            raise SettingsError(
                f"{self.host}:{self.port} cannot be listened on ({error.strerror}): stop what listens there, or choose "
                f"another address with {option}"
            ) from error
        return listening


def tls_context(settings: ServiceSettings) -> ssl.SSLContext | None:
    """Return what the settings' certificate and key are for a server; None without TLS.

    Raises:
        SettingsError: The files cannot be read, or do not belong together.
    """
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except OSError as error:  # SSLError is one
        why = error.strerror if not isinstance(error, ssl.SSLError) else error.reason or "no PEM"
        raise SettingsError(
            f"DAGFUSION_TLS_CERTIFICATE ({settings.tls_certificate}) and DAGFUSION_TLS_KEY ({settings.tls_key}) cannot "
            f"be used ({why}): both must be PEM files, and the key the certificate's"
        ) from error
    return context

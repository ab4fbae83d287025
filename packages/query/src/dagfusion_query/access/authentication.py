"""Authentication: access tokens, and the caller of a request by its token, or as a local program that needs none.

Tokens are in a file of hashed secrets, which is read again whenever it changes.
"""

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagfusion_client.errors import ServiceUnavailableError, SettingsError, UnauthenticatedError
from dagfusion_client.loopback import is_loopback
from dagfusion_query.access.grants import ALL, Caller, Grants
from dagfusion_query.service_settings import ServiceSettings

ANONYMOUS = "anonymous"
_FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SECRET = re.compile(r"dft_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_OTHERS_MAY_WRITE = 0o022
_log = logging.getLogger(__name__)

_PROXY_HEADERS = frozenset(
    ("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "client-ip", "true-client-ip", "cdn-loop")
)
_PROXY_PREFIXES = ("x-forwarded", "x-original-", "x-envoy-", "cf-")


@dataclass(frozen=True)
class Token:
    """A token as the file has it.

    Attributes:
        id: Part of the secret, by which the token is found.
        name: The user.
        sha256: The sha256 of the secret, in hexadecimal digits. The secret has 256 random bits, so a slow hash is not
            needed.
        grants: What it may read.
        expires: When it ends by itself; None for never.
        revoked: When it was revoked; None while it was not.
        is_internal: True for a token of a program that belongs to the service, such as the local stack's Sail server.
            It does not end the access without a token.
    """

    id: str
    name: str
    sha256: str
    grants: Sequence[str]
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    is_internal: bool = False

    def is_active(self, now: datetime) -> bool:
        """Return True if it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


class Tokens:
    """The tokens of a service. Thread-safe, and safe between processes: all refuse a token once one has revoked it.

    Args:
        path: The file, which does not have to exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, ...] | None, dict[str, Token]] = (None, {})
        self._were_there = False

    def create(
        self, name: str, grants: Iterable[str], expires_at: datetime | None = None, *, is_internal: bool = False
    ) -> str:
        """Add a token and return its secret, which is not stored.

        Args:
            name: The user.
            grants: What it may read.
            expires_at: When it ends by itself; None for never.
            is_internal: As in `Token`.

        Raises:
            SettingsError: The name or a grant is not one, the name is taken, or the file cannot be read or written.
        """
        if not _NAME.fullmatch(name) or name == ANONYMOUS:
            raise SettingsError(
                f"a token's name must be up to 64 letters, digits and ._@- and not {ANONYMOUS!r}, got {name!r}"
            )
        granted = sorted(Grants.parse(grants).names)
        if not granted:
            raise SettingsError("a token must have a grant: an environment, a schema (uat_silver.*), a table or *")
        now = datetime.now(UTC)
        with self._changing() as tokens:
            if any(token.name == name and token.is_active(now) for token in tokens.values()):
                raise SettingsError(f"there is a token {name} already: revoke it first, or choose another name")
            id_ = secrets.token_hex(6)
            secret = f"dft_{id_}_{secrets.token_urlsafe(32)}"
            tokens[id_] = Token(id_, name, _digest(secret), granted, now, expires_at, is_internal=is_internal)
        return secret

    def list(self) -> Sequence[Token]:
        """Return all tokens, the latest last.

        Raises:
            SettingsError: The file cannot be read.
        """
        return sorted(self._current().values(), key=lambda token: token.created)

    def exist(self) -> bool:
        """Return True once the file has a token, revoked and expired ones included, also if it is removed later.

        Internal tokens do not count.

        Raises:
            SettingsError: The file cannot be read.
        """
        self._were_there = self._were_there or not all(token.is_internal for token in self._current().values())
        return self._were_there

    def revoke(self, name_or_id: str) -> Token:
        """End a token for good.

        Raises:
            SettingsError: No active token has the name or id, or the file cannot be read or written.
        """
        now = datetime.now(UTC)
        with self._changing() as tokens:
            for token in tokens.values():
                if name_or_id in (token.name, token.id) and token.is_active(now):
                    tokens[token.id] = replace(token, revoked=now)
                    return tokens[token.id]
        raise SettingsError(f"there is no active token {name_or_id!r}: `dagfusion token list` shows all")

    def authenticate(self, secret: str) -> Token:
        """Return the token of a secret.

        Raises:
            UnauthenticatedError: No token has this secret, or the token has expired or was revoked.
            SettingsError: The file cannot be read.
        """
        tokens = self._current()
        parts = _SECRET.fullmatch(secret)
        token = tokens.get(parts[1]) if parts else None
        expected = _digest("") if token is None else token.sha256
        if not hmac.compare_digest(_digest(secret), expected) or token is None:
            raise _unknown()
        return _active(token)

    def check(self, token_id: str) -> None:
        """Check that a token that was authenticated before is still valid. Raises as `authenticate` does."""
        if (token := self._current().get(token_id)) is None:
            raise _unknown()
        _active(token)

    def _current(self) -> dict[str, Token]:
        """Return the tokens of the file as it is now; it is read only when it has changed."""
        version = self._version()
        with self._lock:
            if self._read[0] != version or version is None:
                self._read = (version, {} if version is None else self._parse())
            return self._read[1]

    def _version(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from error
        if found.st_mode & _OTHERS_MAY_WRITE:
            raise self._unusable("can be written by others: chmod 600")
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def _parse(self) -> dict[str, Token]:
        try:
            return self._tokens_in(self.path.read_bytes())
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from error

    def _tokens_in(self, text: bytes | str) -> dict[str, Token]:
        try:
            document = json.loads(text)
            if document["version"] != _FORMAT:
                raise self._unusable(f"has version {document['version']!r}, and this reader knows {_FORMAT}: upgrade")
            return {token.id: token for token in map(_token, document["tokens"])}
        except (ValueError, TypeError, KeyError) as error:
            raise self._unusable("is damaged: restore it, or remove it, which revokes every token") from error

    def _unusable(self, why: str) -> SettingsError:
        return SettingsError(f"the file of access tokens {self.path} {why}")

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Token]]:
        """Yield the tokens to be changed, and replace the file atomically if the block succeeds."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.path.with_name(f"{self.path.name}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                tokens = dict(self._current())
                yield tokens
                self._write(tokens)
        except OSError as error:
            raise self._unusable(f"cannot be written: {error.strerror}") from error

    def _write(self, tokens: dict[str, Token]) -> None:
        document = {"version": _FORMAT, "tokens": [asdict(token) for token in tokens.values()]}
        text = json.dumps(document, default=datetime.isoformat, indent=1)
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)  # noqa: PTH105  # the name is the one that mkstemp gives
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _active(token: Token) -> Token:
    if token.revoked is not None:
        raise UnauthenticatedError(f"the access token {token.name} was revoked: ask for another")
    if not token.is_active(datetime.now(UTC)):
        raise UnauthenticatedError(f"the access token {token.name} expired at {token.expires}: ask for another")
    return token


def _unknown() -> UnauthenticatedError:
    return UnauthenticatedError("the access token is not one of this service: ask its operator for another")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _token(spec: dict[str, Any]) -> Token:
    id_, name, sha256, grants = spec["id"], spec["name"], spec["sha256"], tuple(spec["grants"])
    created, expires, revoked = (_moment(spec[moment]) for moment in ("created", "expires", "revoked"))
    is_internal = spec.get("is_internal", False)
    if created is None or not all(isinstance(text, str) for text in (id_, name, sha256, *grants)):
        raise TypeError
    if not isinstance(is_internal, bool):
        raise TypeError
    return Token(id_, name, sha256, grants, created, expires, revoked, is_internal)


def _moment(text: str | None) -> datetime | None:
    moment = None if text is None else datetime.fromisoformat(text)
    if moment is not None and moment.tzinfo is None:
        raise ValueError
    return moment


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

"""Who needs a token, and whom a request without one stands for."""

from dataclasses import replace
from pathlib import Path

import pytest

from dagfusion_query.access.authenticate import identify, is_loopback
from dagfusion_query.access.grants import Grants
from dagfusion_query.access.tokens import Tokens
from dagfusion_query.errors import ServiceUnavailableError, UnauthenticatedError
from dagfusion_query.service_settings import ServiceSettings

SETTINGS = ServiceSettings()


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.json")


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback(peer: str) -> None:
    assert is_loopback(peer)


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "localhost", "", None, "0.0.0.0", "127.0.0.1:80"])  # noqa: S104
def test_not_loopback(peer: str | None) -> None:
    assert not is_loopback(peer)


def test_loopback_needs_no_token_by_default(tokens: Tokens) -> None:
    caller = identify(tokens, SETTINGS, bearer=None, peer="127.0.0.1", door="http")

    assert (caller.user, caller.grants.everything, caller.door) == ("anonymous", True, "http")


@pytest.mark.parametrize(
    ("anonymous", "peer"), [("loopback", "10.0.0.1"), ("loopback", None), ("never", "127.0.0.1"), ("never", None)]
)
def test_others_need_one(tokens: Tokens, anonymous: str, peer: str | None) -> None:
    with pytest.raises(UnauthenticatedError, match="wants an access token"):
        identify(tokens, replace(SETTINGS, anonymous=anonymous), bearer=None, peer=peer, door="http")


def test_nobody_needs_one_when_the_operator_says_so(tokens: Tokens) -> None:
    caller = identify(tokens, replace(SETTINGS, anonymous="always"), bearer=None, peer="10.0.0.1", door="flight")

    assert caller.user == "anonymous"


@pytest.mark.parametrize("anonymous", ["loopback", "never", "always"])
def test_a_wrong_token_is_never_taken_for_none(tokens: Tokens, anonymous: str) -> None:
    with pytest.raises(UnauthenticatedError):
        identify(tokens, replace(SETTINGS, anonymous=anonymous), bearer="", peer="127.0.0.1", door="http")


def test_a_token_names_its_user_and_grants(tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat"])

    caller = identify(tokens, SETTINGS, bearer=secret, peer="127.0.0.1", door="http")

    assert (caller.user, caller.grants) == ("ann", Grants.parse(["uat"]))
    assert caller.owner == tokens.list()[0].id


def test_a_damaged_file_lets_no_token_in_and_tells_no_path(tokens: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    secret = tokens.create("ann", ["uat"])
    tokens.path.write_text("{")

    with pytest.raises(ServiceUnavailableError) as caught:
        identify(tokens, SETTINGS, bearer=secret, peer="127.0.0.1", door="http")

    assert str(tokens.path) not in str(caught.value)
    assert str(tokens.path) in caplog.text

"""Who needs a token, and whom a request without one stands for."""

from dataclasses import replace

import pytest

from dagfusion_client.errors import ServiceUnavailableError, UnauthenticatedError
from dagfusion_client.loopback import is_loopback
from dagfusion_query.access.authentication import Tokens, check, identify, is_forwarded
from dagfusion_query.access.grants import Grants
from dagfusion_query.service_settings import ANONYMOUS_CHOICES, ServiceSettings

SETTINGS = ServiceSettings()


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback(peer: str) -> None:
    assert is_loopback(peer)


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1", "localhost", "", None, "0.0.0.0", "127.0.0.1:80"])  # noqa: S104
def test_not_loopback(peer: str | None) -> None:
    assert not is_loopback(peer)


def test_loopback_needs_no_token_while_there_is_none(tokens: Tokens) -> None:
    caller = identify(tokens, SETTINGS, bearer=None, peer="127.0.0.1", door="http")

    assert (caller.user, caller.grants.everything, caller.door) == ("anonymous", True, "http")
    check(tokens, SETTINGS, caller)


def test_the_first_token_ends_that_also_for_those_who_were_let_in(tokens: Tokens) -> None:
    caller = identify(tokens, SETTINGS, bearer=None, peer="127.0.0.1", door="http")
    tokens.create("ann", ["uat"])
    tokens.revoke("ann")

    for ask in (
        lambda: identify(tokens, SETTINGS, bearer=None, peer="127.0.0.1", door="http"),
        lambda: check(tokens, SETTINGS, caller),
        lambda: check(tokens, replace(SETTINGS, anonymous="never"), caller),
    ):
        with pytest.raises(UnauthenticatedError, match="requires an access token"):
            ask()
    for choice in ("loopback", "always"):
        check(tokens, replace(SETTINGS, anonymous=choice), caller)


def test_an_internal_token_lets_in_and_does_not_end_that(tokens: Tokens) -> None:
    secret = tokens.create("sail", ["*"], is_internal=True)
    caller = identify(tokens, SETTINGS, bearer=None, peer="127.0.0.1", door="http")
    check(tokens, SETTINGS, caller)
    assert identify(tokens, SETTINGS, bearer=secret, peer=None, door="http").user == "sail"
    tokens.create("ann", ["uat"])
    with pytest.raises(UnauthenticatedError, match="requires an access token"):
        check(tokens, SETTINGS, caller)


def test_a_token_is_checked_whatever_the_choice(tokens: Tokens) -> None:
    caller = identify(tokens, SETTINGS, bearer=tokens.create("ann", ["uat"]), peer=None, door="http")
    for choice in ANONYMOUS_CHOICES:
        check(tokens, replace(SETTINGS, anonymous=choice), caller)
    tokens.revoke("ann")
    for choice in ANONYMOUS_CHOICES:
        with pytest.raises(UnauthenticatedError, match="was revoked"):
            check(tokens, replace(SETTINGS, anonymous=choice), caller)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("forwarded", True), ("x-forwarded-port", True), ("cf-ray", True), ("x-request-id", False), ("accept", False)],
)
def test_headers_that_proxies_add(name: str, expected: bool) -> None:  # noqa: FBT001  # as parametrized
    assert is_forwarded(["host", name]) is expected


@pytest.mark.parametrize(
    ("anonymous", "peer"),
    [
        ("auto", "10.0.0.1"),
        ("auto", None),
        ("loopback", "10.0.0.1"),
        ("loopback", None),
        ("never", "127.0.0.1"),
        ("never", None),
    ],
)
def test_others_need_one(tokens: Tokens, anonymous: str, peer: str | None) -> None:
    with pytest.raises(UnauthenticatedError, match="requires an access token"):
        identify(tokens, replace(SETTINGS, anonymous=anonymous), bearer=None, peer=peer, door="http")


def test_nobody_needs_one_when_the_operator_says_so(tokens: Tokens) -> None:
    caller = identify(tokens, replace(SETTINGS, anonymous="always"), bearer=None, peer="10.0.0.1", door="flight")

    assert caller.user == "anonymous"


@pytest.mark.parametrize("anonymous", ANONYMOUS_CHOICES)
def test_a_wrong_token_is_never_taken_for_none(tokens: Tokens, anonymous: str) -> None:
    with pytest.raises(UnauthenticatedError):
        identify(tokens, replace(SETTINGS, anonymous=anonymous), bearer="", peer="127.0.0.1", door="http")


def test_a_token_names_its_user_and_grants(tokens: Tokens) -> None:
    secret = tokens.create("ann", ["uat"])

    caller = identify(tokens, SETTINGS, bearer=secret, peer="127.0.0.1", door="http")

    assert (caller.user, caller.grants) == ("ann", Grants.parse(["uat"]))
    assert caller.owner == tokens.list()[0].id


def test_a_damaged_file_lets_nobody_in_and_tells_no_path(tokens: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    secret = tokens.create("ann", ["uat"])
    tokens.path.write_text("{")

    for bearer in (secret, None):
        with pytest.raises(ServiceUnavailableError) as caught:
            identify(tokens, SETTINGS, bearer=bearer, peer="127.0.0.1", door="http")

        assert str(tokens.path) not in str(caught.value)
    assert str(tokens.path) in caplog.text

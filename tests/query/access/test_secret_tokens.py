"""Access tokens in a secret: what a file of tokens says, for services that share none."""

import contextlib
from pathlib import Path

import pytest

from dagfusion_client.errors import SettingsError, UnauthenticatedError
from dagfusion_contract.secret_reference import SecretReference, SecretValues
from dagfusion_query.access.authentication import Tokens
from dagfusion_query.access.secret_tokens import SecretTokens, open_tokens
from dagfusion_query.config import read_tokens_file

REFERENCE = SecretReference("tokens")


class Client:
    text = ""

    def get_secret_value(self, **_: str) -> dict[str, str]:
        if not self.text:
            raise ConnectionError
        return {"SecretString": self.text}


@pytest.fixture
def file(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.json")


def test_tokens_of_a_secret_are_accepted_and_refused_once_revoked(file: Tokens) -> None:
    secret = file.create("ann", ["uat"])
    client, now_s = Client(), [0.0]
    client.text = file.path.read_text()
    tokens = SecretTokens(REFERENCE, SecretValues(lambda _: client, lambda: now_s[0]), lambda: now_s[0])
    assert tokens.authenticate(secret).name == "ann"
    assert tokens.exist()
    file.revoke("ann")
    client.text = file.path.read_text()
    assert tokens.authenticate(secret).name == "ann"
    now_s[0] = 11.0
    with contextlib.suppress(UnauthenticatedError):
        tokens.authenticate(secret)  # starts to read it again
    with tokens._reading, pytest.raises(UnauthenticatedError, match="was revoked"):
        tokens.authenticate(secret)


def test_a_look_does_not_wait_for_an_outage_and_a_long_one_is_told(file: Tokens) -> None:
    secret = file.create("ann", ["uat"])
    client, now_s = Client(), [0.0]
    client.text = file.path.read_text()
    tokens = SecretTokens(REFERENCE, SecretValues(lambda _: client, lambda: now_s[0]), lambda: now_s[0])
    tokens.authenticate(secret)
    client.text = ""
    for now_s[0], is_accepted in ((60.0, True), (2000.0, False), (2020.0, False)):
        with contextlib.suppress(SettingsError):
            tokens.authenticate(secret)
        with tokens._reading, contextlib.ExitStack() as expected:
            if not is_accepted:
                expected.enter_context(pytest.raises(SettingsError, match="cannot be read"))
            assert tokens.authenticate(secret).name == "ann"


def test_a_secret_is_changed_elsewhere() -> None:
    tokens = SecretTokens(REFERENCE, SecretValues(lambda _: Client()))
    with pytest.raises(SettingsError, match=r"in secretsmanager://tokens, which this command does not change"):
        tokens.create("ann", ["uat"])
    with pytest.raises(SettingsError, match="does not change"):
        tokens.revoke("ann")


def test_a_secret_that_cannot_be_used_is_told_without_its_text() -> None:
    client = Client()
    with pytest.raises(SettingsError, match=r"secretsmanager://tokens cannot be read"):
        SecretTokens(REFERENCE, SecretValues(lambda _: client)).list()
    client.text = "hidden-text"
    tokens = SecretTokens(REFERENCE, SecretValues(lambda _: client))
    with pytest.raises(SettingsError, match=r"secretsmanager://tokens is damaged") as raised:
        tokens.list()
    assert "hidden-text" not in str(raised.value)


def test_the_setting_chooses(tmp_path: Path) -> None:
    toml = tmp_path / "dagfusion.toml"
    toml.write_text('[service]\ntokens = "secretsmanager://tokens"\n')
    assert read_tokens_file({}, file=toml) == REFERENCE
    assert isinstance(open_tokens(read_tokens_file({"DAGFUSION_TOKENS": "secretsmanager://tokens"})), SecretTokens)
    assert type(open_tokens(read_tokens_file({"DAGFUSION_TOKENS": "tokens.json"}))) is Tokens

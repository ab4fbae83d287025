"""References to secrets, and what is kept of their values, over a client that a test answers for."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_contract.errors import ContractError, SecretError, SecretReferenceError
from dagfusion_contract.secret_reference import SCHEME, SecretReference, SecretValues

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), min_size=1)
ARN = "arn:aws:secretsmanager:us-east-2:123456789012:secret:prod/dagfusion-AbCdEf"
LONG_TEXT = st.text(min_size=12)


class Client:
    """Secrets Manager, as far as boto3's `get_secret_value` goes."""

    def __init__(self, **secrets: str) -> None:
        self.secrets: dict[str, Any] = secrets
        self.pending: dict[str, str] = {}
        self.calls = 0

    def get_secret_value(self, *, SecretId: str, VersionStage: str) -> dict[str, Any]:  # noqa: N803  # as boto3 has them
        self.calls += 1
        return {"SecretString": (self.pending if VersionStage == "AWSPENDING" else self.secrets)[SecretId]}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def values(client: Client, clock: Clock | None = None) -> SecretValues:
    return SecretValues(lambda _: client, clock or Clock())


@given(NAMES, st.none() | NAMES)
def test_a_reference_is_read_as_it_is_written(name: str, key: str | None) -> None:
    reference = SecretReference(name, key)
    assert SecretReference.parse(str(reference)) == reference


@pytest.mark.parametrize("text", [None, "", "secret", "postgresql://a@b/c", "SecretsManager://x"])
def test_other_texts_are_values(text: str | None) -> None:
    assert SecretReference.parse(text) is None
    assert values(Client()).resolved(text) == text


@pytest.mark.parametrize("rest", ["", "#", "#key", "name#", "a b#key", " "])
def test_what_begins_as_a_reference_must_be_one(rest: str) -> None:
    with pytest.raises(SecretReferenceError, match="must be secretsmanager://name or secretsmanager://name#key"):
        SecretReference.parse(SCHEME + rest)


def test_an_arn_has_its_region() -> None:
    asked: list[str | None] = []

    def client_for(region: str | None) -> Client:
        asked.append(region)
        return Client(**{ARN: "one", "name": "two"})

    secrets = SecretValues(client_for)
    assert [secrets.resolved(f"{SCHEME}{name}", "eu-west-1") for name in (ARN, "name")] == ["one", "two"]
    assert asked == ["us-east-2", "eu-west-1"]


def test_a_key_is_one_of_the_json_object() -> None:
    secrets = values(Client(db=json.dumps({"password": "p w", "port": 5432})))
    assert secrets.resolved("secretsmanager://db#password") == "p w"
    assert secrets.resolved("secretsmanager://db#port") == "5432"


@given(LONG_TEXT, st.sampled_from(["plain", "list", "null", "number", "empty", "other", "object"]))
def test_no_error_shows_the_secret(secret: str, kind: str) -> None:
    texts = {
        "plain": f"x{secret}",
        "list": json.dumps([secret]),
        "null": json.dumps({"key": None, "other": secret}),
        "number": json.dumps({"key": [1, secret]}),
        "empty": json.dumps({"key": "", "other": secret}),
        "other": json.dumps({"other": secret}),
        "object": json.dumps({"key": {"inner": secret}}),
    }
    with pytest.raises(SecretError, match=r"secretsmanager://db#key has no value") as raised:
        values(Client(db=texts[kind])).resolved("secretsmanager://db#key")
    with pytest.raises(SecretError) as usual:
        values(Client(db="{}")).resolved("secretsmanager://db#key")
    # A secret may be a part of the words that every such error has.
    assert secret not in str(raised.value) or secret in str(usual.value)
    assert raised.value.__cause__ is None


def test_a_value_is_kept_for_a_minute_and_read_again() -> None:
    client, clock = Client(db="first"), Clock()
    secrets = values(client, clock)
    assert [secrets.resolved("secretsmanager://db") for _ in range(3)] == ["first"] * 3
    client.secrets["db"] = "second"
    clock.now_s = 59
    assert (secrets.resolved("secretsmanager://db"), client.calls) == ("first", 1)
    clock.now_s = 61
    assert (secrets.resolved("secretsmanager://db"), client.calls) == ("second", 2)
    assert secrets.returned == {"first", "second"}


def test_a_value_outlives_a_short_outage_only() -> None:
    client, clock = Client(db="first"), Clock()
    secrets = values(client, clock)
    secrets.resolved("secretsmanager://db")
    del client.secrets["db"]
    clock.now_s = 600
    assert secrets.resolved("secretsmanager://db") == "first"
    with pytest.raises(SecretError, match=r"the secret secretsmanager://db cannot be read .* \(KeyError\)"):
        secrets.value(SecretReference("db"), max_age_s=0)
    clock.now_s = 1000
    with pytest.raises(SecretError):
        secrets.resolved("secretsmanager://db")


def test_the_code_of_the_service_is_in_the_error() -> None:
    class DeniedError(Exception):
        response = {"Error": {"Code": "AccessDeniedException"}}  # noqa: RUF012  # as botocore has it

    class Refusing(Client):
        def get_secret_value(self, **_: str) -> dict[str, Any]:
            raise DeniedError

    with pytest.raises(
        ContractError, match=r"\(AccessDeniedException\): check its name, the region, and that the role"
    ):
        values(Refusing()).resolved("secretsmanager://db")


def test_the_pending_value_is_that_of_a_rotation() -> None:
    client = Client(db="first")
    secrets = values(client)
    assert secrets.pending(SecretReference("db")) is None
    client.pending["db"] = "next"
    assert secrets.pending(SecretReference("db")) == "next"
    assert secrets.resolved("secretsmanager://db") == "first"


def test_a_binary_secret_is_told() -> None:
    client = Client()
    client.secrets["db"] = None
    with pytest.raises(SecretError, match="is binary: store text in it"):
        values(client).resolved("secretsmanager://db")

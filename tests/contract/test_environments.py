"""The pipeline, the query side and the stack accept the same settings, and refuse others with the same message."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dagfusion_client.errors import SettingsError
from dagfusion_contract.environments import DEFAULTS, ENVIRONMENTS, default_region
from dagfusion_pipeline.environment import Environment
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_query.service_settings import EnvironmentSettings
from dagfusion_query.settings import Settings
from dagfusion_stack.errors import SettingError
from dagfusion_stack.settings import Settings as StackSettings

ERRORS = (ConfigurationError, SettingsError, SettingError)
SECRET = "do-not-show"
KEYS = {"AWS_ACCESS_KEY_ID": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET}
ELSEWHERE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:8333"}
BUCKETS = (
    ("lake", "lake.uat-2", "a" * 63),
    (
        *(
            "ab",
            "Upper",
            "under_score",
            "a..b",
            "-ab",
            "ab-",
            "a" * 64,
            "a" * 5000,
            "a b",
            "a\nb",
            "s3://lake",
            "me@b.c",
        ),
    ),
)
SERVERS = (
    ("http://127.0.0.1:8333", "https://[::1]:9000", "https://s3.example", "http://store/base/"),
    (
        *(
            "s3://x",
            "localhost:8333",
            "http://",
            "http://[",
            "http://h:99999",
            "http://h:0",
            "http://h?q",
            "http://a b",
        ),
        f"http://user:{SECRET}@host:8333",
    ),
)


def of_query(variables: Mapping[str, str]) -> Settings:
    """The settings of the plain variables, without a local stack."""
    return Settings.read({"DAGFUSION_HOME": "/nonexistent", **variables})


def of_environment(variables: Mapping[str, str]) -> EnvironmentSettings:
    """The settings of one of several environments, whose keys are these variables in lower case."""
    keys = {name.lower(): value for name, value in variables.items()}
    return EnvironmentSettings.read("uat", keys)


STORES: Mapping[str, Callable[[Mapping[str, str]], Any]] = {
    "pipeline": Environment.read,
    "query": of_query,
    "one of several": of_environment,
}
WITH_BUCKETS = {"pipeline": Environment.read, "one of several": of_environment, "stack": StackSettings.read}


def outcomes(readers: Mapping[str, Callable[[Mapping[str, str]], Any]], variables: Mapping[str, str]) -> set[str]:
    """Return the messages of all readers, as if each had read variables; "" if one accepts them."""
    found = set()
    for read in readers.values():
        try:
            read(variables)
            found.add("")
        except ERRORS as error:
            text = str(error).removeprefix("environment uat: ")
            for name in (*variables, *KEYS):
                text = text.replace(name.lower(), name)
            found.add(text)
    return found


@pytest.mark.parametrize("bucket", BUCKETS[0])
def test_all_accept_the_same_buckets(bucket: str) -> None:
    assert outcomes(WITH_BUCKETS, {"S3_BUCKET": bucket}) == {""}
    assert StackSettings.read({"S3_BUCKET": bucket}).bucket == Environment.read({"S3_BUCKET": bucket}).bucket == bucket


@pytest.mark.parametrize("bucket", BUCKETS[1])
def test_all_refuse_the_same_buckets(bucket: str) -> None:
    (message,) = outcomes(WITH_BUCKETS, {"S3_BUCKET": bucket})
    assert message.startswith("S3_BUCKET must be a bucket name (3 to 63 lower-case letters, digits, dots and hyphens)")
    assert len(message.splitlines()) == 1
    assert len(message) < 200


@pytest.mark.parametrize("server", SERVERS[0])
def test_all_accept_the_same_servers(server: str) -> None:
    assert outcomes(STORES, {"AWS_ENDPOINT_URL": server}) == {""}


@pytest.mark.parametrize("server", SERVERS[1])
def test_all_refuse_the_same_servers(server: str) -> None:
    (message,) = outcomes(STORES, {"AWS_ENDPOINT_URL": server})
    shown = "" if "@" in server else f", got {server!r}"
    assert message == f"AWS_ENDPOINT_URL must be a URL such as http://127.0.0.1:8333, without a user or password{shown}"


@pytest.mark.parametrize(
    ("region", "of_aws", "of_others"),
    [
        *((region, True, True) for region in ("us-east-2", "us-gov-west-1", "eu-central-1")),
        *((region, False, True) for region in ("auto", "fr-par", "RegionOne", "us-east", "useast1", "US-EAST-1", "x")),
        *((region, False, False) for region in ("us-east-2 ", "x\ny", "-a", "a-", "ü", "a.b")),
    ],
)
def test_all_accept_the_same_regions(region: str, *, of_aws: bool, of_others: bool) -> None:
    message = f"AWS_REGION must be a region such as us-east-2, got {region!r}"
    assert outcomes(STORES, {"AWS_REGION": region}) == {"" if of_aws else message}
    assert outcomes(STORES, {"AWS_REGION": region, **ELSEWHERE}) == {"" if of_others else message}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, ""),
        (KEYS, ""),
        ({**KEYS, "AWS_SESSION_TOKEN": SECRET}, ""),
        *(
            ({name: SECRET}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together, got only one")
            for name in KEYS
        ),
        (
            {"AWS_SESSION_TOKEN": SECRET},
            (
                "AWS_SESSION_TOKEN is of a temporary access key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY too,"
                " or none of the three to use AWS's default chain"
            ),
        ),
    ],
)
def test_all_accept_the_same_keys(variables: dict[str, str], message: str) -> None:
    assert outcomes(STORES, variables) == {message}


@pytest.mark.parametrize("name", ["local", "uat", "prod", "PROD", "test", "x" * 5000])
def test_both_sides_accept_the_same_environments(name: str) -> None:
    variables = {"ENVIRONMENT": name, "UAT_S3_BUCKET": "lake-uat", "PROD_S3_BUCKET": "lake-prod"}
    (message,) = outcomes({"pipeline": Environment.read, "query": of_query}, variables)
    assert message.startswith("ENVIRONMENT must be one of local, uat, prod, got '") == (name not in ENVIRONMENTS)
    assert len(message) < 200


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_defaults_are_the_same(name: str) -> None:
    variables = {"ENVIRONMENT": name, "UAT_S3_BUCKET": "lake-uat", "PROD_S3_BUCKET": "lake-prod"}
    environment = Environment.read(variables)
    assert environment.region == of_query(variables).region == default_region(name) == DEFAULTS[name].region
    assert environment.bucket == (DEFAULTS[name].bucket or f"lake-{name}")
    assert StackSettings.read({}).bucket == DEFAULTS["local"].bucket

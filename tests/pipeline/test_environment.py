import pytest

from dagfusion_pipeline.environment import Credentials, Environment
from dagfusion_pipeline.errors import ConfigurationError

SECRET = "wJalrXUtnFEMI-do-not-show"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA-do-not-show", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Environment("local", "dagster-parquet-data", "us-east-1")),
        (
            {"ENVIRONMENT": "", "S3_BUCKET": "", "AWS_ENDPOINT_URL": ""},
            Environment("local", "dagster-parquet-data", "us-east-1"),
        ),
        ({"S3_BUCKET": "mine"}, Environment("local", "mine", "us-east-1")),
        ({"ENVIRONMENT": "uat", "UAT_S3_BUCKET": "u-bucket"}, Environment("uat", "u-bucket", "us-east-2")),
        (
            {"ENVIRONMENT": "uat", "UAT_S3_BUCKET": "u-bucket", "PROD_S3_BUCKET": "p-bucket", "S3_BUCKET": "l-bucket"},
            Environment("uat", "u-bucket", "us-east-2"),
        ),
        (
            {"ENVIRONMENT": "prod", "PROD_S3_BUCKET": "p.bucket", "AWS_REGION": "us-gov-west-1"},
            Environment("prod", "p.bucket", "us-gov-west-1"),
        ),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:8333/", "S3_PREFIX": "a/b_c"},
            Environment("local", "dagster-parquet-data", "us-east-1", "a/b_c", "http://127.0.0.1:8333"),
        ),
        (
            {"DAGFUSION_CONSOLE_URL": "https://sql.example/", "DAGFUSION_OBJECT_URL": "https://s3.example/{key}"},
            Environment(
                "local",
                "dagster-parquet-data",
                "us-east-1",
                console_url="https://sql.example/",
                object_url="https://s3.example/{key}",
            ),
        ),
        (
            {"AWS_ENDPOINT_URL": "https://[::1]:9000"},
            Environment("local", "dagster-parquet-data", "us-east-1", endpoint_url="https://[::1]:9000"),
        ),
        (
            {**KEYS, "AWS_SESSION_TOKEN": "t"},
            Environment(
                "local", "dagster-parquet-data", "us-east-1", credentials=Credentials("AKIA-do-not-show", SECRET, "t")
            ),
        ),
    ],
)
def test_settings_become_an_environment(settings: dict[str, str], expected: Environment) -> None:
    assert Environment.read(settings) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ENVIRONMENT": "PROD"}, "ENVIRONMENT must be one of local, uat, prod, got 'PROD'"),
        (
            {"ENVIRONMENT": "uat", "S3_BUCKET": "other"},
            "UAT_S3_BUCKET is required when ENVIRONMENT=uat: set it to the name of the bucket; it is not set",
        ),
        (
            {"ENVIRONMENT": "prod", "PROD_S3_BUCKET": ""},
            "PROD_S3_BUCKET is required when ENVIRONMENT=prod: set it to the name of the bucket; it is not set",
        ),
        (
            {"S3_BUCKET": "s3://mine"},
            "S3_BUCKET must be a bucket name (3 to 63 lower-case letters, digits, dots and hyphens), got 's3://mine'",
        ),
        ({"AWS_REGION": "us-east-2 "}, "AWS_REGION must be a region such as us-east-2, got 'us-east-2 '"),
        ({"AWS_REGION": "x\ny"}, "AWS_REGION must be a region such as us-east-2, got 'x\\ny'"),
        (
            {"AWS_ENDPOINT_URL": "localhost:8333"},
            (
                "AWS_ENDPOINT_URL must be a URL such as http://127.0.0.1:8333, without a user or password,"
                " got 'localhost:8333'"
            ),
        ),
        (
            {"DAGFUSION_MAINTENANCE_TAGS": "[1]"},
            'DAGFUSION_MAINTENANCE_TAGS must be a JSON object of tags such as {"team": "data"}, got \'[1]\'',
        ),
        (
            {"DAGFUSION_CONSOLE_URL": "8080"},
            "DAGFUSION_CONSOLE_URL must be a URL such as http://localhost:8080, without a user or password, got '8080'",
        ),
        ({"S3_PREFIX": "a/../b"}, "S3_PREFIX must be folder names joined by slashes, got 'a/../b'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Environment.read(settings)
    assert str(raised.value) == message


@pytest.mark.parametrize("value", ["/a", "a/", "a//b", ".", "a/."])
def test_a_prefix_has_no_empty_folder_and_no_dots(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^S3_PREFIX must be [^\n]*, got [^\n]*$"):
        Environment.read({"S3_PREFIX": value})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"AWS_ACCESS_KEY_ID": SECRET}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": SECRET}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SESSION_TOKEN": SECRET}, "AWS_SESSION_TOKEN"),
        ({"AWS_ENDPOINT_URL": f"http://user:{SECRET}@host:8333"}, "AWS_ENDPOINT_URL"),
    ],
)
def test_no_error_holds_a_secret(settings: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Environment.read(settings)
    text = str(raised.value)
    assert text.startswith(named)
    assert "\n" not in text
    assert SECRET not in text


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ConfigurationError) as raised:
        Environment.read({"ENVIRONMENT": "x" * 10_000})
    assert len(str(raised.value)) < 200


def test_no_representation_holds_a_secret() -> None:
    environment = Environment.read({**KEYS, "AWS_SESSION_TOKEN": "token-do-not-show"})
    for text in (repr(environment), str(environment), f"{environment.credentials}"):
        assert "do-not-show" not in text


def test_fields_of_the_io_managers() -> None:
    assert Environment.read({}).io_manager_fields() == {
        "environment": "local",
        "bucket": "dagster-parquet-data",
        "prefix": "datafusion_test",
        "region": "us-east-1",
    }
    fields = Environment.read({**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}).io_manager_fields()
    assert fields["secret_access_key"] == SECRET
    assert fields["endpoint_url"] == "http://127.0.0.1:1"
    assert "session_token" not in fields


def test_the_process_is_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "uat")
    monkeypatch.setenv("UAT_S3_BUCKET", "of-the-process")
    assert Environment.from_process().bucket == "of-the-process"

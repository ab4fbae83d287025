"""Clients of AWS: their limits, their region and their keys."""

from pathlib import Path

import pytest

from dagfusion_contract.aws_client import aws_client
from dagfusion_contract.errors import RegionError

pytestmark = pytest.mark.usefixtures("heavy")


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_a_client_gives_up_soon() -> None:
    config = aws_client("secretsmanager", "eu-west-1").meta.config
    assert (config.connect_timeout, config.read_timeout, config.retries["total_max_attempts"]) == (3, 5, 2)


def test_the_region_is_the_argument_or_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RegionError, match="AWS's s3 needs a region: set AWS_REGION"):
        aws_client("s3")
    monkeypatch.setenv("AWS_REGION", "us-east-2")
    assert aws_client("s3").meta.region_name == "us-east-2"
    assert aws_client("s3", "eu-west-1").meta.region_name == "eu-west-1"


def test_a_reference_in_the_environment_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    assert aws_client("s3", "eu-west-1")._request_signer._credentials is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "secretsmanager://lake#id")
    assert aws_client("s3", "eu-west-1")._request_signer._credentials is None

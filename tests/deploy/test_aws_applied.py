"""`storage-and-roles.yaml` in LocalStack: created by CloudFormation, and looked at through S3, IAM and STS.

LocalStack's CloudFormation leaves out a bucket's encryption and lifecycle. The test applies those of the template
through the S3 API, which checks them. LocalStack stores the bucket policy and does not enforce it.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
from testcontainers.community.localstack import LocalStackContainer

from tests.deploy.templates import Resolver, resources, template
from tests.deploy.test_aws_roles import BUCKET, KEYS, ROLES, VALUES, policies_of
from tests.e2e.services import LOCALSTACK_IMAGE, Containers

Client = Callable[[str], Any]
pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def client(processes: None) -> Iterator[Client]:  # noqa: ARG001  # the container is one
    if (reason := Containers().missing()) is not None:
        if os.environ.get("DAGFUSION_REQUIRE_CONTAINERS"):
            pytest.fail(f"{reason}, and DAGFUSION_REQUIRE_CONTAINERS asks for one")
        pytest.skip(reason)
    image = os.environ.get("DAGFUSION_LOCALSTACK_IMAGE", LOCALSTACK_IMAGE)
    container = LocalStackContainer(image, region_name="us-east-2").with_services("s3", "iam", "sts", "cloudformation")
    with warnings.catch_warnings():  # LocalStackContainer waits by a function that testcontainers deprecates
        warnings.filterwarnings("ignore", "The wait_for_logs function", DeprecationWarning)
        container.start()
    with contextlib.ExitStack() as stack:
        stack.callback(container.stop)

        def client(service: str) -> Any:
            made = boto3.client(
                service,
                endpoint_url=container.get_url(),
                region_name="us-east-2",
                aws_access_key_id="test",
                aws_secret_access_key="test",
            )
            stack.callback(made.close)
            return made

        yield client


@pytest.fixture(scope="module")
def stack(root: Path, client: Client) -> Mapping[str, str]:
    """The outputs of the stack."""
    formation = client("cloudformation")
    formation.create_stack(
        StackName="dagfusion-uat",
        TemplateBody=(root / "deploy/aws/storage-and-roles.yaml").read_text(),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in VALUES.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    formation.get_waiter("stack_create_complete").wait(
        StackName="dagfusion-uat", WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    [described] = formation.describe_stacks(StackName="dagfusion-uat")["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}


def test_the_bucket_is_private_and_versioned(client: Client, stack: Mapping[str, str]) -> None:
    assert stack["BucketName"] == BUCKET
    s3 = client("s3")
    block = s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert block == dict.fromkeys(block, True)
    assert len(block) == 4
    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    [statement] = json.loads(s3.get_bucket_policy(Bucket=BUCKET)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_s3_accepts_the_encryption_and_the_lifecycle_of_the_template(
    root: Path, client: Client, stack: Mapping[str, str]
) -> None:
    document = template(root / "deploy/aws/storage-and-roles.yaml")
    bucket = Resolver(document, VALUES)(resources(document, "AWS::S3::Bucket")["Bucket"])
    s3 = client("s3")
    [encryption] = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    rules = [{"ApplyServerSideEncryptionByDefault": encryption["ServerSideEncryptionByDefault"]}]
    s3.put_bucket_encryption(Bucket=stack["BucketName"], ServerSideEncryptionConfiguration={"Rules": rules})
    lifecycle = {"Rules": [as_s3(rule) for rule in bucket["LifecycleConfiguration"]["Rules"]]}
    s3.put_bucket_lifecycle_configuration(Bucket=stack["BucketName"], LifecycleConfiguration=lifecycle)
    kept = s3.get_bucket_lifecycle_configuration(Bucket=stack["BucketName"])["Rules"]
    assert kept == lifecycle["Rules"]
    s3.put_object(Bucket=BUCKET, Key=KEYS["table"], Body=b"PAR1")
    assert s3.head_object(Bucket=BUCKET, Key=KEYS["table"])["ServerSideEncryption"] == "AES256"


def as_s3(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a lifecycle rule of CloudFormation in the words of the S3 API."""
    named = {"ID": rule["Id"], "Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Transitions" in rule:
        named["Transitions"] = [
            {"Days": int(t["TransitionInDays"]), "StorageClass": t["StorageClass"]} for t in rule["Transitions"]
        ]
    if "ExpirationInDays" in rule:
        named["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    kept = ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    return named | {key: rule[key] for key in kept if key in rule}


@pytest.mark.parametrize("role", ROLES)
def test_iam_has_the_policies_of_the_template(root: Path, client: Client, stack: Mapping[str, str], role: str) -> None:
    document = template(root / "deploy/aws/storage-and-roles.yaml")
    iam = client("iam")
    name = stack[f"{role}Arn"].rpartition("/")[2]
    [policy] = iam.list_role_policies(RoleName=name)["PolicyNames"]
    kept = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
    account = client("sts").get_caller_identity()["Account"]
    assert [kept] == policies_of(document, Resolver(document, {**VALUES, "AWS::AccountId": account}))[role]

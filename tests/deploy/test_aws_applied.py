"""The templates in LocalStack: created by CloudFormation, and looked at through the APIs of what they create.

LocalStack's CloudFormation leaves out a bucket's encryption and lifecycle, dashboards, and how long logs are kept. The
tests apply the first three through the APIs of S3 and CloudWatch. LocalStack stores the bucket policy and does not
enforce it. It has no RDS, ECS and load balancers without an account: of `services.yaml` it creates secrets, roles and
groups of logs.
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

from tests.deploy import cloudwatch
from tests.deploy.templates import Resolver, resources, template
from tests.deploy.test_aws_roles import BUCKET, KEYS, ROLES, VALUES, policies_of
from tests.e2e.services import LOCALSTACK_IMAGE, Containers
from tests.waiting import eventually

Client = Callable[[str], Any]
SERVICES = ("s3", "iam", "sts", "cloudformation", "cloudwatch", "sns", "secretsmanager", "logs")
EMAIL = "ops@example.com"
CREATED = ("AWS::SecretsManager::Secret", "AWS::Logs::LogGroup", "AWS::IAM::Role")  # of services.yaml
pytestmark = [pytest.mark.containers, pytest.mark.usefixtures("heavy")]  # reads the templates with cfn-lint


@pytest.fixture(scope="module")
def client(processes: None) -> Iterator[Client]:  # noqa: ARG001  # the container is one
    if (reason := Containers().missing()) is not None:
        if os.environ.get("DAGFUSION_REQUIRE_CONTAINERS"):
            pytest.fail(f"{reason}, and DAGFUSION_REQUIRE_CONTAINERS asks for one")
        pytest.skip(reason)
    image = os.environ.get("DAGFUSION_LOCALSTACK_IMAGE", LOCALSTACK_IMAGE)
    container = LocalStackContainer(image, region_name="us-east-2").with_services(*SERVICES)
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


def create(client: Client, name: str, text: str, values: Mapping[str, str]) -> Mapping[str, str]:
    """Create a stack, and return its outputs."""
    formation = client("cloudformation")
    formation.create_stack(
        StackName=name,
        TemplateBody=text,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in values.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    formation.get_waiter("stack_create_complete").wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    [described] = formation.describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", ())}


@pytest.fixture(scope="module")
def stack(root: Path, client: Client) -> Mapping[str, str]:
    """The outputs of the stack of the bucket and its roles."""
    return create(client, "dagfusion-uat", (root / "deploy/aws/storage-and-roles.yaml").read_text(), VALUES)


@pytest.fixture(scope="module")
def services(root: Path, client: Client) -> Mapping[str, Any]:
    """What LocalStack can create of the stack of Dagster and the query service, with the exports of all of it."""
    document = template(root / "deploy/aws/services.yaml")
    kept = {
        name: resource
        for name, resource in document["Resources"].items()
        if resource["Type"] in CREATED and name != "LauncherRole"  # it names the cluster
    }
    stub = {name: {"Value": name, "Export": {"Name": f"services-{name}"}} for name in cloudwatch.EXPORTS}
    part = {"Parameters": {"Environment": {"Type": "String"}}, "Resources": kept, "Outputs": stub}
    create(client, "services", json.dumps(part), {"Environment": "uat"})
    return kept


@pytest.fixture(scope="module")
def alarms(root: Path, client: Client, services: Mapping[str, Any]) -> Mapping[str, Any]:
    """The alarms of CloudWatch, by their logical names."""
    assert services
    text, values = (
        (root / "deploy/aws/monitoring.yaml").read_text(),
        {**cloudwatch.VALUES, "AlarmEmail": "ops@example.com"},
    )
    create(client, "monitoring", text, values)
    found = client("cloudwatch").describe_alarms()["MetricAlarms"]
    return {alarm["AlarmName"].removeprefix("monitoring-").rpartition("-")[0]: alarm for alarm in found}


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


def test_cloudwatch_has_the_alarms_of_the_template(root: Path, alarms: Mapping[str, Any]) -> None:
    wanted = cloudwatch.alarms(root)
    assert len(wanted) > 8
    assert alarms.keys() == wanted.keys()
    for name, alarm in wanted.items():
        for field in ("Namespace", "MetricName", "Statistic", "ExtendedStatistic", "Period", "ComparisonOperator"):
            assert alarms[name].get(field) == alarm.get(field), (name, field)
        assert alarms[name]["Threshold"] == alarm["Threshold"]
        assert alarms[name]["Dimensions"] == alarm.get("Dimensions", [])
        assert [one["Id"] for one in alarms[name].get("Metrics", ())] == [one["Id"] for one in alarm.get("Metrics", ())]


def test_alarms_are_mailed(client: Client, alarms: Mapping[str, Any]) -> None:
    [subscription] = client("sns").list_subscriptions()["Subscriptions"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", EMAIL)
    assert {action for alarm in alarms.values() for action in alarm["AlarmActions"]} == {subscription["TopicArn"]}


def test_cloudwatch_decides_by_the_alarm_what_missing_data_means(client: Client, alarms: Mapping[str, Any]) -> None:
    expected = {"NoWorkers": "ALARM", "WorkersRestart": "OK"}
    names = [alarms[name]["AlarmName"] for name in expected]

    def decided() -> bool:
        found = client("cloudwatch").describe_alarms(AlarmNames=names)["MetricAlarms"]
        return {alarm["AlarmName"]: alarm["StateValue"] for alarm in found} == dict(
            zip(names, expected.values(), strict=True)
        )

    assert eventually(decided)


def test_cloudwatch_accepts_the_dashboard(root: Path, client: Client) -> None:
    watch, body = client("cloudwatch"), cloudwatch.dashboard(root)
    assert (
        watch.put_dashboard(DashboardName="uat", DashboardBody=json.dumps(body)).get("DashboardValidationMessages", [])
        == []
    )
    assert json.loads(watch.get_dashboard(DashboardName="uat")["DashboardBody"]) == body
    assert len(body["widgets"]) > 10


def test_the_secrets_are_made_with_passwords(client: Client, services: Mapping[str, Any]) -> None:
    manager = client("secretsmanager")
    for name, user in (("owner", "dagster"), ("reader", "dagfusion_reader")):
        made = json.loads(manager.get_secret_value(SecretId=f"dagfusion/uat/{name}")["SecretString"])
        assert (made["username"], len(made["password"])) == (user, 40)
        assert made["password"].isalnum()
    assert len(manager.list_secrets()["SecretList"]) == len(
        [one for one in services.values() if one["Type"] == "AWS::SecretsManager::Secret"]
    )


def test_an_execution_role_names_the_secret_that_was_made(client: Client, services: Mapping[str, Any]) -> None:
    iam, owner = client("iam"), client("secretsmanager").describe_secret(SecretId="dagfusion/uat/owner")["ARN"]
    assert {"DagsterExecutionRole", "QueryExecutionRole"} <= services.keys()
    [role] = [one["RoleName"] for one in iam.list_roles()["Roles"] if "DagsterExecutionRole" in one["RoleName"]]
    [statement] = iam.get_role_policy(RoleName=role, PolicyName="secrets")["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("secretsmanager:GetSecretValue", owner)
    [managed] = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert managed["PolicyName"] == "AmazonECSTaskExecutionRolePolicy"


def test_the_groups_of_logs_exist(client: Client, services: Mapping[str, Any]) -> None:
    found = {group["logGroupName"] for group in client("logs").describe_log_groups()["logGroups"]}
    assert found == {"/dagfusion/uat/dagster", "/dagfusion/uat/query"}
    assert {"DagsterLogs", "QueryLogs"} <= services.keys()

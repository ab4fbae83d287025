"""The roles and the bucket of `deploy/aws/`, by simulation of allowed and denied requests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.deploy.policies import allows, denies
from tests.deploy.templates import Resolver, containers, resources, template

pytestmark = pytest.mark.usefixtures("heavy")  # reads the templates with cfn-lint
BUCKET, PREFIX = "lake-uat", "datafusion_test"
ARN = f"arn:aws:s3:::{BUCKET}"
VALUES = {"Environment": "uat", "BucketName": BUCKET, "Prefix": PREFIX}
EXPORTS = {
    "storage-BucketName": BUCKET,
    "storage-PipelineRoleArn": "arn:aws:iam::123456789012:role/dagfusion-uat-pipeline",
    "storage-MaintenanceRoleArn": "arn:aws:iam::123456789012:role/dagfusion-uat-maintenance",
    "storage-ErasureRoleArn": "arn:aws:iam::123456789012:role/dagfusion-uat-erasure",
}
TABLE = f"{PREFIX}/Silver/TaxID/orders/state=CA/date=2024-01-05/data.parquet"
LARGE = f"{PREFIX}/_consolidated/Silver/TaxID/orders/data-0a.parquet"
CHECKPOINT = "_catalog/checkpoint.json"
ICEBERG = "_iceberg/uat_silver_tax_id/orders/1.metadata.json"
OUTPUT = "_dagster/storage/run/compute_logs/step.out"
ERASED = "_erasure/2026-01-02.txt"
KEYS = {
    "table": TABLE,
    "large": LARGE,
    "iceberg": ICEBERG,
    "checkpoint": CHECKPOINT,
    "output": OUTPUT,
    "keys": ERASED,
    "other": "payroll/2024.parquet",
}
TASKS = ("PipelineRole", "QueryRole", "MaintenanceRole", "ErasureRole")
ROLES = (*TASKS, "IcebergClientRole")

# Which of the three actions on an object each role has, for each kind of key. The rest is denied.
OBJECTS = {
    "PipelineRole": {"table": "GP", "large": "G", "output": "GP"},
    "QueryRole": {"table": "G", "large": "G", "iceberg": "GP", "checkpoint": "GPD"},
    "MaintenanceRole": {"table": "GD", "large": "GPD", "iceberg": "GD", "checkpoint": "G", "output": "GP"},
    "ErasureRole": {"table": "GPD", "large": "G", "output": "GP", "keys": "G"},
    "IcebergClientRole": {"table": "G", "large": "G", "iceberg": "G"},
}
SETTINGS_READ = (
    "s3:GetBucketLocation",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketVersioning",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
)
ACTIONS = {"G": "s3:GetObject", "P": "s3:PutObject", "D": "s3:DeleteObject"}
NEVER = (
    "s3:DeleteObjectVersion",
    "s3:PutObjectAcl",
    "s3:PutBucketPolicy",
    "s3:DeleteBucket",
    "s3:PutLifecycleConfiguration",
    "s3:PutBucketPublicAccessBlock",
    "iam:PassRole",
    "secretsmanager:GetSecretValue",
)

Policies = Mapping[str, list[Any]]


def policies_of(document: Mapping[str, Any], resolve: Resolver) -> Policies:
    roles = resources(document, "AWS::IAM::Role")
    return {name: [resolve(p["PolicyDocument"]) for p in role.get("Policies", ())] for name, role in roles.items()}


@pytest.fixture(scope="module")
def storage(root: Path) -> Mapping[str, Any]:
    return template(root / "deploy/aws/storage-and-roles.yaml")


@pytest.fixture(scope="module")
def policies(storage: Mapping[str, Any]) -> Policies:
    return policies_of(storage, Resolver(storage, VALUES))


@pytest.fixture(scope="module")
def services(root: Path) -> Mapping[str, Any]:
    return template(root / "deploy/aws/services.yaml")


def of_services(services: Mapping[str, Any]) -> Resolver:
    return Resolver(services, {"Environment": "uat", "StorageStack": "storage"}, EXPORTS)


@pytest.fixture(scope="module")
def launcher(services: Mapping[str, Any]) -> list[Any]:
    return policies_of(services, of_services(services))["LauncherRole"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("letter", ACTIONS)
def test_a_role_may_do_with_an_object_what_it_is_for(policies: Policies, role: str, kind: str, letter: str) -> None:
    expected = letter in OBJECTS[role].get(kind, "")
    assert allows(policies[role], ACTIONS[letter], f"{ARN}/{KEYS[kind]}") is expected


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", NEVER)
def test_no_role_may_administer(policies: Policies, role: str, action: str) -> None:
    for resource in (ARN, *(f"{ARN}/{key}" for key in KEYS.values()), "*"):
        assert not allows(policies[role], action, resource)


@pytest.mark.parametrize("role", ROLES)
@given(key=st.text(min_size=1))
def test_no_object_outside_of_the_known_folders_can_be_touched(policies: Policies, role: str, key: str) -> None:
    if key.startswith((f"{PREFIX}/", "_iceberg/", "_catalog/", "_dagster/", "_erasure/")):
        return
    for candidate in (key, f"{PREFIX}x/{key}", f"other/{PREFIX}/{key}"):
        assert not any(allows(policies[role], action, f"{ARN}/{candidate}") for action in ACTIONS.values())


@pytest.mark.parametrize("role", ROLES)
def test_no_object_of_another_bucket_can_be_touched(policies: Policies, role: str) -> None:
    for action in ACTIONS.values():
        assert not allows(policies[role], action, f"{ARN}-2/{TABLE}")


@pytest.mark.parametrize("role", TASKS)
@pytest.mark.parametrize(
    ("prefix", "expected"),
    [(f"{PREFIX}/Silver/", True), (f"{PREFIX}/", True), (PREFIX, False), ("", False), (None, False)],
)
def test_a_role_may_list_the_tables_only(policies: Policies, role: str, prefix: str | None, *, expected: bool) -> None:
    context = {} if prefix is None else {"s3:prefix": prefix}
    assert allows(policies[role], "s3:ListBucket", ARN, context) is expected


# What else a role lists: the query service its checkpoint and its Iceberg metadata, the vacuum and the doctor, too, and
# the erasure its keys.
LISTED = {
    "QueryRole": {"_catalog/", "_iceberg/"},
    "MaintenanceRole": {"_catalog/", "_iceberg/"},
    "ErasureRole": {"_erasure/"},
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("prefix", ["_catalog/", "_iceberg/", "_dagster/", "_erasure/", "payroll/"])
def test_a_role_lists_a_folder_that_it_needs(policies: Policies, role: str, prefix: str) -> None:
    expected = prefix in LISTED.get(role, ())
    assert allows(policies[role], "s3:ListBucket", ARN, {"s3:prefix": prefix}) is expected


def test_only_maintenance_may_read_how_the_bucket_is_set_up(policies: Policies) -> None:
    for action in SETTINGS_READ:
        assert [role for role in ROLES if allows(policies[role], action, ARN)] == ["MaintenanceRole"]
    for action in ("s3:GetBucketPolicy", "s3:GetBucketPolicyStatus", "s3:GetBucketAcl"):
        assert not allows(policies["MaintenanceRole"], action, ARN)


def test_requests_without_tls_are_denied(storage: Mapping[str, Any]) -> None:
    [policy] = resources(storage, "AWS::S3::BucketPolicy").values()
    document = Resolver(storage, VALUES)(policy["PolicyDocument"])
    [statement] = document["Statement"]
    assert statement["Principal"] == "*"
    for action, resource in (("s3:GetObject", f"{ARN}/{TABLE}"), ("s3:ListBucket", ARN), ("s3:PutObject", f"{ARN}/x")):
        assert denies(document, action, resource, {"aws:SecureTransport": "false"})
        assert not denies(document, action, resource, {"aws:SecureTransport": "true"})


def test_only_tasks_of_this_account_take_the_roles(storage: Mapping[str, Any]) -> None:
    roles = resources(storage, "AWS::IAM::Role")
    for role in TASKS:
        [statement] = Resolver(storage, VALUES)(roles[role]["AssumeRolePolicyDocument"])["Statement"]
        assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_only_the_query_service_takes_the_role_of_iceberg_clients(
    storage: Mapping[str, Any], policies: Policies
) -> None:
    role = resources(storage, "AWS::IAM::Role")["IcebergClientRole"]
    resolve = Resolver(storage, VALUES)
    [statement] = resolve(role["AssumeRolePolicyDocument"])["Statement"]
    assert statement["Principal"] == {"AWS": "arn:aws:QueryRole:Arn"}
    arn = f"arn:aws:iam::123456789012:role/{resolve(role['RoleName'])}"
    assert [name for name in ROLES if allows(policies[name], "sts:AssumeRole", arn)] == ["QueryRole"]
    assert not allows(policies["QueryRole"], "sts:AssumeRole", arn.replace("iceberg-clients", "pipeline"))
    assert not allows(policies["IcebergClientRole"], "s3:ListBucket", ARN, {"s3:prefix": f"{PREFIX}/"})


def test_dagster_launches_runs_in_its_own_cluster_only(launcher: list[Any]) -> None:
    run = "arn:aws:ecs:us-east-2:123456789012:task-definition/dagfusion-uat-run:7"
    own = {"ecs:cluster": "arn:aws:Cluster:Arn"}
    assert allows(launcher, "ecs:RunTask", run, own)
    assert not allows(launcher, "ecs:RunTask", run, {"ecs:cluster": "arn:aws:ecs:us-east-2:123456789012:cluster/other"})
    assert not allows(launcher, "ecs:RunTask", run.replace("-run:", "-query:"), own)


def test_dagster_passes_only_the_roles_of_runs(launcher: list[Any]) -> None:
    ecs = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
    role = "arn:aws:iam::123456789012:role/dagfusion-uat-"
    for name, expected in (("pipeline", 1), ("maintenance", 1), ("erasure", 1), ("query", 0), ("admin", 0)):
        assert allows(launcher, "iam:PassRole", f"{role}{name}", ecs) is bool(expected)
    assert not allows(launcher, "iam:PassRole", f"{role}pipeline", {"iam:PassedToService": "lambda.amazonaws.com"})


def test_dagster_itself_reads_no_table(launcher: list[Any]) -> None:
    assert allows(launcher, "s3:GetObject", f"{ARN}/{OUTPUT}")
    assert not allows(launcher, "s3:GetObject", f"{ARN}/{TABLE}")
    assert not allows(launcher, "s3:PutObject", f"{ARN}/{OUTPUT}")
    assert not allows(launcher, "secretsmanager:GetSecretValue", "ref-OwnerSecret")


def test_the_query_service_reads_its_own_secrets_only(policies: Policies) -> None:
    secret = "arn:aws:secretsmanager:us-east-2:123456789012:secret:dagfusion/uat/"
    own, others = ("reader-AbCdEf", "tokens-AbCdEf"), ("owner-AbCdEf", "reader-of-all-AbCdEf", "tokens-2-AbCdEf")
    for name, expected in {**dict.fromkeys(own, True), **dict.fromkeys(others, False)}.items():
        assert allows(policies["QueryRole"], "secretsmanager:GetSecretValue", f"{secret}{name}") is expected
        of_doctor = allows(policies["MaintenanceRole"], "secretsmanager:GetSecretValue", f"{secret}{name}")
        assert of_doctor is (name == "reader-AbCdEf")
        for role in ("PipelineRole", "ErasureRole"):
            assert not allows(policies[role], "secretsmanager:GetSecretValue", f"{secret}{name}")


# What AWS's own policy for execution roles allows: pull images, and write the logs of containers.
TASK_EXECUTION = {
    "Statement": [
        {
            "Effect": "Allow",
            "Action": [
                "ecr:GetAuthorizationToken",
                "ecr:BatchCheckLayerAvailability",
                "ecr:GetDownloadUrlForLayer",
                "ecr:BatchGetImage",
                "logs:CreateLogStream",
                "logs:PutLogEvents",
            ],
            "Resource": "*",
        }
    ]
}
EXECUTION_ROLES = ("DagsterExecutionRole", "QueryExecutionRole")


def execution_policies(services: Mapping[str, Any], role: str) -> list[Any]:
    [managed] = of_services(services)(resources(services, "AWS::IAM::Role")[role]["ManagedPolicyArns"])
    assert managed == "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
    return [*policies_of(services, of_services(services))[role], TASK_EXECUTION]


@pytest.mark.parametrize("role", EXECUTION_ROLES)
def test_an_execution_role_reads_the_secrets_of_its_containers_only(services: Mapping[str, Any], role: str) -> None:
    resolve, documents = of_services(services), execution_policies(services, role)
    tasks = resources(services, "AWS::ECS::TaskDefinition")
    mine = {name for name, task in tasks.items() if resolve(task["ExecutionRoleArn"]) == f"arn:aws:{role}:Arn"}
    used = {
        resolve(secret["ValueFrom"]).partition(":")[0]
        for task, container in containers(services)
        if task in mine
        for secret in container.get("Secrets", ())
    }
    assert used == ({"ref-OwnerSecret"} if role == "DagsterExecutionRole" else set())
    made = [f"ref-{name}" for name in resources(services, "AWS::SecretsManager::Secret")]
    assert len(made) == 3
    given = [arn for arn in (*made, "*") if allows(documents, "secretsmanager:GetSecretValue", arn)]
    assert set(given) == used
    for action in ("PutSecretValue", "UpdateSecret", "DeleteSecret", "DescribeSecret", "PutResourcePolicy"):
        assert not any(allows(documents, f"secretsmanager:{action}", arn) for arn in made)


@pytest.mark.parametrize("role", EXECUTION_ROLES)
def test_an_execution_role_may_nothing_else(services: Mapping[str, Any], role: str) -> None:
    documents = execution_policies(services, role)
    assert allows(documents, "ecr:BatchGetImage", "arn:aws:ecr:us-east-2:123456789012:repository/dagfusion/query")
    assert allows(documents, "logs:PutLogEvents", "arn:aws:logs:us-east-2:123456789012:log-group:/dagfusion/uat/query")
    actions = (*ACTIONS.values(), *NEVER[:-1], "s3:ListBucket", "ecs:RunTask", "ecr:PutImage", "logs:GetLogEvents")
    for action in (*actions, "sts:AssumeRole", "kms:Decrypt"):
        for resource in (ARN, f"{ARN}/{TABLE}", "ref-OwnerSecret", "*"):
            assert not allows(documents, action, resource), action


def test_only_tasks_take_the_execution_roles(services: Mapping[str, Any]) -> None:
    roles = resources(services, "AWS::IAM::Role")
    for role in (*EXECUTION_ROLES, "LauncherRole"):
        [statement] = of_services(services)(roles[role]["AssumeRolePolicyDocument"])["Statement"]
        assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRole")

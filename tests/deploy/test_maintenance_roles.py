"""What runs of maintenance and `dagfusion doctor` do, against the roles that `deploy/` gives them."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
import yaml  # type: ignore[import-untyped]
from botocore.awsrequest import AWSResponse
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster_aws.ecs import EcsRunLauncher
from dagster_aws.ecs.container_context import EcsContainerContext
from dagster_k8s.container_context import K8sContainerContext
from obstore.store import MemoryStore

from dagfusion_cli.doctor import examination
from dagfusion_cli.doctor.examination import Diagnosis
from dagfusion_query.config import read_config
from dagfusion_reference.definitions import defs
from tests.deploy.policies import allows
from tests.deploy.templates import Resolver, containers, resources, template
from tests.query.catalog.checkpointing import Service, add
from tests.query.catalog.following import Clock
from tests.query.catalog.purgeable_log import PurgeableLog

pytestmark = pytest.mark.usefixtures("heavy")  # reads the templates with cfn-lint
BUCKET, PREFIX = "bucket", "datafusion_test"  # of the table in the event log
ARN = f"arn:aws:s3:::{BUCKET}"
ROLE = "arn:aws:iam::123456789012:role/dagfusion-uat-"
EXPORTS = {
    "storage-BucketName": BUCKET,
    "storage-Prefix": PREFIX,
    "storage-PipelineRoleArn": f"{ROLE}pipeline",
    "storage-MaintenanceRoleArn": f"{ROLE}maintenance",
    "storage-ErasureRoleArn": f"{ROLE}erasure",
}
TABLE = f"{PREFIX}/Silver/TaxID/orders/state=CA/date=2024-01-05/data.parquet"
LARGE = f"{PREFIX}/_consolidated/Silver/TaxID/orders/data-0a.parquet"
ICEBERG = "_iceberg/uat_silver_tax_id/orders/1.metadata.json"
# What a job does with objects, and the folders that it lists.
JOBS = {
    "consolidate": ({f"{PREFIX}/_consolidated/"}, {"Get": [TABLE, LARGE], "Put": [LARGE]}),
    "vacuum": (
        {f"{PREFIX}/Silver/TaxID/orders/", f"{PREFIX}/_consolidated/Silver/TaxID/", "_iceberg/"},
        {"Get": [TABLE, ICEBERG], "Delete": [TABLE, LARGE, ICEBERG]},
    ),
}
# The action that allows a call of boto3's client.
ACTIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "GetBucketLocation": "s3:GetBucketLocation",
}


@pytest.fixture(scope="module")
def policies(root: Path) -> Mapping[str, list[Any]]:
    """The policies of each role, by its ARN."""
    storage = template(root / "deploy/aws/storage-and-roles.yaml")
    resolve = Resolver(storage, {"Environment": "uat", "BucketName": BUCKET, "Prefix": PREFIX})
    roles = [resolve(role) for role in resources(storage, "AWS::IAM::Role").values()]
    account = "arn:aws:iam::123456789012:role/"
    return {f"{account}{role['RoleName']}": [one["PolicyDocument"] for one in role["Policies"]] for role in roles}


def run_of(job: str, variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> dg.DagsterRun:
    """Return a run of a job of the reference code location, whose process has the variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tags = defs().resolve_job_def(job).run_tags
    deployed = {"k8s": {"service_account_name": "pipeline"}}  # as the chart's `includeConfigInLaunchedRuns` has it
    pointer = ModuleCodePointer("dagfusion_reference.definitions", "defs")
    origin = RepositoryPythonOrigin("python", pointer, container_context=deployed)
    return dg.DagsterRun(job_name=job, tags=tags, job_code_origin=JobPythonOrigin(job, origin))


def on_ecs(root: Path, task: str) -> dict[str, str]:
    services = template(root / "deploy/aws/services.yaml")
    resolve = Resolver(services, {"Environment": "uat", "StorageStack": "storage"}, EXPORTS)
    [container] = [container for name, container in containers(services) if name == task]
    return {entry["Name"]: entry["Value"] for entry in resolve(container["Environment"])}


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_run_of_maintenance_on_ecs_has_the_role_for_it(
    root: Path, policies: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    run = run_of(job, on_ecs(root, "CodeLocationTask"), monkeypatch)
    launcher: Any = None  # the overrides do not depend on it
    overrides = EcsRunLauncher._get_task_overrides(launcher, EcsContainerContext(), run)
    assert overrides == {"taskRoleArn": f"{ROLE}maintenance"}
    folders, objects = JOBS[job]
    mine, pipeline = policies[overrides["taskRoleArn"]], policies[f"{ROLE}pipeline"]
    for folder in folders:
        assert allows(mine, "s3:ListBucket", ARN, {"s3:prefix": folder}), folder
    needed = [(f"s3:{verb}Object", f"{ARN}/{key}") for verb, keys in objects.items() for key in keys]
    assert [one for one in needed if not allows(mine, *one)] == []
    assert [one for one in needed if not allows(pipeline, *one)] != []  # why the job needs a role of its own


def test_a_run_of_maintenance_sees_the_tags_of_its_code_location(root: Path) -> None:
    tags = {on_ecs(root, task)["DAGFUSION_MAINTENANCE_TAGS"] for task in ("RunTask", "CodeLocationTask")}
    assert len(tags) == 1


@pytest.mark.parametrize("job", sorted(JOBS))
def test_a_run_of_maintenance_on_kubernetes_has_an_account_of_its_own(
    root: Path, monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    values = yaml.safe_load((root / "deploy/helm/dagster-values.yaml").read_text())
    [deployment] = values["dagster-user-deployments"]["deployments"]
    given = {entry["name"]: entry["value"] for entry in deployment["env"]}
    chosen = {"UAT_S3_BUCKET": BUCKET, "S3_PREFIX": PREFIX, "AWS_REGION": "us-east-2"}  # in place of the capitals

    def account(job: str) -> str:
        run = run_of(job, {**given, **chosen}, monkeypatch)
        context = K8sContainerContext.create_for_run(run, None, include_run_tags=True)
        return str(context.run_k8s_config.pod_spec_config["service_account_name"])

    made = {one["metadata"]["name"]: one for one in values["extraManifests"]}
    assert {one["kind"] for one in made.values()} == {"ServiceAccount"}
    roles = {name: one["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] for name, one in made.items()}
    assert roles == {account(job): "MAINTENANCE_ROLE_ARN", "dagfusion-erasure": "ERASURE_ROLE_ARN"}
    assert account("healthcare_gold") == "pipeline"


def s3_of(policies: list[Any]) -> Any:
    """Return a client of boto3 for a healthy bucket, whose calls the policies of a role allow or deny."""
    client: Any = boto3.client("s3", "us-east-2", aws_access_key_id="k", aws_secret_access_key="s")
    answers: dict[str, dict[str, Any]] = {
        "ListObjectsV2": {"Contents": [], "IsTruncated": False, "KeyCount": 0},
        "GetPublicAccessBlock": {"PublicAccessBlockConfiguration": {}},
    }

    def remember(params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context["given"] = dict(params)

    def answer(model: Any, context: dict[str, Any], **_: Any) -> tuple[AWSResponse, dict[str, Any]]:
        given = context["given"]
        condition = {"s3:prefix": given["Prefix"]} if "Prefix" in given else {}
        is_allowed = allows(policies, ACTIONS[model.name], f"arn:aws:s3:::{given['Bucket']}", condition)
        status = HTTPStatus.OK if is_allowed else HTTPStatus.FORBIDDEN
        body = answers.get(model.name, {}) if is_allowed else {"Error": {"Code": "AccessDenied"}}
        metadata: dict[str, Any] = {"HTTPStatusCode": int(status), "HTTPHeaders": {}}
        return AWSResponse("", int(status), {}, None), {**body, "ResponseMetadata": metadata}

    client.meta.events.register("provide-client-params.s3", remember)
    client.meta.events.register("before-call.s3", answer)
    return client


def examined(policies: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *partitions: str) -> Diagnosis:
    """Examine an environment with one table, as a role."""
    log = PurgeableLog()
    add(log, *partitions)
    service = Service(log, MemoryStore(), Clock())
    service.catalog.close()
    monkeypatch.setattr(examination, "_reader", lambda _: log)
    monkeypatch.setattr(examination, "s3_client", lambda _: s3_of(policies))
    variables = {"DAGFUSION_EVENT_LOG": str(tmp_path), "DAGFUSION_UAT_S3_BUCKET": BUCKET, "ENVIRONMENT": "uat"}
    [config] = read_config(variables).environments
    return examination.examine(config)


def test_the_doctor_examines_all_with_the_role_of_maintenance(
    policies: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = policies[f"{ROLE}maintenance"]
    found = examined(mine, monkeypatch, tmp_path, "CA")
    assert found.unknown == []
    names = {fault.name for fault in found.faults}
    assert "bucket_unreachable" not in names
    assert {"bucket_public", "objects_missing"} <= names  # it has seen the settings, and listed the folder
    # The checkpoint and the database, which it reads by other clients.
    for key in ("manifest.json", "0a1b.arrow"):
        assert allows(mine, "s3:GetObject", f"{ARN}/_catalog/uat/{key}")
    assert allows(mine, "s3:ListBucket", ARN, {"s3:prefix": "_catalog/uat/"})
    secret = "arn:aws:secretsmanager:us-east-2:123456789012:secret:dagfusion/uat/reader-AbCdEf"
    assert allows(mine, "secretsmanager:GetSecretValue", secret)


def test_without_a_table_the_doctor_knows_no_folder_to_list(
    policies: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = examined(policies[f"{ROLE}maintenance"], monkeypatch, tmp_path)
    assert [(one.check, one.where) for one in found.unknown] == [("bucket_unreachable", f"s3://{BUCKET}")]
    assert {fault.name for fault in found.faults} >= {"bucket_public", "bucket_unversioned"}


def test_the_doctor_names_what_another_role_may_not_read(
    policies: Mapping[str, list[Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = examined(policies[f"{ROLE}query"], monkeypatch, tmp_path, "CA")
    assert {one.check for one in found.unknown} == {
        *("bucket_public", "bucket_unencrypted", "bucket_unversioned", "bucket_without_lifecycle"),
        *("bucket_keeps_parts", "bucket_region"),
    }
    assert "objects_missing" in {fault.name for fault in found.faults}


def test_a_bucket_that_may_not_be_listed_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = examined([], monkeypatch, tmp_path, "CA")
    assert "bucket_unreachable" in {fault.name for fault in found.faults}

"""The CloudFormation templates are clean, agree with each other, and set what the programs read."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from cfnlint.api import lint_file
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_aws.ecs import EcsRunLauncher
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager
from dagster_postgres import PostgresEventLogStorage
from dagster_webserver.cli import dagster_webserver as WEBSERVER  # noqa: N812
from sqlalchemy.pool import QueuePool

from dagfusion_query.config import read_config
from dagfusion_server.doors.http.openapi import describe
from dagfusion_stack.dagster import RUN_ENVIRON
from tests.deploy.templates import Resolver, containers, needed_before, resources, template

TEMPLATES = ("storage-and-roles", "services", "monitoring")
pytestmark = pytest.mark.usefixtures("heavy")
SECRET_TYPE = "AWS::SecretsManager::Secret"  # a type of resources
SECRET = re.compile(r"(?i)password|secret_access|token")
# Other users of a machine see the arguments of a command.
SECRET_ARGUMENT = re.compile(
    r"--(?:(?:master-user-password|secret-string|secret-binary)[ =](?!file://)|from-literal\b)"
)
TEXTS = {".md", ".sh", ".yaml"}


@pytest.fixture(scope="module")
def services(root: Path) -> Mapping[str, Any]:
    return template(root / "deploy/aws/services.yaml")


@pytest.fixture(scope="module")
def instance(root: Path) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = yaml.safe_load((root / "deploy/aws/dagster.yaml").read_text())
    return parsed


def resolved(services: Mapping[str, Any], **chosen: str) -> Resolver:
    roles = (f"{name}RoleArn" for name in ("Pipeline", "Query", "Maintenance", "Erasure"))
    exports = {f"storage-{name}": name for name in ("Prefix", *roles)}
    exports["storage-BucketName"] = "lake-uat"
    return Resolver(services, {"Environment": "uat", "StorageStack": "storage", **chosen}, exports)


def variables(services: Mapping[str, Any], container: Mapping[str, Any], **chosen: str) -> dict[str, str]:
    return {entry["Name"]: entry["Value"] for entry in resolved(services, **chosen)(container["Environment"])}


def secrets(container: Mapping[str, Any]) -> set[str]:
    return {entry["Name"] for entry in container.get("Secrets", ())}


@pytest.mark.parametrize("name", TEMPLATES)
def test_cfn_lint_finds_nothing(root: Path, name: str) -> None:
    assert [str(match) for match in lint_file(root / f"deploy/aws/{name}.yaml")] == []


def test_every_template_is_linted(root: Path) -> None:
    found = {p.stem for p in (root / "deploy/aws").glob("*.yaml") if "AWSTemplateFormatVersion" in p.read_text()}
    assert found == set(TEMPLATES)


def test_what_a_stack_imports_another_exports(root: Path) -> None:
    documents = {name: template(root / f"deploy/aws/{name}.yaml") for name in TEMPLATES}
    exported = {
        output["Export"]["Name"]["Fn::Sub"].rpartition("}-")[2]
        for document in documents.values()
        for output in document.get("Outputs", {}).values()
        if "Export" in output
    }
    texts = [(root / f"deploy/aws/{name}.yaml").read_text() for name in TEMPLATES]
    imported = {name for text in texts for name in re.findall(r"\$\{(?:Storage|Services)Stack\}-(\w+)", text)}
    assert len(imported) >= 10
    assert imported <= exported


def test_no_secret_is_in_plain_text(services: Mapping[str, Any]) -> None:
    for task, container in containers(services):
        named = {name: value for name, value in variables(services, container).items() if SECRET.search(name)}
        assert [name for name, value in named.items() if not value.startswith("secretsmanager://")] == [], task
        assert not re.search(r"://[^@/]*:[^@/]*@", str(container["Environment"])), task


def test_no_container_leaves_a_core_file(services: Mapping[str, Any]) -> None:
    limits = [container["Ulimits"] for _, container in containers(services)]
    assert limits == [[{"Name": "core", "SoftLimit": 1, "HardLimit": 1}]] * 5


def test_no_command_of_the_documents_has_a_password_in_its_arguments(root: Path) -> None:
    paths = [root / "README.md", *(one for top in ("docs", "deploy", "packages") for one in (root / top).rglob("*"))]
    texts = {
        path: path.read_text() for path in sorted(paths) if path.suffix in TEXTS and "node_modules" not in path.parts
    }
    assert {path.suffix for path in texts} == TEXTS
    assert any("--secret-string file://" in text for text in texts.values())
    assert [str(path) for path, text in texts.items() if SECRET_ARGUMENT.search(text)] == []


@pytest.mark.parametrize(
    ("command", "is_refused"),
    [
        ("kubectl create secret generic one --from-literal=key=value", True),
        ("kubectl create secret generic one --from-literal key=value", True),
        ("kubectl create secret generic one --from-file key=key.txt", False),
        ("aws secretsmanager put-secret-value --secret-string '{}'", True),
        ("aws secretsmanager put-secret-value --secret-string file://secret.json", False),
        ("aws rds modify-db-instance --master-user-password=secret", True),
    ],
)
def test_a_secret_among_arguments_is_found(command: str, *, is_refused: bool) -> None:
    assert bool(SECRET_ARGUMENT.search(command)) is is_refused


def test_what_a_service_reads_is_created_before_it(services: Mapping[str, Any]) -> None:
    """Also the secrets that it only has the names of, and what an attachment adds to them."""
    named = {secret["Name"]["Fn::Sub"]: name for name, secret in resources(services, SECRET_TYPE).items()}
    attachments = resources(services, "AWS::SecretsManager::SecretTargetAttachment")
    attached = {attachment["SecretId"]["Ref"]: name for name, attachment in attachments.items()}
    tasks = {task: str(container) for task, container in containers(services)}
    for name, service in resources(services, "AWS::ECS::Service").items():
        before, task = needed_before(services, name), tasks[service["TaskDefinition"]["Ref"]]
        read = [secret for text, secret in named.items() if f"secretsmanager://{text}" in task]
        assert len(read) == (2 if name == "Query" else 0)
        assert before >= {"Database", *read, *(attached[secret] for secret in read if secret in attached)}, name
        assert before >= {f"{target}Listener" for target in ("Http", "Flight") if "LoadBalancers" in service}, name


def test_the_query_service_can_wait_for_its_user_and_its_tokens(services: Mapping[str, Any], root: Path) -> None:
    assert services["Parameters"]["QueryReplicas"]["MinValue"] == 0
    assert "QueryReplicas=0" in (root / "docs/how-to/deployment.md").read_text()


def test_each_dagster_container_has_the_variables_of_its_instance(
    services: Mapping[str, Any], root: Path, instance: Mapping[str, Any]
) -> None:
    text = (root / "deploy/aws/dagster.yaml").read_text()
    read = set(re.findall(r"env: (\w+)", text))
    assert "DAGSTER_POSTGRES_PASSWORD" in read
    assert instance["run_launcher"]["config"]["task_definition"]["env"] in read
    for task, container in containers(services):
        if task != "QueryTask":
            assert read <= {*variables(services, container), *secrets(container)}, task


def test_the_instance_is_one_that_dagster_accepts(instance: Mapping[str, Any]) -> None:
    checked = validate_config(dagster_instance_config_schema(), instance)
    assert checked.success, checked.errors
    programs: dict[str, Any] = {"run_launcher": EcsRunLauncher, "compute_logs": S3ComputeLogManager}
    for part, program in programs.items():
        assert instance[part]["class"] == program.__name__
        config = validate_config(program.config_type(), instance[part]["config"])
        assert config.success, config.errors


def test_the_launcher_starts_a_container_that_exists(services: Mapping[str, Any], instance: Mapping[str, Any]) -> None:
    run = resources(services, "AWS::ECS::TaskDefinition")["RunTask"]
    assert instance["run_launcher"]["config"]["container_name"] in [c["Name"] for c in run["ContainerDefinitions"]]


def test_the_webserver_pools_its_connections(root: Path, services: Mapping[str, Any]) -> None:
    [container] = [c for task, c in containers(services) if task == "WebserverTask"]
    program, *arguments = container["Command"]
    here = [argument.replace("/opt/dagster/", f"{root}/deploy/") for argument in arguments]  # the image has these files
    given = WEBSERVER.make_context(program, here).params
    storage = PostgresEventLogStorage("postgresql://database.invalid/dagster", should_autocreate_tables=False)
    pooling = {name: given[name] for name in ("db_statement_timeout", "db_pool_recycle", "db_pool_max_overflow")}
    storage.optimize_for_webserver(*pooling.values())
    engine = storage._engine
    assert isinstance(engine.pool, QueuePool)
    assert (engine.pool.size(), engine.pool._max_overflow, engine.pool._recycle) == (1, 10, 1800)
    chart = yaml.safe_load((root / "deploy/helm/dagster-values.yaml").read_text())["dagsterWebserver"]
    assert (chart["dbPoolRecycle"], chart["dbPoolMaxOverflow"]) == (
        pooling["db_pool_recycle"],
        pooling["db_pool_max_overflow"],
    )


def test_each_dagster_container_logs_planned_partitions_in_one_event(services: Mapping[str, Any]) -> None:
    planned = "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"
    for task, container in containers(services):
        if task == "RunTask":
            assert variables(services, container).items() >= RUN_ENVIRON.items()
        elif task != "QueryTask":
            assert variables(services, container)[planned] == RUN_ENVIRON[planned], task


def test_the_query_service_accepts_its_variables(services: Mapping[str, Any], tmp_path: Path) -> None:
    [container] = [c for task, c in containers(services) if task == "QueryTask"]
    config = read_config({**variables(services, container), "DAGFUSION_STATE_DIR": str(tmp_path)})
    [environment] = config.environments
    assert (environment.name, environment.own.s3_bucket) == ("uat", "lake-uat")
    # References, so that the service follows a rotation; the secrets have these names.
    references = {str(reference) for reference in (environment.settings.event_log, config.tokens_file)}
    made = resources(services, "AWS::SecretsManager::Secret").values()
    names = {resolved(services)(secret["Name"]) for secret in made}
    assert references == {"secretsmanager://dagfusion/uat/reader", "secretsmanager://dagfusion/uat/tokens"}
    assert references <= {f"secretsmanager://{name}" for name in names}
    assert config.service.anonymous == "never"
    memory = config.service.workers * config.service.worker_memory_bytes
    task = resources(services, "AWS::ECS::TaskDefinition")["QueryTask"]
    assert memory + config.service.worker_memory_bytes < int(task["Memory"]) << 20  # one more is the spare
    balancer = resources(services, "AWS::ElasticLoadBalancingV2::LoadBalancer")["LoadBalancer"]
    [idle] = [a["Value"] for a in balancer["LoadBalancerAttributes"] if a["Key"].startswith("idle_timeout")]
    assert float(idle) > config.service.query_timeout_s
    assert container["StopTimeout"] > config.service.cancel_grace_s


def test_the_query_service_sends_traces_and_verifies_the_database_on_demand(services: Mapping[str, Any]) -> None:
    [container] = [c for task, c in containers(services) if task == "QueryTask"]
    collector, bundle = "http://collector.internal:4318", "/etc/rds.pem"
    cases: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"TracesEndpoint": collector}, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector}),
        ({"DatabaseAuthorities": bundle}, {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": bundle}),
    ]
    without = variables(services, container)
    for chosen, added in cases:
        assert variables(services, container, **chosen) == {**without, **added}
        assert not added.keys() & without.keys()
        [(name, value)] = chosen.items()
        pattern = services["Parameters"][name]["AllowedPattern"]
        assert re.fullmatch(pattern, value)
        assert re.fullmatch(pattern, "")
        assert not re.fullmatch(pattern, "user:secret@host")
    assert not re.fullmatch(services["Parameters"]["TracesEndpoint"]["AllowedPattern"], "http://user:secret@collector")


def test_the_load_balancer_asks_for_health_where_the_service_tells(services: Mapping[str, Any]) -> None:
    targets = resources(services, "AWS::ElasticLoadBalancingV2::TargetGroup")
    assert targets["HttpTargets"]["HealthCheckPath"] in describe("1")["paths"]


def test_the_bucket_is_set_up_as_promised(root: Path) -> None:
    document = template(root / "deploy/aws/storage-and-roles.yaml")
    values = {"Environment": "uat", "BucketName": "lake-uat", "Prefix": "tables"}
    bucket = Resolver(document, values)(resources(document, "AWS::S3::Bucket")["Bucket"])
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    [tables, versions, uploads] = bucket["LifecycleConfiguration"]["Rules"]
    assert tables["Prefix"] == "tables/"
    assert tables["Transitions"] == [{"StorageClass": "GLACIER", "TransitionInDays": "90"}]
    assert tables["ExpirationInDays"] == "365"
    assert versions["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert uploads["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}


def test_the_database_is_private_and_encrypted(services: Mapping[str, Any]) -> None:
    [database] = resources(services, "AWS::RDS::DBInstance").values()
    assert (database["StorageEncrypted"], database["PubliclyAccessible"]) == (True, False)
    # Not `ManageMasterUserPassword`, which rotates every week: Dagster's processes would keep the password of before.
    assert "ManageMasterUserPassword" not in database
    assert "resolve:secretsmanager" in str(database["MasterUserPassword"])
    assert "AWS::SecretsManager::RotationSchedule" not in {r["Type"] for r in services["Resources"].values()}
    [group] = resources(services, "AWS::RDS::DBParameterGroup").values()
    assert group["Parameters"] == {"rds.force_ssl": "1"}

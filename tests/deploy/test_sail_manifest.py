"""`deploy/kubernetes/sail.yaml`: checked against Kubernetes' schemas, and its workers' pods as Sail makes them."""

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]

from dagfusion_interop.spark.spark_connect import SparkSession, SparkStatement
from scripts.release import IMAGES
from tests.deploy.charts import KUBERNETES, Documents, only
from tests.interop.spark.sail import free_port, running

pytestmark = pytest.mark.usefixtures("heavy")  # imports Kubernetes' schemas
ORDINARY = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
SERVER, WORKER = "dagfusion-sail", "dagfusion-sail-worker"


@pytest.fixture(scope="module")
def manifest(root: Path) -> Documents:
    return list(yaml.safe_load_all((root / "deploy/kubernetes/sail.yaml").read_text()))


@pytest.fixture(scope="module")
def pod(manifest: Documents) -> Mapping[str, Any]:
    template: Mapping[str, Any] = only(manifest, "Deployment")["spec"]["template"]
    return template


@pytest.fixture(scope="module")
def variables(pod: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    [container] = pod["spec"]["containers"]
    return {entry["name"]: entry for entry in container["env"]}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(manifest: Documents, version: str) -> None:
    assert len(manifest) > 5
    for document in manifest:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_pod_is_an_ordinary_user_of_the_image(root: Path, pod: Mapping[str, Any]) -> None:
    [container] = pod["spec"]["containers"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == ORDINARY
    assert f"USER {pod['spec']['securityContext']['runAsUser']}\n" in (root / "deploy/sail.Dockerfile").read_text()


def test_the_image_is_the_release_that_the_chart_of_the_service_names(root: Path, pod: Mapping[str, Any]) -> None:
    [container] = pod["spec"]["containers"]
    name, _, tag = container["image"].removeprefix("dagfusion/").partition(":")
    assert IMAGES[name][0] == "deploy/sail.Dockerfile"
    assert tag == yaml.safe_load((root / "deploy/helm/dagfusion-query/Chart.yaml").read_text())["appVersion"]


def test_only_the_query_service_connects(root: Path, manifest: Documents, pod: Mapping[str, Any]) -> None:
    [container] = pod["spec"]["containers"]
    [port] = [one["containerPort"] for one in container["ports"]]
    assert container["args"][-1] == str(port)
    assert [one["port"] for one in only(manifest, "Service")["spec"]["ports"]] == [port]
    policy = only(manifest, "NetworkPolicy", "server")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    [rule] = policy["ingress"]
    chart = yaml.safe_load((root / "deploy/helm/dagfusion-query/Chart.yaml").read_text())["name"]
    assert rule == {
        "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": chart}}}],
        "ports": [{"protocol": "TCP", "port": port}],
    }


def test_only_the_server_has_rights_in_kubernetes(
    manifest: Documents, pod: Mapping[str, Any], variables: Mapping[str, Mapping[str, Any]]
) -> None:
    [rule] = only(manifest, "Role")["rules"]
    assert rule == {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "deletecollection"]}
    assert [one["name"] for one in only(manifest, "RoleBinding")["subjects"]] == [SERVER]
    assert pod["spec"]["serviceAccountName"] == SERVER
    assert variables["SAIL_KUBERNETES__WORKER_SERVICE_ACCOUNT_NAME"]["value"] == WORKER
    assert only(manifest, "ServiceAccount", WORKER)["automountServiceAccountToken"] is False


def test_the_entry_gets_the_catalog_and_its_token(root: Path, variables: Mapping[str, Mapping[str, Any]]) -> None:
    entry = (root / "deploy/sail-entry.sh").read_text()
    assert {name for name in variables if name.startswith("CATALOG_")} == {"CATALOG_URL", "CATALOG_TOKEN"}
    assert {"CATALOG_URL", "CATALOG_TOKEN"} <= set(re.findall(r"CATALOG_\w+", entry))
    assert variables["CATALOG_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": SERVER, "key": "token"}


def test_a_worker_that_sail_makes_is_an_ordinary_user(
    variables: Mapping[str, Mapping[str, Any]],
    tmp_path: Path,
    heavy: None,  # noqa: ARG001
    processes: None,  # noqa: ARG001
) -> None:
    """Sail reads the manifest's variables, and asks for pods as at Kubernetes; here they are processes."""
    of_workers = {name: one["value"] for name, one in variables.items() if "KUBERNETES__" in name and "value" in one}
    port, catalog = free_port(), {"name": "lake", "uri": "http://127.0.0.1:1/iceberg"}
    with running(tmp_path, port, catalog, of_workers, workers=1) as cluster:
        session = SparkSession(cluster.remote, str(uuid.uuid4()))
        statement = SparkStatement(session, str(uuid.uuid4()), "SELECT id FROM range(7) ORDER BY id")
        assert sum(batch.num_rows for batch in statement.batches()) == 7
        statement.close()
        [made] = cluster.pods
    [container] = made["spec"]["containers"]
    assert container["image"] == variables["SAIL_KUBERNETES__IMAGE"]["value"]
    assert container["securityContext"] == ORDINARY
    assert made["spec"]["securityContext"]["runAsNonRoot"] is True
    assert made["spec"]["serviceAccountName"] == WORKER
    assert made["metadata"]["labels"]["app.kubernetes.io/name"] == "sail"  # which the policies select
    region = {"name": "AWS_REGION", "value": variables["AWS_REGION"]["value"]}
    assert region in container["env"]
    for version in KUBERNETES:
        kubernetes_validate.validate(json.loads(json.dumps(made)), version, strict=True)

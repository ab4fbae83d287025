"""Our values of Dagster's own chart: what can be said without it, and the chart rendered with them.

The chart is not in this repository. `DAGFUSION_DAGSTER_CHART` names a folder with it, such as the one that
`helm pull dagster/dagster --untar` writes; the tests that render it are skipped without.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster_k8s
import kubernetes_validate
import pytest
import yaml  # type: ignore[import-untyped]
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

from dagfusion_stack.dagster import RUN_ENVIRON
from tests.deploy.charts import KUBERNETES, Documents, answers, documents, only, with_local_definitions

CHART = "DAGFUSION_DAGSTER_CHART"
PLANNED = "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS"
CODE = "dagster-user-deployments"
pytestmark = pytest.mark.usefixtures("heavy")  # imports the client of Kubernetes


@pytest.fixture(scope="module")
def values(root: Path) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = yaml.safe_load((root / "deploy/helm/dagster-values.yaml").read_text())
    return parsed


def variables(entries: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in entries}


def test_dagster_has_the_limits_of_ecs(root: Path, values: Mapping[str, Any]) -> None:
    instance = yaml.safe_load((root / "deploy/aws/dagster.yaml").read_text())
    runs, pools = values["concurrency"]["runs"], values["concurrency"]["pools"]
    assert values["concurrency"]["enabled"]
    assert instance["concurrency"] == {
        "runs": {"max_concurrent_runs": runs["maxConcurrentRuns"]},
        "pools": {"granularity": pools["granularity"], "default_limit": pools["defaultLimit"]},
    }
    assert "config" not in values["dagsterDaemon"]["runCoordinator"]  # the chart refuses limits in both places


def test_each_process_logs_planned_partitions_in_one_event(values: Mapping[str, Any]) -> None:
    [deployment] = values[CODE]["deployments"]
    assert variables(deployment["env"]).items() >= RUN_ENVIRON.items()
    for part in ("dagsterWebserver", "dagsterDaemon"):
        assert variables(values[part]["env"]) == {PLANNED: RUN_ENVIRON[PLANNED]}


def test_the_image_has_the_launcher_and_a_folder_for_dagster(root: Path, values: Mapping[str, Any]) -> None:
    launcher = values["runLauncher"]["type"]
    assert issubclass(getattr(dagster_k8s, launcher), dagster_k8s.K8sRunLauncher)
    text = (root / "deploy/Dockerfile").read_text()
    [owned] = re.findall(r"install -d -o dagster -g dagster (.*)", text)
    assert values["global"]["dagsterHome"] in owned.split()


@pytest.fixture(scope="module")
def chart(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001  # Helm's engine runs in one
    if (folder := os.environ.get(CHART)) is None:
        pytest.skip(f"Dagster's chart is not part of this repository: name a folder with it by {CHART}")
    return with_local_definitions(Path(folder), tmp_path_factory.mktemp("chart"))


@pytest.fixture(scope="module")
def rendered(chart: Path, values: Mapping[str, Any]) -> Documents:
    [answer] = answers(chart, [values])
    return documents(answer)


@pytest.fixture(scope="module")
def instance(rendered: Documents) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = yaml.safe_load(only(rendered, "ConfigMap", "-instance")["data"]["dagster.yaml"])
    return parsed


def unknown(values: Mapping[str, Any], defaults: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the values that the chart does not have; a default that is empty can have any."""
    for key, value in values.items():
        if key not in defaults:
            yield f"{path}{key}"
        elif defaults[key]:
            known = defaults[key][0] if isinstance(defaults[key], list) else defaults[key]  # the example of a list
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Mapping) and isinstance(known, Mapping):
                    yield from unknown(one, known, f"{path}{key}.")


def test_the_chart_has_every_value(chart: Path, values: Mapping[str, Any]) -> None:
    defaults = yaml.safe_load((chart / "values.yaml").read_text())
    defaults[CODE] = yaml.safe_load((chart / f"charts/{CODE}/values.yaml").read_text()) | defaults[CODE]
    assert list(unknown(values, defaults)) == []
    wrong = {"retention": {"enable": True}, CODE: {"deployments": [{"includeConfigInLaunchedRun": {}}]}}
    assert [*unknown(wrong, defaults)] == ["retention.enable", f"{CODE}.deployments.includeConfigInLaunchedRun"]


def test_the_schema_of_the_chart_refuses_wrong_values(chart: Path, values: Mapping[str, Any]) -> None:
    wrong = ({"runLauncher": {"type": "KubernetesRunLauncher"}}, {"postgresql": {"enabled": "no"}})
    assert ["error" in answer for answer in answers(chart, [{**values, **one} for one in wrong])] == [True, True]


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(rendered: Documents, version: str) -> None:
    assert len(rendered) > 15
    for document in rendered:
        kubernetes_validate.validate(document, version, strict=True)


def test_the_instance_is_one_that_dagster_accepts(root: Path, instance: Mapping[str, Any]) -> None:
    checked = validate_config(dagster_instance_config_schema(), instance)
    assert checked.success, checked.errors
    programs: dict[str, Any] = {"run_launcher": dagster_k8s.K8sRunLauncher, "compute_logs": S3ComputeLogManager}
    for part, program in programs.items():
        assert instance[part]["class"] == program.__name__
        config = validate_config(program.config_type(), instance[part]["config"])
        assert config.success, config.errors
    on_ecs = yaml.safe_load((root / "deploy/aws/dagster.yaml").read_text())
    assert instance["concurrency"] == on_ecs["concurrency"]
    assert instance["telemetry"] == on_ecs["telemetry"]


def test_runs_have_the_role_and_the_variables_of_the_code_location(
    rendered: Documents, values: Mapping[str, Any]
) -> None:
    [container] = only(rendered, "Deployment", "-dagfusion")["spec"]["template"]["spec"]["containers"]
    context = json.loads(variables(container["env"])["DAGSTER_CLI_API_GRPC_CONTAINER_CONTEXT"])["k8s"]
    [deployment] = values[CODE]["deployments"]
    assert variables(context["env"]) == variables(deployment["env"])
    account = only(rendered, "ServiceAccount", context["service_account_name"])
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "PIPELINE_ROLE_ARN"}


@pytest.mark.parametrize("name", ["-dagster-webserver", "-daemon"])
def test_dagster_itself_does_not_have_the_role_of_runs(rendered: Documents, name: str) -> None:
    pod = only(rendered, "Deployment", name)["spec"]["template"]["spec"]
    account = only(rendered, "ServiceAccount", pod["serviceAccountName"])
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "WEBSERVER_ROLE_ARN"}
    assert variables(pod["containers"][0]["env"])[PLANNED] == "1"


def test_the_webserver_pools_connections_behind_a_port_for_ordinary_users(
    rendered: Documents, values: Mapping[str, Any]
) -> None:
    [container] = only(rendered, "Deployment", "-webserver")["spec"]["template"]["spec"]["containers"]
    webserver = values["dagsterWebserver"]
    for flag, value in (("--db-pool-recycle", "dbPoolRecycle"), ("--db-pool-max-overflow", "dbPoolMaxOverflow")):
        assert f"{flag} {webserver[value]}" in container["command"][-1]
    [port] = container["ports"]
    assert port["containerPort"] == container["readinessProbe"]["httpGet"]["port"] == webserver["service"]["port"]
    assert port["containerPort"] >= 1024

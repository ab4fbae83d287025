"""The chart of the query service, rendered by Helm's engine and checked against Kubernetes' schemas."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate
import pytest

from dagfusion_query.config import read_config
from dagfusion_server.doors.http.openapi import describe
from tests.deploy import pod_monitor
from tests.deploy.charts import KUBERNETES, Documents, Values, answers, documents, only
from tests.deploy.policies import matches

pytestmark = pytest.mark.usefixtures("heavy")  # imports Kubernetes' schemas
LEAST: Values = {
    "eventLog": {
        "url": "postgresql://dagfusion_reader@db.example:5432/dagster?sslmode=require",
        "passwordSecret": {"name": "reader"},
    },
    "tokensSecret": {"name": "tokens"},
    "tlsSecret": {"name": "certificate"},
}
EXTRA_EGRESS: Values = {"ports": [{"protocol": "TCP", "port": 50051}], "to": [{"podSelector": {}}]}
MOST: Values = {
    **LEAST,
    "environment": "prod",
    "bucket": "lake-prod",
    "autoscaling": {"enabled": True},
    "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "tokenSecret": {"name": "metrics"}},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/query"}},
    "networkPolicy": {
        "clients": [{"podSelector": {"matchLabels": {"app": "bi"}}}],
        "egressCidrs": ["10.0.0.0/8"],
        "extraEgress": [EXTRA_EGRESS],
    },
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "queries", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "registry"}],
    "podAnnotations": {"team": "data"},
}
SECRET_URL: Values = {
    **{name: value for name, value in LEAST.items() if name != "tokensSecret"},
    "bucket": "lake-uat",
    "eventLog": {"url": "secretsmanager://prod/dagfusion-reader", "authorities": {"name": "rds"}},
    "tokensReference": "secretsmanager://prod/dagfusion-tokens",
    "settings": {
        "DAGFUSION_ANONYMOUS": "never",
        "DAGFUSION_CATALOG_CHECKPOINT": "s3://lake-uat/checkpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
        "PGSSLMODE": "verify-full",
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": "https://vpce.example",
    },
    "secretSettings": {"OTEL_EXPORTER_OTLP_HEADERS": {"name": "collector", "key": "headers"}},
}
REFERENCES: Values = {
    **LEAST,
    "bucket": "lake-uat",
    "settings": {
        "DAGFUSION_UAT_AWS_SECRET_ACCESS_KEY": "secretsmanager://store#secret",
        "DAGFUSION_PROD_EVENT_LOG": "secretsmanager://prod/dagfusion-reader",
        "DAGFUSION_SPARK_REMOTE": "secretsmanager://prod/spark#url",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/var/run/token",
        "AWS_ENDPOINT_URL_STS": "https://sts.us-east-2.amazonaws.com",
        "DAGFUSION_UAT_EVENT_LOG": "postgresql://reader@db/dagster?sslmode=verify-full&passfile=/etc/pgpass",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/etc/otel/key.pem",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4318/v1/@a",
    },
    "secretSettings": {
        name: {"name": "b", "key": "c"} for name in ("DAGFUSION_ANONYMOUS", "DAGFUSION_CATALOG_CHECKPOINT")
    },
}
VALUES = {"least": LEAST, "most": MOST, "secret": SECRET_URL, "references": REFERENCES}
REFUSED: Mapping[str, Values] = {
    "eventLog": {},
    "a password in the URL": {"eventLog": {**LEAST["eventLog"], "url": "postgresql://reader:secret@db/dagster"}},
    "a password in the options of the URL": {
        "eventLog": {**LEAST["eventLog"], "url": "postgresql://reader@db/dagster?sslmode=require&password=secret"}
    },
    "the password of a key in the options of the URL": {
        "eventLog": {**LEAST["eventLog"], "url": "postgresql://reader@db/dagster?sslpassword=secret"}
    },
    "an escaped password in the options of the URL": {
        "eventLog": {**LEAST["eventLog"], "url": "postgresql://reader@db/dagster?%70assword=secret"}
    },
    "a URL without a password": {"eventLog": {"url": LEAST["eventLog"]["url"]}},
    "tokensSecret": {"tokensSecret": {"name": ""}},
    "tlsSecret": {"tlsSecret": {"name": ""}},
    "an unknown value": {"replica": 3},
    "no replica": {"replicas": 0},
    "a floating tag": {"image": {"tag": "latest"}},
    "podMonitor without a token": {"podMonitor": {"enabled": True}},
    "a setting of something else": {"settings": {"PATH": "/opt"}},
    "a part of the name of a setting": {"settings": {"MY_DAGFUSION_WORKERS": "2"}},
    "the password in the settings": {"settings": {"PGPASSWORD": "secret"}},
    "a key of AWS in the settings": {"settings": {"AWS_SECRET_ACCESS_KEY": "secret"}},
    "a key of an environment in the settings": {"settings": {"DAGFUSION_UAT_AWS_SECRET_ACCESS_KEY": "secret"}},
    "a token in the settings": {"settings": {"DAGFUSION_TOKEN": "dft_secret"}},
    "a password of an environment in the settings": {
        "settings": {"DAGFUSION_UAT_EVENT_LOG": "postgresql://r:secret@db/d"}
    },
    "a password in the options of the URL of an environment": {
        "settings": {"DAGFUSION_PROD_EVENT_LOG": "postgresql://r@db/d?password=secret"}
    },
    "a token of the container in the settings": {"settings": {"AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret"}},
    "a session in the settings": {"settings": {"AWS_SESSION_TOKEN": "secret"}},
    "the password of a key in the settings": {"settings": {"PGSSLPASSWORD": "secret"}},
    "a user of the collector in the settings": {"settings": {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://u:secret@otel"}},
    "a token of the collector in the settings": {
        "settings": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://secret@otel/v1/traces"}
    },
    "a user of the object store in the settings": {"settings": {"AWS_ENDPOINT_URL": "https://u:secret@store"}},
    "a user of Dagster in the settings": {"settings": {"DAGFUSION_UAT_DAGSTER_URL": "https://u:secret@dagster"}},
    "a user of Spark in the settings": {"settings": {"DAGFUSION_SPARK_REMOTE": "sc://u:secret@spark"}},
    "a token of Spark in the settings": {"settings": {"DAGFUSION_SPARK_REMOTE": "sc://spark:443/;token=secret"}},
    "a header of the collector in the settings": {"settings": {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret"}},
    "a variable that another value sets": {"settings": {"DAGFUSION_TOKENS": "secretsmanager://prod/tokens"}},
    "a variable in both": {
        "settings": {"DAGFUSION_ANONYMOUS": "never"},
        "secretSettings": {"DAGFUSION_ANONYMOUS": {"name": "a", "key": "b"}},
    },
    "the bucket twice": {"bucket": "one", "settings": {"DAGFUSION_UAT_S3_BUCKET": "other"}},
    "a secret of no name": {"secretSettings": {"OTEL_EXPORTER_OTLP_HEADERS": {"name": "", "key": "headers"}}},
    "tokens by both": {"tokensReference": "secretsmanager://prod/tokens"},
    "tokens by neither": {"tokensSecret": {"name": ""}, "tokensReference": ""},
    "a reference of something else": {"tokensSecret": {"name": ""}, "tokensReference": "/etc/tokens.json"},
    "a number for a variable": {"settings": {"DAGFUSION_WORKERS": 2}},
    "an unknown environment": {"environment": "staging"},
}


@pytest.fixture(scope="module")
def chart(root: Path, processes: None) -> Path:  # noqa: ARG001  # Helm's engine runs in one
    return root / "deploy/helm/dagfusion-query"


@pytest.fixture(scope="module")
def rendered(chart: Path) -> Mapping[str, Documents]:
    return dict(zip(VALUES, map(documents, answers(chart, [*VALUES.values()])), strict=True))


def pod(documents: Documents) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = only(documents, "Deployment")["spec"]["template"]["spec"]
    return spec


def test_what_is_made(rendered: Mapping[str, Documents]) -> None:
    always = {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy"}
    assert {document["kind"] for document in rendered["least"]} == always
    assert {document["kind"] for document in rendered["most"]} == always | {"HorizontalPodAutoscaler", "PodMonitor"}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", [*VALUES])
def test_kubernetes_knows_every_field(rendered: Mapping[str, Documents], values: str, version: str) -> None:
    for document in rendered[values]:
        if document["kind"] == "PodMonitor":  # the operator's
            pod_monitor.validate(document)
        else:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_of_kubernetes_refuse_what_is_wrong(rendered: Mapping[str, Documents]) -> None:
    wrong = {**only(rendered["least"], "Service"), "spec": {"ports": [{"port": "http"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[0], strict=True)


@pytest.mark.parametrize("old", ["path", "port", "authorization", "credentials", "insecureSkipVerify", "matchLabels"])
def test_a_misspelt_field_of_the_pod_monitor_is_refused(rendered: Mapping[str, Documents], old: str) -> None:
    text = json.dumps(only(rendered["most"], "PodMonitor"))
    assert f'"{old}": ' in text
    with pytest.raises(jsonschema.ValidationError):
        pod_monitor.validate(json.loads(text.replace(f'"{old}": ', f'"{old}s": ')))


def test_rules_of_egress_can_be_added(rendered: Mapping[str, Documents]) -> None:
    least, most = (only(rendered[values], "NetworkPolicy")["spec"]["egress"] for values in ("least", "most"))
    assert most[-1] == EXTRA_EGRESS
    assert len(most) == len(least) + 1


def test_an_event_log_in_aws_secrets_manager_needs_no_password(rendered: Mapping[str, Documents]) -> None:
    def variables(values: str) -> Mapping[str, Any]:
        [container] = pod(rendered[values])["containers"]
        return {entry["name"]: entry for entry in container["env"]}

    assert variables("secret")["DAGFUSION_EVENT_LOG"]["value"] == "secretsmanager://prod/dagfusion-reader"
    assert "PGPASSWORD" not in variables("secret")
    assert variables("least")["PGPASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "reader", "key": "password"}


def test_tokens_by_reference_need_no_volume(rendered: Mapping[str, Documents]) -> None:
    for values, expected in (("least", True), ("secret", False)):
        spec = pod(rendered[values])
        for places in (spec["volumes"], spec["containers"][0]["volumeMounts"]):
            assert ("tokens" in {place["name"] for place in places}) is expected
    [tokens] = [e["value"] for e in pod(rendered["secret"])["containers"][0]["env"] if e["name"] == "DAGFUSION_TOKENS"]
    assert tokens == "secretsmanager://prod/dagfusion-tokens"


@pytest.mark.parametrize("values", [*VALUES])
def test_no_variable_is_set_twice(rendered: Mapping[str, Documents], values: str) -> None:
    names = [entry["name"] for entry in pod(rendered[values])["containers"][0]["env"]]
    assert len(names) == len({*names})


def test_libraries_have_their_variables(rendered: Mapping[str, Documents]) -> None:
    spec = pod(rendered["secret"])
    [container] = spec["containers"]
    given = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert given.items() >= SECRET_URL["settings"].items()
    [headers] = [entry for entry in container["env"] if entry["name"] == "OTEL_EXPORTER_OTLP_HEADERS"]
    assert headers["valueFrom"] == {"secretKeyRef": {"name": "collector", "key": "headers"}}
    [folder] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "authorities"]
    [volume] = [volume for volume in spec["volumes"] if volume["name"] == "authorities"]
    assert volume["configMap"]["items"] == [
        {"key": "ca.pem", "path": given["PGSSLROOTCERT"].removeprefix(f"{folder}/")}
    ]


def test_wrong_values_are_refused(chart: Path) -> None:
    given = [{**LEAST, **values} if name != "eventLog" else values for name, values in REFUSED.items()]
    accepted = [name for name, answer in zip(REFUSED, answers(chart, given), strict=True) if "error" not in answer]
    assert accepted == []


@pytest.mark.parametrize("values", ["least", "most"])
def test_a_pod_is_an_ordinary_user_with_a_read_only_file_system(rendered: Mapping[str, Documents], values: str) -> None:
    spec = pod(rendered[values])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_user_and_the_folder_are_those_of_the_image(root: Path, rendered: Mapping[str, Documents]) -> None:
    dockerfile = (root / "deploy/query.Dockerfile").read_text()
    spec = pod(rendered["least"])
    assert f"USER {spec['securityContext']['runAsUser']}\n" in dockerfile
    [scratch] = [m["mountPath"] for m in spec["containers"][0]["volumeMounts"] if m["name"] == "scratch"]
    assert f"VOLUME {scratch}\n" in dockerfile


def test_probes_ask_where_the_service_answers(rendered: Mapping[str, Documents]) -> None:
    [container] = pod(rendered["least"])["containers"]
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {probe["path"] for probe in asked.values()} <= set(describe("1")["paths"])
    assert asked["readinessProbe"]["path"] == "/readyz"
    assert asked["livenessProbe"]["path"] == "/healthz"
    assert {probe["scheme"] for probe in asked.values()} == {"HTTPS"}
    [endpoint] = only(rendered["most"], "PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] in describe("1")["paths"]
    assert endpoint["port"] in {port["name"] for port in container["ports"]}


@pytest.mark.parametrize("values", ["least", "most"])
def test_the_service_accepts_its_variables(rendered: Mapping[str, Documents], values: str, tmp_path: Path) -> None:
    [container] = pod(rendered[values])["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    config = read_config({**variables, "DAGFUSION_STATE_DIR": str(tmp_path)})
    [environment] = config.environments
    assert environment.name == ("uat" if values == "least" else "prod")
    assert environment.own.s3_bucket == (None if values == "least" else "lake-prod")
    assert config.service.anonymous == "never"
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in (config.service.tls_certificate, config.service.tls_key, config.service.tokens):
        assert path is not None
        assert any(matches(f"{mount}/*", path) for mount in mounts)
    limit = container["resources"]["limits"]["memory"]
    used = (config.service.workers + 1) * config.service.worker_memory_bytes  # one more is the spare
    assert used < int(limit.removesuffix("Gi")) << 30
    assert only(rendered[values], "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > (
        config.service.cancel_grace_s
    )


def test_the_autoscaler_decides_the_replicas_alone(rendered: Mapping[str, Documents]) -> None:
    assert only(rendered["least"], "Deployment")["spec"]["replicas"] == 2
    assert "replicas" not in only(rendered["most"], "Deployment")["spec"]
    target = only(rendered["most"], "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]
    assert target == only(rendered["most"], "Deployment")["metadata"]["name"]


def test_everything_selects_the_pods(rendered: Mapping[str, Documents]) -> None:
    labels = only(rendered["most"], "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        only(rendered["most"], "Deployment")["spec"]["selector"]["matchLabels"],
        only(rendered["most"], "Service")["spec"]["selector"],
        only(rendered["most"], "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only(rendered["most"], "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        only(rendered["most"], "PodMonitor")["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)


def test_only_the_named_clients_connect(rendered: Mapping[str, Documents]) -> None:
    [rule] = only(rendered["most"], "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {"matchLabels": {"app": "bi"}}}]
    service = {port["port"] for port in only(rendered["most"], "Service")["spec"]["ports"]}
    assert {port["port"] for port in rule["ports"]} == service


def test_the_role_is_on_the_account_that_the_pods_have(rendered: Mapping[str, Documents]) -> None:
    account = only(rendered["most"], "ServiceAccount")["metadata"]
    assert account["annotations"] == MOST["serviceAccount"]["annotations"]
    assert pod(rendered["most"])["serviceAccountName"] == account["name"]

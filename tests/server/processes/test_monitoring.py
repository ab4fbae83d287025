"""A service that writes its metrics for CloudWatch and its log as JSON, and the dashboards and alarms over them."""

import itertools
import json
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from dagfusion_client.errors import QueryError
from dagfusion_query import connect
from dagfusion_server.service.metrics import unit_of
from tests.deploy.cloudwatch import OF_AWS, alarms, metrics
from tests.server.processes.process import Server, served
from tests.stores import s3_fields
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")  # imports cfn-lint

__all__ = ["s3_fields"]
NAMESPACE = "DagFusion/uat"
ENVIRONMENT = "local"
QUERY = "SELECT count(*) FROM local_silver_tax_id.orgs"
WRONG = "SELECT nothing FROM local_silver_tax_id.orgs"
OF_PROMETHEUS = {"le", "instance", "job"}

Told = Mapping[str, set[frozenset[str]]]  # the sets of dimensions of each metric


@pytest.fixture(scope="module")
def server(
    dagster_home: Path,
    database: Callable[[], str],
    s3_fields: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A service over an event log in SQLite, and one in PostgreSQL, which may have a checkpoint."""
    variables = {
        "DAGFUSION_ENVIRONMENTS": f"{ENVIRONMENT},checked",
        "DAGFUSION_LOCAL_EVENT_LOG": str(dagster_home),
        "DAGFUSION_CHECKED_EVENT_LOG": database(),
        "DAGFUSION_CHECKED_CATALOG_CHECKPOINT": f"s3://{s3_fields['bucket']}/_catalog",
        "DAGFUSION_CHECKED_AWS_ENDPOINT_URL": s3_fields["endpoint_url"],
        "DAGFUSION_CHECKED_AWS_REGION": s3_fields["region"],
        "DAGFUSION_CHECKED_AWS_ACCESS_KEY_ID": s3_fields["access_key_id"],
        "DAGFUSION_CHECKED_AWS_SECRET_ACCESS_KEY": s3_fields["secret_access_key"],
        "DAGFUSION_CLOUDWATCH_NAMESPACE": NAMESPACE,
        "DAGFUSION_LOG_FORMAT": "json",
        "DAGFUSION_ANONYMOUS": "loopback",
    }
    with served(tmp_path_factory.mktemp("monitored"), variables=variables) as started:
        yield started


@pytest.fixture(scope="module")
def asked(server: Server) -> str:
    """The id of a query that succeeds; another one fails, and the workers are killed."""
    with server.client() as client:
        answers = {sql: client.post("/v1/sql", json={"sql": sql}) for sql in (QUERY, WRONG)}
        assert [answer.status_code for answer in answers.values()] == [200, 400]
        for worker in server.workers():  # one at least was ready, and is replaced
            worker.kill()
        assert eventually(lambda: "dagfusion_worker_restarts_total{" in client.get("/metrics").text)
        assert eventually(lambda: 'checkpoint_age_seconds{environment="checked"}' in client.get("/metrics").text)
        return answers[QUERY].headers["dagfusion-query-id"]


@pytest.fixture(scope="module")
def exposed(server: Server, asked: str) -> Mapping[str, set[str]]:
    """The labels of each sample on /metrics, by its name."""
    del asked
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def written(server: Server, exposed: Mapping[str, set[str]]) -> list[dict[str, Any]]:
    """What the service has written for CloudWatch at its end."""
    del exposed  # it was asked before
    server.stop(signal.SIGTERM)
    return [json.loads(line) for line in server.said.read_text().splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def told(written: list[dict[str, Any]]) -> Told:
    found: dict[str, set[frozenset[str]]] = {}
    for line in written:
        for described in line["_aws"]["CloudWatchMetrics"]:
            for metric in described["Metrics"]:
                found.setdefault(metric["Name"], set()).update(map(frozenset, described["Dimensions"]))
    return found


def nodes(expression: str) -> Iterator[Any]:
    """Yield the parts of a query of Prometheus."""
    pending: list[Any] = [promql_parser.parse(expression)]
    while pending:
        node = pending.pop()
        yield node
        below = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param", "vector_selector")]
        pending += [one for one in (*below, *(getattr(node, "args", None) or [])) if one is not None]


def selectors(expression: str) -> list[tuple[str, Mapping[str, str]]]:
    """Return the metrics that a query selects, with the labels that they must have."""
    found = [node for node in nodes(expression) if isinstance(node, promql_parser.VectorSelector)]
    return [(str(node.name), {m.name: m.value for m in node.matchers.matchers}) for node in found]


def grouped_by(expression: str) -> set[str]:
    """Return the labels that aggregations keep."""
    found = [node.modifier for node in nodes(expression) if isinstance(node, promql_parser.AggregateExpr)]
    return {label for modifier in found if modifier is not None for label in modifier.labels}


def expressions(root: Path) -> dict[str, str]:
    dashboard = json.loads((root / "deploy/monitoring/grafana-dashboard.json").read_text())
    rules = yaml.safe_load((root / "deploy/monitoring/alerts.yaml").read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "5m")
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    return found | {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}


def test_every_query_of_grafana_and_prometheus_names_what_is_exposed(
    root: Path, exposed: Mapping[str, set[str]]
) -> None:
    asked = expressions(root)
    assert len(asked) > 25
    for place, expression in asked.items():
        chosen = selectors(expression)
        assert chosen, place
        labels: set[str] = set()
        for name, matched in chosen:
            assert name in exposed, f"{place}: {name}"
            labels |= exposed[name]
            assert set(matched) <= exposed[name], f"{place}: {matched}"
        assert grouped_by(expression) <= labels | OF_PROMETHEUS, place


def test_connections_are_counted_by_door(server: Server, asked: str) -> None:
    del asked  # the service is not ended yet
    sample = re.compile(r'^dagfusion_connections\{door="(\w+)"\} (\S+)$', re.MULTILINE)
    with connect(server.flight_url) as connection, server.client() as client:
        assert connection.tables()
        found = {door: float(number) for door, number in sample.findall(client.get("/metrics").text)}
    assert found.keys() == {"http", "flight"}
    assert min(found.values()) >= 1


def test_only_an_environment_with_a_checkpoint_has_its_age(server: Server, asked: str) -> None:
    del asked
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    [family] = [one for one in text_string_to_metric_families(text) if one.name.endswith("checkpoint_age_seconds")]
    assert [sample.labels for sample in family.samples] == [{"environment": "checked"}]


def test_a_query_of_what_is_not_exposed_is_found(exposed: Mapping[str, set[str]]) -> None:
    [(name, matched)] = selectors('sum(rate(dagfusion_query_total{door="http"}[5m]))')
    assert name not in exposed
    assert matched == {"door": "http"}


def codes(kind: type[QueryError] = QueryError) -> Iterator[tuple[str, int]]:
    yield kind.code, kind.http_status
    for sub in kind.__subclasses__():
        yield from codes(sub)


def test_outcomes_that_alarm_are_errors_of_the_service(root: Path) -> None:
    known, named = dict(codes()), set[str]()
    for expression in expressions(root).values():
        for _, matched in selectors(expression):
            named |= set(matched.get("outcome", "").split("|")) - {""}
    for alarm in alarms(root).values():
        for metric in alarm.get("Metrics", ()):
            for dimension in metric.get("MetricStat", {}).get("Metric", {}).get("Dimensions", ()):
                named |= {dimension["Value"]}
    assert len(named) >= 5
    assert {code: known.get(code, 0) for code in named if known.get(code, 0) < 500} == {}


def test_every_alarm_and_widget_of_cloudwatch_names_what_is_written(root: Path, told: Told) -> None:
    own = [
        (name, dimensions)
        for namespace, name, dimensions in itertools.chain(*metrics(root))
        if not namespace.startswith(OF_AWS)
    ]
    assert len(own) > 20
    assert [(name, set(dimensions)) for name, dimensions in own if dimensions not in told.get(name, set())] == []


def test_the_lines_are_in_the_embedded_metric_format(written: list[dict[str, Any]]) -> None:
    for line in written:
        [described] = line["_aws"]["CloudWatchMetrics"]
        assert described["Namespace"] == NAMESPACE
        assert line["_aws"]["Timestamp"] > 1_600_000_000_000
        for metric in described["Metrics"]:
            values = line[metric["Name"]]
            assert isinstance(values, int | float) or 0 < len(values) <= 100
            assert metric["Unit"] == unit_of(metric["Name"])
        for name in itertools.chain(*described["Dimensions"]):
            assert isinstance(line[name], str)


def test_the_lines_add_up_to_what_was_asked(written: list[dict[str, Any]]) -> None:
    def total(**labels: str) -> float:
        chosen = [line for line in written if all(line.get(name) == value for name, value in labels.items())]
        return float(sum(line.get("dagfusion_queries_total", 0) for line in chosen))

    assert (total(), total(outcome="finished"), total(door="http")) == (2, 1, 2)
    times = [time for line in written for time in line.get("dagfusion_query_seconds", ())]
    assert len(times) == 2
    assert all(time > 0 for time in times)


def test_the_log_is_json_with_the_ids_of_queries(server: Server, asked: str, written: list[dict[str, Any]]) -> None:
    del written  # the service has ended
    entries = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)
    by_query = {entry["query_id"]: entry for entry in entries if "outcome" in entry}
    succeeded = by_query.pop(asked)
    assert (succeeded["outcome"], succeeded["rows"], succeeded["door"]) == ("finished", 1, "http")
    assert succeeded["runs"] == []  # it reads no file
    [failed] = by_query.values()
    assert failed["outcome"] == "plan"
    assert "nothing" not in json.dumps(failed)  # no text of a statement

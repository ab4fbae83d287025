"""The metrics that the alarms and the dashboard of `deploy/aws/monitoring.yaml` name."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.deploy.templates import Resolver, resources, template

OF_AWS = "AWS/"
VALUES = {"Environment": "uat", "ServicesStack": "services"}
EXPORTS = ("LoadBalancerName", "HttpTargetsName", "DatabaseName", "ClusterName", "QueryServiceName")


class Metric(NamedTuple):
    """A metric as an alarm or a widget names it, with the names of its dimensions."""

    namespace: str
    name: str
    dimensions: frozenset[str]


def monitoring(root: Path) -> tuple[Mapping[str, Any], Resolver]:
    """Return the template, and what resolves it; an export has its own name as its value."""
    document = template(root / "deploy/aws/monitoring.yaml")
    return document, Resolver(document, VALUES, {f"services-{name}": name for name in EXPORTS})


def alarms(root: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return the properties of the alarms, by their logical names."""
    document, resolve = monitoring(root)
    found: Mapping[str, Mapping[str, Any]] = resolve(resources(document, "AWS::CloudWatch::Alarm"))
    return found


def dashboard(root: Path) -> Mapping[str, Any]:
    """Return the dashboard."""
    document, resolve = monitoring(root)
    [one] = resources(document, "AWS::CloudWatch::Dashboard").values()
    body: Mapping[str, Any] = json.loads(resolve(one["DashboardBody"]))
    return body


def metrics(root: Path) -> tuple[list[Metric], list[Metric]]:
    """Return the metrics of the alarms, and those of the dashboard."""
    return [metric for metric, _ in _of_alarms(root)], [metric for metric, _ in _of_dashboard(root)]


def dimensions(root: Path) -> Iterator[tuple[Metric, Mapping[str, str]]]:
    """Yield each metric with the values of its dimensions."""
    yield from _of_alarms(root)
    yield from _of_dashboard(root)


def _of_alarms(root: Path) -> Iterator[tuple[Metric, Mapping[str, str]]]:
    for alarm in alarms(root).values():
        parts = [part["MetricStat"]["Metric"] for part in alarm.get("Metrics", ()) if "MetricStat" in part] or [alarm]
        for part in parts:
            found = {dimension["Name"]: dimension["Value"] for dimension in part.get("Dimensions", ())}
            yield Metric(part["Namespace"], part["MetricName"], frozenset(found)), found


def _of_dashboard(root: Path) -> Iterator[tuple[Metric, Mapping[str, str]]]:
    for widget in dashboard(root)["widgets"]:
        for namespace, name, *rest in widget["properties"]["metrics"]:
            texts = [part for part in rest if isinstance(part, str)]
            found = dict(zip(texts[::2], texts[1::2], strict=True))
            yield Metric(namespace, name, frozenset(found)), found

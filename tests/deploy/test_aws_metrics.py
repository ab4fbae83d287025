"""The metrics of AWS in alarms and on the dashboard are ones that AWS documents, of the resources of this stack."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.cloudwatch import EXPORTS, OF_AWS, dimensions
from tests.deploy.templates import template

pytestmark = pytest.mark.usefixtures("heavy")  # reads the templates with cfn-lint

# By AWS's documentation: "CloudWatch metrics for your Application Load Balancer", "Amazon CloudWatch metrics for Amazon
# RDS" and "Amazon ECS service utilization metrics". No package has these names. For each namespace: its metrics, and
# the sets of dimensions that all of them have.
DOCUMENTED: Mapping[str, tuple[str, tuple[set[str], ...]]] = {
    "AWS/ApplicationELB": (
        "HealthyHostCount UnHealthyHostCount RequestCountPerTarget TargetResponseTime HTTPCode_Target_5XX_Count",
        ({"LoadBalancer", "TargetGroup"}, {"LoadBalancer", "TargetGroup", "AvailabilityZone"}),
    ),
    "AWS/RDS": (
        "CPUUtilization DatabaseConnections FreeStorageSpace FreeableMemory ReadLatency WriteLatency",
        ({"DBInstanceIdentifier"},),
    ),
    "AWS/ECS": ("CPUUtilization MemoryUtilization", ({"ClusterName", "ServiceName"},)),
}
# What CloudWatch has as the value of each dimension, in the template that makes the resource.
IDENTIFIERS = {
    "LoadBalancer": {"Fn::GetAtt": ["LoadBalancer", "LoadBalancerFullName"]},
    "TargetGroup": {"Fn::GetAtt": ["HttpTargets", "TargetGroupFullName"]},
    "DBInstanceIdentifier": {"Ref": "Database"},
    "ClusterName": {"Ref": "Cluster"},
    "ServiceName": {"Fn::GetAtt": ["Query", "Name"]},
}


def is_documented(namespace: str, name: str, named: frozenset[str]) -> bool:
    names, sets = DOCUMENTED.get(namespace, ("", ()))
    return name in names.split() and named in sets


def test_aws_documents_each_of_its_metrics(root: Path) -> None:
    found = {metric for metric, _ in dimensions(root) if metric.namespace.startswith(OF_AWS)}
    assert {metric.namespace for metric in found} == set(DOCUMENTED)
    assert len(found) >= 6
    assert [metric for metric in found if not is_documented(*metric)] == []


def test_a_misspelt_metric_or_dimension_is_noticed() -> None:
    assert is_documented("AWS/RDS", "FreeStorageSpace", frozenset({"DBInstanceIdentifier"}))
    assert not is_documented("AWS/RDS", "FreeStorage", frozenset({"DBInstanceIdentifier"}))
    assert not is_documented("AWS/RDS", "FreeStorageSpace", frozenset({"DBInstance"}))
    assert not is_documented("AWS/ELB", "UnHealthyHostCount", frozenset({"LoadBalancer", "TargetGroup"}))


def test_each_dimension_identifies_a_resource_of_the_stack(root: Path) -> None:
    outputs = template(root / "deploy/aws/services.yaml")["Outputs"]
    made = {name: outputs[name]["Value"] for name in EXPORTS}
    for metric, found in dimensions(root):
        if metric.namespace.startswith(OF_AWS):
            assert {name: made[value] for name, value in found.items()} == {name: IDENTIFIERS[name] for name in found}

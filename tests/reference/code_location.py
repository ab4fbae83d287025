"""Runs of the code location, and what they logged."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from dagfusion_reference.defs.partitions import StateDay
from dagfusion_reference.defs.seed import Seed
from dagfusion_reference.defs.states import CODES

REGISTER = dg.AssetKey(["Silver", "TaxID", "raw_organizations"])
EXTRACTS = dg.AssetKey(["Silver", "TaxID", "partitioned_organizations"])
ORG_AGGREGATES = dg.AssetKey(["Gold", "Analytics", "daily_org_aggregates"])
EXPORT = dg.AssetKey(["Bronze", "Commerce", "raw_orders"])
ORDERS = dg.AssetKey(["Silver", "Commerce", "partitioned_orders"])
SALES = dg.AssetKey(["Gold", "Analytics", "daily_sales_aggregates"])

SEED = Seed().value
DAYS = (dt.date(2024, 1, 15), dt.date(2024, 1, 16))
PARTITIONS = [StateDay(day, state) for day in DAYS for state in CODES]


def days(first: dt.date, last: dt.date) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": f"{first}", "dagster/asset_partition_range_end": f"{last}"}


def rectangle(first: str, last: str) -> dict[str, str]:
    return days(DAYS[0], DAYS[-1]) | {
        "dagster/asset_partition_range_start": f"{DAYS[0]}|{first}",
        "dagster/asset_partition_range_end": f"{DAYS[-1]}|{last}",
    }


def run(
    location: dg.Definitions,
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    tags: Mapping[str, str] | None = None,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    job = location.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, asset_selection=[key], tags=dict(tags or {}), **options)


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def metadata_of(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> dict[str | None, dict[str, Any]]:
    events = [event.materialization for event in result.get_asset_materialization_events()]
    partitions = [event.partition for event in events]
    assert {event.asset_key for event in events} == {key}
    assert len(partitions) == len(set(partitions))
    return {event.partition: {name: value.value for name, value in event.metadata.items()} for event in events}


def report(
    instance: dg.DagsterInstance, key: dg.AssetKey, reported: Sequence[dt.date], states: Sequence[str] = CODES
) -> None:
    """Say that partitions are materialized, as a person does in Dagster's UI."""
    for day in reported:
        for state in states:
            partition = dg.MultiPartitionKey({"date": f"{day}", "state": state})
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))

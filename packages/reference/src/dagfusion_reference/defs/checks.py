"""Asset checks from rules: over the rows of a small asset, and over the records of a partitioned one.

A run can write 18,250 partitions. What a check needs to know of them is on their events already, so no object is read
again: rows and values are checked by `dagfusion_pipeline.partition_checks`, and the metrics of each domain here.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import dagster as dg
import polars as pl

from dagfusion_pipeline.partition_records import PartitionRecord, records_of_run

_NAMED_IN_A_RESULT = 10


class RowRule(NamedTuple):
    """A rule for every row: the expression is true where a row breaks it."""

    name: str
    description: str
    broken: pl.Expr


class PartitionRule(NamedTuple):
    """A rule for every recorded partition: the function is true where a partition breaks it."""

    name: str
    description: str
    broken: Callable[[PartitionRecord], bool]


def row_checks(asset: dg.AssetsDefinition, rules: Sequence[RowRule]) -> dg.AssetChecksDefinition:
    """Return blocking checks over the rows of an unpartitioned asset, in one pass; one is that it has rows."""
    has_rows = dg.AssetCheckSpec("has_rows", asset=asset.key, description="There is at least one row.", blocking=True)

    @dg.multi_asset_check(
        name=f"{_name(asset)}_rows",
        specs=[has_rows, *_specs(asset, rules, blocking=True)],
        ins={"rows": dg.AssetIn(key=asset.key)},
    )
    def check(rows: pl.DataFrame) -> Iterator[dg.AssetCheckResult]:
        yield dg.AssetCheckResult(passed=not rows.is_empty(), check_name="has_rows", metadata={"rows": rows.height})
        broken = rows.select(rule.broken.sum().cast(pl.Int64).alias(rule.name) for rule in rules).row(0, named=True)
        for name, count in broken.items():
            yield dg.AssetCheckResult(passed=count == 0, check_name=name, metadata={"broken_rows": count})

    return check


def metric_checks(asset: dg.AssetsDefinition, rules: Sequence[PartitionRule]) -> dg.AssetChecksDefinition:
    """Return checks over the records of the partitions that the run wrote; run alone, over the newest thousand."""

    @dg.multi_asset_check(name=f"{_name(asset)}_records", specs=_specs(asset, rules))
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        records = records_of_run(context.instance, context.run.run_id, asset.key)
        for rule in rules:
            yield evaluate(rule, records)

    return check


def evaluate(rule: PartitionRule, records: Sequence[PartitionRecord]) -> dg.AssetCheckResult:
    """Return True if a rule holds for all records, and there is one."""
    broken = [record.partition for record in records if rule.broken(record)]
    return dg.AssetCheckResult(
        passed=bool(records) and not broken,
        check_name=rule.name,
        metadata={
            "partitions": len(records),
            "broken_partitions": len(broken),
            "first_broken": ", ".join(str(partition) for partition in broken[:_NAMED_IN_A_RESULT]),
        },
    )


def _specs(
    asset: dg.AssetsDefinition, rules: Sequence[RowRule | PartitionRule], *, blocking: bool = False
) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(rule.name, asset=asset.key, description=rule.description, blocking=blocking) for rule in rules
    ]


def _name(asset: dg.AssetsDefinition) -> str:
    return asset.key.path[-1]

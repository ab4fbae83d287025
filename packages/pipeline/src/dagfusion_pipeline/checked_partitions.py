"""The partitions that a run's checks look at, with the latest materialization of each."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import dagster as dg

from dagfusion_pipeline.check_results import Checked
from dagfusion_pipeline.latest_events import LatestEvent, latest_event, latest_events

_SEPARATOR = "|"  # of the dimensions in a key, which are in the order of their names
_NEWEST = 1_000  # events that are searched for a partition which the run has not written


def asset_partitions(context: dg.AssetCheckExecutionContext, spec: dg.AssetSpec) -> dg.PartitionsDefinition | None:
    """Return the partitions of an asset as its definition has them, also where the checks know only its key."""
    if spec.partitions_def is not None:
        return spec.partitions_def
    layer = context.job_def.asset_layer
    found: dg.PartitionsDefinition | None = layer.get(spec.key).partitions_def if layer.has(spec.key) else None
    return found


def checked_partitions(
    context: dg.AssetCheckExecutionContext, asset_key: dg.AssetKey, definition: dg.PartitionsDefinition | None
) -> Checked:
    """Return the run's partitions if it has some of this asset, else all of the definition."""
    now = datetime.now(UTC)
    if definition is None:
        event = latest_event(context.instance, asset_key)
        return Checked([None], {} if event is None else {None: event}, now)
    end_of = window_end(definition)
    keys = partition_keys(definition, context.instance)
    selected = _keys_of_run(context.run.tags, keys, definition)
    if not {*selected} & {*keys}:  # a run without partitions, or with those of another asset
        return Checked(keys, latest_events(context.instance, asset_key), now, window_end=end_of)
    events = latest_events(context.instance, asset_key, selected)
    other = _newest_other(context.instance, asset_key, {*selected})
    return Checked(selected, events, now, window_end=end_of, selected=True, other=other)


def partition_keys(definition: dg.PartitionsDefinition, instance: dg.DagsterInstance) -> list[str]:
    """Return the keys of a definition in its order; Dagster's own objects of many dimensions take ten times as long."""
    if not isinstance(definition, dg.MultiPartitionsDefinition):
        return list(definition.get_partition_keys(dynamic_partitions_store=instance))
    dimensions = (partition_keys(one, instance) for one in _dimensions(definition).values())
    return list(map(_SEPARATOR.join, itertools.product(*dimensions)))


def _dimensions(definition: dg.MultiPartitionsDefinition) -> dict[str, dg.PartitionsDefinition]:
    """Return the dimensions in the order of their names."""
    return {one.name: one.partitions_def for one in sorted(definition.partitions_defs, key=lambda one: one.name)}


def _keys_of_run(tags: Mapping[str, str], keys: Sequence[str], definition: dg.PartitionsDefinition) -> list[str]:
    """Return the keys that a run's tags select; a check's context has them only since Dagster 1.13.

    A run of another asset that has one of the dimensions, such as the days, selects all partitions of its days.
    """
    range_of_run = [tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end")]
    first, last = [tags["dagster/partition"]] * 2 if "dagster/partition" in tags else range_of_run
    if first is None or last is None or not keys:
        return []
    split: dict[str, Mapping[str, str]] = {key: {"": key} for key in keys}
    if isinstance(definition, dg.MultiPartitionsDefinition):
        names = _dimensions(definition)
        split = {key: dict(zip(names, key.split(_SEPARATOR), strict=True)) for key in keys}
    orders = {name: _places(one[name] for one in split.values()) for name in split[keys[0]]}
    bounds = _bounds(first, last, split, orders)
    selected = list(keys) if bounds else []
    for name, (low, high) in bounds.items():
        order = orders[name]
        selected = [key for key in selected if order[low] <= order[split[key][name]] <= order[high]]
    return selected


def _places(keys: Iterable[str]) -> Mapping[str, int]:
    return {key: place for place, key in enumerate(dict.fromkeys(keys))}


def _bounds(
    first: str, last: str, split: Mapping[str, Mapping[str, str]], orders: Mapping[str, Mapping[str, int]]
) -> Mapping[str, tuple[str, str]]:
    """Return the first and the last key by dimension; of one dimension, if the ends of the run are keys of that one."""
    if {first, last} <= split.keys():
        return {name: (split[first][name], split[last][name]) for name in orders}
    return next(({name: (first, last)} for name, order in orders.items() if {first, last} <= order.keys()), {})


def _newest_other(instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: set[str]) -> LatestEvent | None:
    """Return the newest materialization of a partition that is not among these."""
    for record in instance.fetch_materializations(asset_key, limit=min(len(keys) + 1, _NEWEST)).records:
        partition = record.partition_key
        if partition is not None and partition not in keys:
            found = latest_events(instance, asset_key, [partition]).get(partition)
            if found is not None:  # it was not wiped since
                return found
    return None


def window_end(definition: dg.PartitionsDefinition[Any]) -> Callable[[str], datetime] | None:
    """Return what gives the end of a partition's time window; None for partitions without time."""
    if isinstance(definition, dg.TimeWindowPartitionsDefinition):
        return lambda key: definition.time_window_for_partition_key(key).end
    if not isinstance(definition, dg.MultiPartitionsDefinition):
        return None
    for dimension in definition.partitions_defs:
        time = dimension.partitions_def
        if isinstance(time, dg.TimeWindowPartitionsDefinition):
            return _window_end_of(definition, dimension.name, time)
    return None


def _window_end_of(
    definition: dg.MultiPartitionsDefinition, name: str, time: dg.TimeWindowPartitionsDefinition
) -> Callable[[str], datetime]:
    end: Callable[[str], datetime] = cache(lambda key: time.time_window_for_partition_key(key).end)
    place = [*_dimensions(definition)].index(name)
    return lambda key: end(key.split(_SEPARATOR)[place])

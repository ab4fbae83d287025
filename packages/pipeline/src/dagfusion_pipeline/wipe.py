"""Wipes partitions by tombstones, because open-source Dagster wipes whole assets only. The vacuum deletes objects."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.latest_events import latest_events
from dagfusion_pipeline.maintenance import Asset, LogMaterialization, asset_keys, chosen_asset, known_partitions
from dagfusion_pipeline.tombstones import tombstone_event

_LISTED = 100  # partitions that metadata and logs name


@dataclass(frozen=True)
class Wiped:
    """What a wipe of an asset did, or would do.

    Attributes:
        partitions: whose rows are gone.
        without_rows: that were asked for and have no materialization, or were wiped before.
    """

    partitions: Sequence[str] = ()
    without_rows: Sequence[str] = ()


class WipeConfig(dg.Config):
    """Which partitions a run of the job wipes."""

    asset: str | None = Field(default=None, description="The asset's key, such as Silver/orgs; of several assets.")
    partition_keys: list[str] = Field(default=[], description="The partitions, as Dagster names them.")
    deleted_dynamic: bool = Field(
        default=False, description="Also partitions whose keys were deleted from a DynamicPartitionsDefinition."
    )
    reason: str = Field(default="wiped", description="For the people who read the events.")
    dry_run: bool = Field(default=True, description="Only log what would be wiped.")


def wipe_partitions(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    partition_keys: Collection[str] = (),
    *,
    deleted_dynamic: dg.PartitionsDefinition[Any] | None = None,
    reason: str = "wiped",
    dry_run: bool = False,
    log: LogMaterialization | None = None,
) -> Wiped:
    """Log that partitions of an asset are gone.

    The catalog, inputs of the IO managers, checks and consolidations leave them out from then on, and a state as of an
    earlier event still has them. A later materialization brings a partition back. Their objects stay until a vacuum job
    deletes them. Dagster itself shows a tombstone as a materialization without rows.

    Args:
        instance: whose event log is written.
        asset_key: an asset of any IO manager.
        partition_keys: the partitions, as Dagster names them.
        deleted_dynamic: the asset's partitions definition. Partitions whose key was deleted from its dynamic
            partitions are wiped, too.
        reason: for the people who read the events.
        dry_run: whether nothing is logged.
        log: logs an event; by default outside of a run.

    Raises:
        ConfigurationError: `deleted_dynamic` has no dynamic partitions.
    """
    asked = [*dict.fromkeys(map(str, partition_keys))]
    present = latest_events(instance, asset_key, asked)
    wiped = [key for key in asked if key in present]
    if deleted_dynamic is not None:
        is_deleted = _deleted_keys(instance, deleted_dynamic)
        wiped += sorted(key for key in latest_events(instance, asset_key) if key not in present and is_deleted(key))
    for key in () if dry_run else wiped:
        (log or instance.report_runless_asset_event)(tombstone_event(asset_key, key, reason))
    return Wiped(wiped, [key for key in asked if key not in present])


def build_wipe_job(assets: Iterable[Asset], *, name: str = "wipe_partitions") -> dg.JobDefinition:
    """Build a job that wipes partitions of one of the assets; which ones is in the run's config.

    Only a run that has `dry_run: false` wipes. The objects stay until a vacuum job deletes them.

    Args:
        assets: assets of any IO manager.
        name: the job's.

    Example:
        >>> import dagster as dg
        >>> build_wipe_job([dg.AssetKey(["Silver", "orgs"])]).name
        'wipe_partitions'
    """
    given = tuple(assets)
    keys = tuple(asset_keys(given))

    @dg.op(name=f"{name}_log_tombstones")
    def log_tombstones(context: dg.OpExecutionContext, config: WipeConfig) -> None:
        """Log a tombstone for each partition that the config names."""
        key = chosen_asset(config.asset, keys)
        definition = known_partitions(context, given, key) if config.deleted_dynamic else None
        found = wipe_partitions(
            context.instance,
            key,
            config.partition_keys,
            deleted_dynamic=definition,
            reason=config.reason,
            dry_run=config.dry_run,
            log=context.log_event,
        )
        report(context, {key: found}, dry_run=config.dry_run)

    @dg.job(name=name, description="Wipes partitions of an asset; a dry run unless `dry_run` is set to false.")
    def wipe() -> None:
        # Definitions of ops have names of their own in a code location; this one is the same in every job.
        log_tombstones.alias("log_tombstones")()

    return wipe


def report(context: dg.OpExecutionContext, wiped: Mapping[dg.AssetKey, Wiped], *, dry_run: bool) -> None:
    """Log what a run wiped, or would wipe, and put it on the metadata of the op's output."""
    for key, found in wiped.items():
        context.log.info("%s", described(key, found, dry_run=dry_run))
    names = {key.to_user_string(): list(found.partitions[:_LISTED]) for key, found in wiped.items()}
    context.add_output_metadata(
        {
            "dry_run": dry_run,
            "wiped_partitions": sum(len(found.partitions) for found in wiped.values()),
            "first_partitions": dg.MetadataValue.json(names),
        }
    )


def described(asset_key: dg.AssetKey, found: Wiped, *, dry_run: bool) -> str:
    """Say what a wipe did, or would do."""
    verb = "would be wiped" if dry_run else "are wiped"
    lines = [f"{asset_key.to_user_string()}: {len(found.partitions)} partitions {verb}", *_shown(found.partitions)]
    if found.without_rows:
        lines += [f"{len(found.without_rows)} have no rows and stay as they are", *_shown(found.without_rows)]
    return "\n".join(lines)


def _shown(keys: Sequence[str]) -> list[str]:
    return [f"  {key}" for key in keys[:_LISTED]] + (["  ..."] if len(keys) > _LISTED else [])


def _deleted_keys(instance: dg.DagsterInstance, definition: dg.PartitionsDefinition[Any]) -> Callable[[str], bool]:
    """Return what tells whether a key was deleted from the dynamic partitions of a definition."""
    if isinstance(definition, dg.MultiPartitionsDefinition):
        dimensions = {one.name: one.partitions_def for one in definition.partitions_defs}
        known = {
            name: _dynamic_keys(instance, one)
            for name, one in dimensions.items()
            if isinstance(one, dg.DynamicPartitionsDefinition)
        }
        if known:
            names = sorted(dimensions)  # as the key has them

            def is_deleted(key: str) -> bool:
                parts = dict(zip(names, key.split("|"), strict=False))
                return any(parts.get(name) not in keys for name, keys in known.items())

            return is_deleted
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        keys = _dynamic_keys(instance, definition)
        return lambda key: key not in keys
    raise ConfigurationError(
        f"deleted_dynamic is for dynamic partitions, and the definition is a {type(definition).__name__}: name the"
        " partitions by their keys"
    )


def _dynamic_keys(instance: dg.DagsterInstance, definition: dg.DynamicPartitionsDefinition) -> Collection[str]:
    return {*definition.get_partition_keys(dynamic_partitions_store=instance)}

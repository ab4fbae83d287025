"""Wipes partitions by tombstones, because open-source Dagster wipes whole assets only. The vacuum deletes objects."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from dagfusion_pipeline.errors import ConfigurationError, shortened
from dagfusion_pipeline.event_objects import tombstone_event
from dagfusion_pipeline.latest_events import latest_events
from dagfusion_pipeline.maintenance import (
    Asset,
    LogMaterialization,
    asset_keys,
    build_job,
    chosen_asset,
    known_partitions,
)

_LISTED = 100  # partitions that metadata and logs name
_KEYS_A_QUERY = 500
LEFT = "not wiped; --also-unknown (also_unknown in a config) wipes partitions whose events were purged"


@dataclass(frozen=True)
class Wiped:
    """The result of a wipe of an asset, or of its dry run.

    Attributes:
        partitions: Whose rows are gone.
        without_rows: That were asked for and were wiped before.
        without_event: That were asked for and of which the event log has nothing.
    """

    partitions: Sequence[str] = ()
    without_rows: Sequence[str] = ()
    without_event: Sequence[str] = ()


class WipeConfig(dg.Config):
    """Which partitions a run of the job wipes."""

    asset: str | None = Field(default=None, description="The asset's key, such as Silver/orgs, if the job has several.")
    partition_keys: list[str] = Field(default=[], description="The partition keys.")
    deleted_dynamic: bool = Field(
        default=False, description="Also partitions whose keys were deleted from a DynamicPartitionsDefinition."
    )
    also_unknown: bool = Field(
        default=False,
        description="Also named partitions without events, such as purged ones.",
    )
    reason: str = Field(default="wiped", description="The reason, as text in the events.")
    dry_run: bool = Field(default=True, description="Only log what would be wiped.")


def wipe_partitions(
    instance: dg.DagsterInstance,
    asset_key: dg.AssetKey,
    partition_keys: Collection[str] = (),
    *,
    deleted_dynamic: dg.PartitionsDefinition[Any] | None = None,
    also_unknown: bool = False,
    reason: str = "wiped",
    dry_run: bool = False,
    log: LogMaterialization | None = None,
) -> Wiped:
    """Log that partitions of an asset are gone.

    The catalog, inputs of the IO managers, checks and consolidations leave them out from then on, and a state as of an
    earlier event still has them. A later materialization brings a partition back. Their objects stay until a vacuum job
    deletes them. Dagster itself shows a tombstone as a materialization without rows.

    Args:
        instance: Whose event log is written.
        asset_key: An asset of any IO manager.
        partition_keys: The partitions, as Dagster names them.
        deleted_dynamic: The asset's partitions definition. Partitions whose key was deleted from its dynamic
            partitions are wiped, too.
        also_unknown: Whether named partitions get a tombstone, too, if the event log has nothing of them: they may
            be misspelled, or their events were purged and the query service has them in its checkpoint.
        reason: For the people who read the events.
        dry_run: Whether nothing is logged.
        log: Logs an event; by default outside of a run.

    Raises:
        ConfigurationError: `deleted_dynamic` has no dynamic partitions, or none of the asset's partitions has a key
            that these have now.
    """
    requested = [*dict.fromkeys(map(str, partition_keys))]
    present = latest_events(instance, asset_key, requested)
    absent = [key for key in requested if key not in present]
    logged = _ever_logged(instance, asset_key, absent)
    unknown = [key for key in absent if key not in logged]
    wiped = [key for key in requested if key in present or (also_unknown and key not in logged)]
    if deleted_dynamic is not None:
        deleted = deleted_keys(instance, deleted_dynamic, latest_events(instance, asset_key))
        wiped += [key for key in deleted if key not in present]
    for key in () if dry_run else wiped:
        (log or instance.report_runless_asset_event)(tombstone_event(asset_key, key, reason))
    return Wiped(wiped, [key for key in absent if key in logged], unknown)


def build_wipe_job(
    assets: Iterable[Asset], *, name: str = "wipe_partitions", tags: Mapping[str, Any] | None = None
) -> dg.JobDefinition:
    """Build a job that wipes partitions of one of the assets; which ones is in the run's config.

    Only a run that has `dry_run: false` wipes. The objects stay until a vacuum job deletes them.

    Args:
        assets: Assets of any IO manager.
        name: The job's.
        tags: Tags of the job and its runs, such as the role that the run launcher gives a run.

    Example:
        >>> import dagster as dg
        >>> build_wipe_job([dg.AssetKey(["Silver", "orgs"])]).name
        'wipe_partitions'
    """
    assets_of_job = tuple(assets)
    keys = tuple(asset_keys(assets_of_job))

    @dg.op(name=f"{name}_log_tombstones")
    def log_tombstones(context: dg.OpExecutionContext, config: WipeConfig) -> None:
        """Log a tombstone for each partition that the config names."""
        key = chosen_asset(config.asset, keys)
        definition = known_partitions(context, assets_of_job, key) if config.deleted_dynamic else None
        found = wipe_partitions(
            context.instance,
            key,
            config.partition_keys,
            deleted_dynamic=definition,
            also_unknown=config.also_unknown,
            reason=config.reason,
            dry_run=config.dry_run,
            log=context.log_event,
        )
        report(context, {key: found}, dry_run=config.dry_run)

    return build_job(
        log_tombstones,
        "log_tombstones",
        name=name,
        description="Wipes partitions of an asset; a dry run unless `dry_run` is set to false.",
        tags=tags,
    )


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
    """Return a summary of the wipe as lines of text."""
    one = len(found.partitions) == 1
    nouns, done = ("partition", "is wiped") if one else ("partitions", "are wiped")
    verb = "would be wiped" if dry_run else done
    lines = [f"{asset_key.to_user_string()}: {len(found.partitions)} {nouns} {verb}", *_indented(found.partitions)]
    if found.without_rows:
        lines += [f"without rows, because they were wiped before: {len(found.without_rows)}"]
        lines += _indented(found.without_rows)
    if found.without_event:
        tombstone = "also wiped, for purged events" if {*found.without_event} <= {*found.partitions} else LEFT
        lines += [f"without an event, so look for misspelled keys: {len(found.without_event)}; {tombstone}"]
        lines += _indented(found.without_event)
    return "\n".join(lines)


def _indented(keys: Sequence[str]) -> list[str]:
    return [f"  {key}" for key in shortened(keys, _LISTED)]


def _ever_logged(instance: dg.DagsterInstance, asset_key: dg.AssetKey, keys: Sequence[str]) -> Collection[str]:
    """Return those of the partitions that have a materialization, which may be a tombstone."""
    if not keys:  # no partitions would mean all
        return ()
    few = {*keys} if len(keys) <= _KEYS_A_QUERY else None
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    return instance.event_log_storage.get_latest_storage_id_by_partition(asset_key, kind, partitions=few).keys()


def deleted_keys(
    instance: dg.DagsterInstance, definition: dg.PartitionsDefinition[Any], partition_keys: Collection[str]
) -> list[str]:
    """Return those of the partitions whose keys were deleted from the dynamic partitions of their definition.

    Raises:
        ConfigurationError: All would be: the definition has no dynamic partitions, or is not that of the partitions.
    """
    dimensions = _dimensions(definition)
    existing = {
        place: (one.name, {*one.get_partition_keys(dynamic_partitions_store=instance)})
        for place, one in enumerate(dimensions)
        if isinstance(one, dg.DynamicPartitionsDefinition)
    }
    if not existing:
        raise ConfigurationError(
            f"deleted_dynamic is for dynamic partitions, and the definition is a {type(definition).__name__}: name the"
            " partitions by their keys"
        )
    parts = {key: key.split("|") if len(dimensions) > 1 else [key] for key in partition_keys}
    split = {key: one for key, one in parts.items() if len(one) == len(dimensions)}  # others: of an older definition
    for place, (name, keys) in existing.items():
        if partition_keys and not any(one[place] in keys for one in split.values()):
            raise ConfigurationError(
                f"the dynamic partitions {name!r} have {len(keys)} keys now and no materialized partition has one of"
                " them, so all would be wiped: check the name, or name the partitions by their keys"
            )
    return sorted(
        key for key, one in split.items() if any(one[place] not in keys for place, (_, keys) in existing.items())
    )


def _dimensions(definition: dg.PartitionsDefinition[Any]) -> Sequence[dg.PartitionsDefinition[Any]]:
    """Return the definitions of the parts of a key, in the order of the key."""
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return [one.partitions_def for one in sorted(definition.partitions_defs, key=lambda one: one.name)]
    return [definition]

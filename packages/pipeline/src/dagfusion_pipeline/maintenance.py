"""What the jobs of maintenance share: their assets, the partitions of these, and the IO manager."""

from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg

from dagfusion_contract.naming import table_name
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager, S3ParquetIOManager

Manager = S3ParquetIOManager | PartitionedS3ParquetIOManager


def asset_keys(assets: Iterable[dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey]) -> Iterator[dg.AssetKey]:
    """The keys of assets; a definition may have several."""
    for asset in assets:
        if isinstance(asset, dg.AssetsDefinition):
            yield from sorted(asset.keys)
        else:
            yield asset if isinstance(asset, dg.AssetKey) else asset.key


def io_manager_of(context: dg.OpExecutionContext, resource_key: str) -> Manager:
    """The resource of a run, which must be one of DagFusion's IO managers."""
    manager = getattr(context.resources, resource_key)
    if not isinstance(manager, Manager):
        raise ConfigurationError(
            f"resource {resource_key!r} of job {context.job_name!r} must be one of DagFusion's IO managers;"
            f" got {type(manager).__name__}"
        )
    return manager


def known_partitions(
    context: dg.OpExecutionContext,
    assets: Iterable[dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey],
    asset_key: dg.AssetKey,
) -> dg.PartitionsDefinition[Any]:
    """The partitions of an asset, by its definition: the given one, or else that of the code location.

    Raises:
        ConfigurationError: the asset has no partitions.
    """
    definition: dg.PartitionsDefinition[Any] | None = None
    for asset in assets:
        if isinstance(asset, dg.AssetsDefinition) and asset_key in asset.keys:
            definition = asset.specs_by_key[asset_key].partitions_def
        elif isinstance(asset, dg.AssetSpec) and asset.key == asset_key:
            definition = asset.partitions_def
        elif asset == asset_key and context.repository_def.asset_graph.has(asset_key):
            definition = context.repository_def.asset_graph.get(asset_key).partitions_def
    if definition is None:
        raise ConfigurationError(
            f"asset {asset_key.to_user_string()!r} has no partitions in this code location: give its definition to the"
            f" job {context.job_name!r}"
        )
    return definition


def asset_key_of(instance: dg.DagsterInstance, environment: str, table: str) -> dg.AssetKey:
    """The asset of a table's name.

    Raises:
        ConfigurationError: the event log has none.
    """
    known = {str(table_name(environment, key.path)): key for key in instance.get_asset_keys()}
    if table not in known:
        near = ", ".join(sorted(known)[:5]) or "none"
        raise ConfigurationError(f"the event log has no asset with the table {table!r}; its tables are {near}")
    return known[table]

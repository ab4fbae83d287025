"""What the vacuum and the consolidation share: the assets that a job is built for, and their IO manager."""

from collections.abc import Iterable, Iterator

import dagster as dg

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

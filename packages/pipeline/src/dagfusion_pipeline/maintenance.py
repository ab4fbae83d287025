"""What the jobs of maintenance share: their assets, the partitions of these, and the IO manager."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg

from dagfusion_contract.environments import LOCAL
from dagfusion_contract.layout import consolidated_folder, file_key
from dagfusion_contract.local_stack import stack_home, stack_variables
from dagfusion_contract.naming import table_name
from dagfusion_pipeline.environment import Environment
from dagfusion_pipeline.errors import BusyAssetError, ConfigurationError
from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_pipeline.store import StoredObject
from dagfusion_pipeline.vacuum_rule import is_file_of

Manager = S3ParquetIOManager | PartitionedS3ParquetIOManager
Asset = dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey
UpstreamAsset = Asset | dg.SourceAsset | str  # what dagster takes for a dependency
LogMaterialization = Callable[[dg.AssetMaterialization], None]
_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def asset_keys(assets: Iterable[Asset]) -> Iterator[dg.AssetKey]:
    """Yield the keys of assets; a definition may have several."""
    for asset in assets:
        if isinstance(asset, dg.AssetsDefinition):
            yield from sorted(asset.keys)
        else:
            yield asset if isinstance(asset, dg.AssetKey) else asset.key


def io_manager_of(
    context: dg.OpExecutionContext | dg.AssetExecutionContext | dg.SensorEvaluationContext, resource_key: str
) -> Manager:
    """Return the resource of a run or a sensor, which must be one of DagFusion's IO managers."""
    manager = getattr(context.resources, resource_key)
    if not isinstance(manager, Manager):
        if isinstance(context, dg.SensorEvaluationContext):
            user = f"sensor {context.sensor_name!r}"
        elif isinstance(context, dg.AssetExecutionContext):
            user = f"asset {context.asset_key.to_user_string()!r}"
        else:
            user = f"job {context.job_name!r}"
        raise ConfigurationError(
            f"resource {resource_key!r} of {user} must be one of DagFusion's IO managers; got {type(manager).__name__}"
        )
    return manager


def build_job(
    op: dg.OpDefinition, called: str, *, name: str, description: str, tags: Mapping[str, Any] | None
) -> dg.JobDefinition:
    """Build a job of one op.

    Args:
        op: Whose definition has a name of its own in a code location.
        called: The op's name in the job, which is the same in all jobs of a kind.
        name: The job's.
        description: The job's, for Dagster's UI.
        tags: Tags of the job and its runs. Values that are no text become JSON.
    """

    @dg.job(name=name, description=description, tags=tags)
    def job() -> None:
        op.alias(called)()

    return job


@contextmanager
def table_to_maintain(table: str) -> Iterator[tuple[dg.DagsterInstance, Manager, dg.AssetKey]]:
    """Yield what a command needs for a table: Dagster's instance, an IO manager of the environment, and the asset.

    Args:
        table: The table's name, with its schema.

    Raises:
        ConfigurationError: No asset has this table's name, or the environment is not usable.
    """
    with deployment_to_maintain() as (instance, environment):
        manager = PartitionedS3ParquetIOManager(**environment.io_manager_fields())
        yield instance, manager, asset_key_of(instance, environment.name, table)


@contextmanager
def deployment_to_maintain() -> Iterator[tuple[dg.DagsterInstance, Environment]]:
    """Yield Dagster's instance and the environment of the process's variables, else those of the folder's local stack.

    Raises:
        ConfigurationError: There is no DAGSTER_HOME and no stack that runs, or the environment is not usable.
    """
    if os.environ.get("DAGSTER_HOME"):
        with dg.DagsterInstance.get() as instance:
            yield instance, Environment.from_process()
        return
    stack = _running_stack()
    with dg.DagsterInstance.from_config(stack["DAGSTER_HOME"]) as instance:
        yield instance, Environment.read(stack)


def _running_stack() -> Mapping[str, str]:
    """Return the variables of the folder's local stack."""
    needed = "DAGSTER_HOME must be set to the folder of the Dagster instance"
    if (name := os.environ.get("ENVIRONMENT") or LOCAL) != LOCAL:
        raise ConfigurationError(f"{needed}; it is not set, and ENVIRONMENT={name} is not the local stack")
    home = stack_home(os.environ)
    try:
        stack = stack_variables(os.environ)
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be read: {error.strerror}") from error
    if "DAGSTER_HOME" not in stack:
        why = f"no local stack was found in {home}"
        if os.environ.get("DAGFUSION_EVENT_LOG"):
            why = "DAGFUSION_EVENT_LOG names another event log than that of a local stack"
        raise ConfigurationError(f"{needed}; it is not set, and {why}")
    # Dagster would wait half a minute for a database that does not run.
    sockets = "".join(parse_qs(urlsplit(stack.get("DAGFUSION_EVENT_LOG", "")).query).get("host", []))
    if sockets.startswith("/") and not [*Path(sockets).glob(".s.PGSQL.*")]:
        raise ConfigurationError(f"the local stack in {home} does not run: start it with `dagfusion up -d`")
    return stack


def known_partitions(
    context: dg.OpExecutionContext,
    assets: Iterable[Asset],
    asset_key: dg.AssetKey,
) -> dg.PartitionsDefinition[Any]:
    """Return the partitions of an asset, by its definition: the given one, or else that of the code location.

    Raises:
        ConfigurationError: The asset has no partitions.
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
    """Return the asset of a table's name.

    Raises:
        ConfigurationError: The event log has none.
    """
    key_of_table = {str(table_name(environment, key.path)): key for key in instance.get_asset_keys()}
    if table not in key_of_table:
        near = ", ".join(sorted(key_of_table)[:5]) or "none"
        raise ConfigurationError(
            f"the event log has no asset with the table {table!r} in ENVIRONMENT={environment}; its tables are {near}"
        )
    return key_of_table[table]


def chosen_asset(name: str | None, keys: Sequence[dg.AssetKey]) -> dg.AssetKey:
    """Return the asset that a run's config names, or the only one of the job.

    Raises:
        ConfigurationError: The asset is not one of the job's, or the job has several and none is named.
    """
    found = [key for key in keys if name is None or key == dg.AssetKey.from_user_string(name)]
    if len(found) != 1:
        names = ", ".join(key.to_user_string() for key in keys)
        raise ConfigurationError(f"the config `asset` must be one of {names}; got {name!r}")
    return found[0]


def unfinished_runs(instance: dg.DagsterInstance, but: str = "") -> list[dg.DagsterRun]:
    """Return the runs that have not ended, without one of them."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(_UNFINISHED)))
    return [run for run in runs if run.run_id != but]


def may_write(run: dg.DagsterRun, asset_key: dg.AssetKey) -> bool:
    """Return True unless the run is known to be of other assets.

    A run of a whole job of assets has an empty selection in its own process, and none elsewhere.
    """
    is_whole = not run.asset_selection and not run.asset_check_selection
    return is_whole or asset_key in (run.asset_selection or ())


def refuse_busy(instance: dg.DagsterInstance, asset_key: dg.AssetKey, own_run: str = "") -> None:
    """Refuse to write an asset while another run may write it.

    Raises:
        BusyAssetError: Such a run has not ended.
    """
    for run in unfinished_runs(instance, but=own_run):
        if may_write(run, asset_key):
            raise BusyAssetError(
                f"run {run.run_id} of job {run.job_name!r} may write asset {asset_key.to_user_string()!r}:"
                " try again when it has ended"
            )


def objects_of(manager: Manager, asset_key: dg.AssetKey, others: Iterable[dg.AssetKey] = ()) -> Iterator[StoredObject]:
    """Yield the objects of an asset in the store, without its large objects.

    Args:
        manager: An IO manager with the asset's bucket and prefix.
        asset_key: The asset.
        others: All assets; those whose keys begin with the asset's key have their objects below its folder.
    """
    path, store = _path(manager, asset_key), manager.object_store
    nested = [_path(manager, other) for other in others if is_below(other, asset_key)]
    yield from (stored for stored in store.list_folder(path.rpartition("/")[0]) if is_file_of(path, stored.key))
    for stored in store.list_objects(path):
        if not any(_is_at(one, stored.key) for one in nested):
            yield stored


def is_below(other: dg.AssetKey, asset_key: dg.AssetKey) -> bool:
    """Return True if an asset has a longer key that begins with another's, and so its objects below its folder."""
    return len(other.path) > len(asset_key.path) and other.path[: len(asset_key.path)] == asset_key.path


def may_be_of(manager: Manager, asset_key: dg.AssetKey, key: str) -> bool:
    """Return True if an object has the name of a file of an asset, or is in its folder."""
    return _is_at(_path(manager, asset_key), key)


def is_in_partition_folder(manager: Manager, asset_key: dg.AssetKey, key: str) -> bool:
    """Return True if an object is in a folder of a partition of an asset, and so of no other asset.

    The folder of a partition column has a "=", which is escaped in the folder of a component of an asset key.
    """
    folder = f"{_path(manager, asset_key)}/"
    folders = key.removeprefix(folder).split("/")[:-1] if key.startswith(folder) else []
    return bool(folders) and all("=" in name for name in folders)


def large_objects_of(manager: Manager, asset_key: dg.AssetKey) -> list[StoredObject]:
    """Return the large objects of an asset, which are in its folder and not below it."""
    return list(manager.object_store.list_folder(consolidated_folder(manager.prefix, asset_key.path)))


def _is_at(path: str, key: str) -> bool:
    return key.startswith(f"{path}/") or is_file_of(path, key)


def _path(manager: Manager, asset_key: dg.AssetKey) -> str:
    return file_key(manager.prefix, asset_key.path, None, None).removesuffix(".parquet")

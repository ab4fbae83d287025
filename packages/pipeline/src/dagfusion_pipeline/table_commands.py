"""The consolidation, wipe and erasure of one table outside of a run, as the commands of `dagfusion` do them."""

import json
import uuid
from collections.abc import Callable, Collection

import dagster as dg

from dagfusion_pipeline import consolidate, erase, wipe
from dagfusion_pipeline.erasure_keys import Keys, read_keys
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.maintenance import asset_key_of, deployment_to_maintain, table_to_maintain


def consolidate_table(table: str, target_mb: float) -> str:
    """Consolidate a table and say what was done.

    Raises:
        ConfigurationError: No asset has this table's name, or the environment is not usable.
        StoreError: A request to the object store failed.
    """
    with table_to_maintain(table) as (instance, manager, key):
        found = consolidate.consolidate_asset(
            instance,
            manager,
            key,
            str(uuid.uuid4()),
            instance.report_runless_asset_event,
            target_bytes=int(target_mb * (1 << 20)),
        )
    return consolidate.described(key, found)


def wipe_table(
    table: str,
    partition_keys: Collection[str],
    deleted_dynamic: str | None,
    *,
    dry_run: bool,
    also_unknown: bool = False,
) -> str:
    """Wipe partitions of a table and say what was done.

    Args:
        table: The table's name, with its schema.
        partition_keys: The partitions, as Dagster names them.
        deleted_dynamic: The name of a DynamicPartitionsDefinition, whose deleted keys are wiped.
        dry_run: Whether nothing is wiped.
        also_unknown: Whether named partitions are wiped of which the event log has nothing.

    Raises:
        ConfigurationError: No asset has this table's name, the environment is not usable, nothing is asked for,
            or `deleted_dynamic` does not name the asset's partitions.
    """
    if not partition_keys and deleted_dynamic is None:
        raise ConfigurationError("no partition is named: use --partition KEY, or --deleted-dynamic NAME")
    definition = None if deleted_dynamic is None else dg.DynamicPartitionsDefinition(name=deleted_dynamic)
    with deployment_to_maintain() as (instance, environment):
        key = asset_key_of(instance, environment.name, table)
        if definition is not None:
            _refuse_dimensions(instance, key, definition)
        found = wipe.wipe_partitions(
            instance,
            key,
            partition_keys,
            deleted_dynamic=definition,
            also_unknown=also_unknown,
            dry_run=dry_run,
        )
    hint = "\nThis is a dry run. Add --yes to wipe them." if dry_run and found.partitions else ""
    return f"{wipe.described(key, found, dry_run=dry_run)}{hint}"


def erase_table_rows(
    table: str, column: str, keys_file: str, say: Callable[[str], None], *, dry_run: bool, as_json: bool
) -> None:
    """Erase rows of a table and say the proof, also of an erasure that is not complete.

    Args:
        table: The table's name, with its schema.
        column: That the keys are of.
        keys_file: A file with a key on each line, or `s3://bucket/key`.
        say: Prints the proof.
        dry_run: Whether nothing is written.
        as_json: Whether the proof is said as JSON.

    Raises:
        ConfigurationError: No asset has this table's name, or the environment, the column or the keys are not usable.
        BusyAssetError: A run may write the asset, or wrote it meanwhile.
        StoreError: A request to the object store failed.
    """
    with table_to_maintain(table) as (instance, manager, key):
        keys = Keys(column, read_keys(keys_file, manager))
        proof = erase.erase_rows(instance, manager, key, keys, run_id=str(uuid.uuid4()), dry_run=dry_run)
    hint = "\nThis is a dry run. Add --yes to rewrite them." if dry_run and proof.rewritten else ""
    say(json.dumps(proof.document, indent=2) if as_json else f"{erase.described(proof)}{hint}")
    erase.check_complete(proof)


def _refuse_dimensions(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, definition: dg.DynamicPartitionsDefinition
) -> None:
    """Refuse partitions of several dimensions: only the asset's definition says which part of a key is dynamic."""
    keys = definition.get_partition_keys(dynamic_partitions_store=instance)
    several = [key for key in instance.get_materialized_partitions(asset_key) if "|" in key]
    if not {*several} <= {*keys}:
        raise ConfigurationError(
            f"asset {asset_key.to_user_string()!r} has partitions of several dimensions, such as {min(several)!r}: use"
            " the job of build_wipe_job with deleted_dynamic, which has the definition, or --partition KEY"
        )

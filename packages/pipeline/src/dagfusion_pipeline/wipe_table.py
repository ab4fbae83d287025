"""The wipe of partitions of one table outside of a run, as the command `dagfusion wipe` does it."""

from collections.abc import Collection

import dagster as dg

from dagfusion_pipeline.environment import Environment
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.maintenance import asset_key_of
from dagfusion_pipeline.wipe import described, wipe_partitions


def wipe_table(table: str, partition_keys: Collection[str], deleted_dynamic: str | None, *, dry_run: bool) -> str:
    """Wipe partitions of a table and say what was done.

    Args:
        table: the table's name, with its schema.
        partition_keys: the partitions, as Dagster names them.
        deleted_dynamic: the name of a DynamicPartitionsDefinition, whose deleted keys are wiped.
        dry_run: whether nothing is wiped.

    Raises:
        ConfigurationError: no asset has this table's name, the environment is not usable, or nothing is asked for.
    """
    if not partition_keys and deleted_dynamic is None:
        raise ConfigurationError("no partition is named: use --partition KEY, or --deleted-dynamic NAME")
    environment = Environment.from_process()
    definition = None if deleted_dynamic is None else dg.DynamicPartitionsDefinition(name=deleted_dynamic)
    with dg.DagsterInstance.get() as instance:
        key = asset_key_of(instance, environment.name, table)
        found = wipe_partitions(instance, key, partition_keys, deleted_dynamic=definition, dry_run=dry_run)
    hint = "\nThis is a dry run. Add --yes to wipe them." if dry_run and found.partitions else ""
    return f"{described(key, found, dry_run=dry_run)}{hint}"

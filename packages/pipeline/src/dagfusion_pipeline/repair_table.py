"""The repair of one table's events outside of a run, as the command `dagfusion repair` does it."""

import dagster as dg

from dagfusion_pipeline.environment import Environment
from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager
from dagfusion_pipeline.maintenance import asset_key_of
from dagfusion_pipeline.repair import described, repair_asset


def repair_table(table: str, *, dry_run: bool) -> str:
    """Repair the events of a table and say what was logged.

    Args:
        table: the table's name, with its schema.
        dry_run: whether nothing is logged.

    Raises:
        BusyAssetError: a run may write the asset.
        ConfigurationError: no asset has this table's name, or the environment is not usable.
        StoreError: the object store did not do what was asked.
    """
    environment = Environment.from_process()
    manager = PartitionedS3ParquetIOManager(**environment.io_manager_fields())
    with dg.DagsterInstance.get() as instance:
        key = asset_key_of(instance, environment.name, table)
        found = repair_asset(instance, manager, key, dry_run=dry_run)
    hint = "\nThis is a dry run. Add --yes to log them." if dry_run and (found.missing or found.changed) else ""
    return f"{described(found, dry_run=dry_run)}{hint}"

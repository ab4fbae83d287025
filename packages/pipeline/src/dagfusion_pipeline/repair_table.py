"""The repair of one table's events outside of a run, as the command `dagfusion repair` does it."""

from dagfusion_pipeline.maintenance import table_to_maintain
from dagfusion_pipeline.repair import described, repair_asset


def repair_table(table: str, *, dry_run: bool) -> str:
    """Repair the events of a table and say what was logged.

    Args:
        table: The table's name, with its schema.
        dry_run: Whether nothing is logged.

    Raises:
        BusyAssetError: A run may write the asset.
        ConfigurationError: No asset has this table's name, or the environment is not usable.
        StoreError: A request to the object store failed.
    """
    with table_to_maintain(table) as (instance, manager, key):
        found = repair_asset(instance, manager, key, dry_run=dry_run)
    hint = "\nThis is a dry run. Add --yes to log them." if dry_run and (found.missing or found.changed) else ""
    return f"{described(found, dry_run=dry_run)}{hint}"

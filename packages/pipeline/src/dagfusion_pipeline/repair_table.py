"""The repair of tables' events outside of a run, as `dagfusion repair` and `dagfusion doctor --repair` do it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dagfusion_pipeline.errors import PipelineError
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


def repair_tables(tables: Sequence[str], *, dry_run: bool) -> list[dict[str, Any]]:
    """Repair the events of tables. One that cannot be repaired does not stop the others.

    `dagfusion doctor` finds this function by the entry point `dagfusion.repair`, and its result is part of its JSON.

    Args:
        tables: The names of tables, with their schemas.
        dry_run: Whether nothing is logged.

    Returns:
        For each table `table`, and either `error`, or the fields of `Repair` and `summary`, the lines of text of
        `dagfusion repair`.
    """
    done = list[dict[str, Any]]()
    for table in tables:
        try:
            with table_to_maintain(table) as (instance, manager, key):
                found = repair_asset(instance, manager, key, dry_run=dry_run)
        except PipelineError as error:
            done.append({"table": table, "error": str(error)})
        else:
            done.append({"table": table, **asdict(found), "summary": described(found, dry_run=dry_run)})
    return done

"""The consolidation of one table outside of a run, as the command `dagfusion consolidate` does it."""

import uuid

from dagfusion_pipeline.consolidate import consolidate_asset, described
from dagfusion_pipeline.maintenance import table_to_maintain


def consolidate_table(table: str, target_mb: float) -> str:
    """Consolidate a table and say what was done.

    Raises:
        ConfigurationError: No asset has this table's name, or the environment is not usable.
        StoreError: A request to the object store failed.
    """
    with table_to_maintain(table) as (instance, manager, key):
        found = consolidate_asset(
            instance,
            manager,
            key,
            str(uuid.uuid4()),
            instance.report_runless_asset_event,
            target_bytes=int(target_mb * (1 << 20)),
        )
    return described(key, found)

"""The erasure of rows of one table outside of a run, as the command `dagfusion erase` does it."""

import json
import uuid
from collections.abc import Callable

from dagfusion_pipeline.erase import check_complete, described, erase_rows
from dagfusion_pipeline.erasure_keys import read_keys
from dagfusion_pipeline.erasure_plan import Keys
from dagfusion_pipeline.maintenance import table_to_maintain


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
        proof = erase_rows(instance, manager, key, keys, run_id=str(uuid.uuid4()), dry_run=dry_run)
    hint = "\nThis is a dry run. Add --yes to rewrite them." if dry_run and proof.rewritten else ""
    say(json.dumps(proof.document, indent=2) if as_json else f"{described(proof)}{hint}")
    check_complete(proof)

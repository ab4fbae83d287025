"""The repair of tables' events outside of a run, as `dagfusion repair` and `dagfusion doctor --repair` do it."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from dagfusion_pipeline.errors import ConfigurationError, PipelineError
from dagfusion_pipeline.maintenance import Manager, table_to_maintain
from dagfusion_pipeline.repair import described, repair_asset


def repair_table(table: str, *, dry_run: bool) -> str:
    """Repair the events of a table and say what was logged.

    Args:
        table: The table's name, with its schema.
        dry_run: Whether nothing is logged.

    Raises:
        BusyAssetError: A run may write the asset.
        ConfigurationError: No asset has this table's name, or the environment is not usable.
        PipelineError: An error ended it early, or an object is not repaired; the text has what was logged before.
        StoreError: A request to the object store failed.
    """
    with table_to_maintain(table) as (instance, manager, key):
        found = repair_asset(instance, manager, key, dry_run=dry_run)
    if found.stopped is not None or (found.not_repaired and not dry_run):
        raise PipelineError(described(found, dry_run=dry_run))
    hint = "\nThis is a dry run. Add --yes to log them." if dry_run and (found.missing or found.changed) else ""
    return f"{described(found, dry_run=dry_run)}{hint}"


def repair_tables(
    objects: Mapping[str, Collection[str]], endpoints: Mapping[str, str | None], *, dry_run: bool
) -> list[dict[str, Any]]:
    """Repair the events of objects of tables. A table that cannot be repaired does not stop the others.

    `dagfusion doctor` finds this function by the entry point `dagfusion.repair`, and its result is part of its JSON.

    Args:
        objects: The URIs of the missing and changed objects, by the names of their tables, with their schemas. Only
            these are repaired.
        endpoints: The endpoint of the store in which they were looked for, by table; None for that of AWS.
        dry_run: Whether nothing is logged.

    Returns:
        For each table `table`, and either `error`, or the fields of `Repair` and `summary`, the lines of text of
        `dagfusion repair`.
    """
    done = list[dict[str, Any]]()
    for table, uris in objects.items():
        try:
            with table_to_maintain(table) as (instance, manager, key):
                _check_store(manager, uris, endpoints[table])
                found = repair_asset(instance, manager, key, only=frozenset(uris), dry_run=dry_run)
        except PipelineError as error:
            done.append({"table": table, "error": str(error)})
        except Exception as error:  # noqa: BLE001  # a database or a store may raise anything, and it is reported
            done.append({"table": table, "error": f"{type(error).__name__}: {error}"})
        else:
            done.append({"table": table, **asdict(found), "summary": described(found, dry_run=dry_run)})
    return done


def _check_store(manager: Manager, uris: Collection[str], endpoint: str | None) -> None:
    """Refuse objects that were looked for in another store than that of the IO manager.

    Raises:
        ConfigurationError: The endpoint or the bucket is another one.
    """
    own = manager.endpoint_url
    if (own or "").rstrip("/") != (endpoint or "").rstrip("/"):
        raise ConfigurationError(
            f"the objects were searched at {_shown(endpoint)}, and AWS_ENDPOINT_URL of the IO managers is"
            f" {_shown(own)}: give both the same endpoint"
        )
    root = manager.object_store.uri("")
    elsewhere = next((uri for uri in uris if not uri.startswith(root)), None)
    if elsewhere is not None:
        raise ConfigurationError(
            f"{elsewhere} is outside of {root}, the bucket of the IO managers: set S3_BUCKET to the one that it is in"
        )


def _shown(endpoint: str | None) -> str:
    return endpoint or "that of AWS"

"""Fill an environment with the partitioned assets that the catalog lacks, by one Dagster run for each asset."""

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dagfusion_contract.environments import LOCAL
from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from dagfusion_stack import documented_queries as tables
from dagfusion_stack import materialize
from dagfusion_stack.answers import SeededAsset
from dagfusion_stack.demo import Progress
from dagfusion_stack.errors import SettingError
from dagfusion_stack.settings import Settings
from dagfusion_stack.stores import run_environ, running_stores

SEEDED = (tables.REGISTER, tables.ORGANIZATIONS, tables.EXPORT, tables.ORDERS)


def run(
    settings: Settings, progress: Progress, extent: materialize.Extent, *, seed: int | None = None
) -> list[SeededAsset]:
    """Materialize what is missing of the two partitioned assets and the exports that they derive from.

    Args:
        settings: The settings of the stack, which is used unless the process's variables name another environment.
        progress: Shows how far it is.
        extent: The partitions that the assets shall have at least.
        seed: What the data starts from; None for the code location's own.

    Raises:
        StackError: The stack did not start, or a run failed; what its runs logged before is in the catalog.
    """
    with (
        _environment(settings, progress) as variables,
        run_environ(),
        materialize.instance(Path(variables["DAGSTER_HOME"])) as instance,
        connect_embedded(settings=variables) as connection,
    ):
        spent: dict[str, tuple[int, float]] = {}
        for task in materialize.plan(_present(connection), extent):
            if task.table not in SEEDED:
                continue
            started = time.monotonic()
            with progress.step(f"Materializing {'/'.join(materialize.ASSETS[task.table])}", task.partitions) as advance:
                way = materialize.Way(checks=False, seed=seed, advance=advance)
                materialize.materialize(task, instance, variables, way)
            spent[task.table] = (task.partitions, time.monotonic() - started)
        if not spent:
            progress.say("Everything is materialized already")
        connection.refresh()
        return _seeded(connection, spent)


@contextmanager
def _environment(settings: Settings, progress: Progress) -> Iterator[Mapping[str, str]]:
    """Return the variables of the target: the process's own if they name a DAGSTER_HOME, else the stack's."""
    if os.environ.get("DAGSTER_HOME"):
        yield {name: value for name, value in os.environ.items() if name != "DAGFUSION_HOME"}
    elif (name := os.environ.get("ENVIRONMENT") or LOCAL) != LOCAL:
        raise SettingError(f"DAGSTER_HOME must be set to fill ENVIRONMENT={name}: the runs are logged there")
    else:
        with running_stores(settings, "seed", progress.say) as variables:
            yield variables


def _present(connection: EmbeddedConnection) -> Mapping[str, Collection[str | None]]:
    """Return the partition keys that the catalog has, by the table's name in the reference code location."""
    found = {table.asset_key: table for table in connection.refresh().tables.values()}
    return {
        name: set(found[tuple(key)].files["partition_key"].to_pylist())
        for name, key in materialize.ASSETS.items()
        if tuple(key) in found
    }


def _seeded(connection: EmbeddedConnection, spent: Mapping[str, tuple[int, float]]) -> list[SeededAsset]:
    found = {info.asset_key: info for info in connection.tables()}
    seeded = []
    for table in SEEDED:
        key = tuple(materialize.ASSETS[table])
        info = found[key]
        written, seconds = spent.get(table, (0, 0.0))
        seeded.append(SeededAsset("/".join(key), info.name, info.partitions, info.rows, info.bytes, written, seconds))
    return seeded

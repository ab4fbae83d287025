"""The data set's table again, in objects with field ids and partition columns, which Daft needs.

It has an event log of its own, so the catalog of the data set stays as it is. Both are kept with the data.
"""

import json
from collections.abc import Mapping
from dataclasses import replace

import dagster as dg
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from benchmarks.dataset import PREFIX, TABLE, Dataset, Place, Say
from dagfusion_pipeline.environment import Environment
from dagfusion_query.connection import connect_embedded
from dagfusion_reference.definitions import code_location
from dagfusion_reference.defs.resources import MeasuredHiveParquet, resources
from dagfusion_stack import dagster, materialize

DATABASE = "with_ids"
OPTIONS = {"field_ids": True, "partition_columns_in_files": True}


def written(data: Dataset, say: Say) -> Place:
    """Return the place of the table; materialize it if it is not complete.

    Args:
        data: The data set, whose servers run.
        say: Takes one line of progress.
    """
    place = _place(data.place)
    if _partitions(place) != data.partitions:
        say(f"Materializing {data.partitions} partitions of {TABLE} with field ids")
        _create_database(data.place.event_log)
        _materialize(data, place)
    return place


def _place(place: Place) -> Place:
    """Return the place of the same store, with an event log of its own."""
    rest = {name: value for name, value in place.variables.items() if name != "DAGFUSION_CATALOG_CHECKPOINT"}
    host = conninfo_to_dict(place.event_log)
    event_log = f"postgresql://{host['user']}@/{DATABASE}?host={host['host']}"
    return replace(place, variables={**rest, "DAGFUSION_EVENT_LOG": event_log})


def _partitions(place: Place) -> int:
    """Count the partitions that the event log has."""
    with psycopg.connect(place.event_log, dbname="postgres") as server:
        if server.execute("select from pg_database where datname = %s", (DATABASE,)).fetchone() is None:
            return 0
    with connect_embedded(settings={**place.variables, "DAGFUSION_STATE_DIR": "none"}) as connection:
        return sum(info.partitions for info in connection.tables() if info.name == TABLE)


def _create_database(event_log: str) -> None:
    with psycopg.connect(event_log, autocommit=True) as server:
        name = sql.Identifier(DATABASE)
        server.execute(sql.SQL("drop database if exists {}").format(name))
        server.execute(sql.SQL("create database {}").format(name))


def _materialize(data: Dataset, place: Place) -> None:
    home = data.home / "with_ids"
    home.mkdir(exist_ok=True)
    url = place.event_log.replace("postgresql://", dagster.DRIVER, 1)
    storage = {"storage": {"postgres": {"postgres_url": url}}, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_text(json.dumps(storage))
    [run] = [
        run
        for run in materialize.plan({}, materialize.Extent(data.days, data.states))
        if run.table == TABLE and run.partitions == data.partitions
    ]
    with materialize.instance(home) as instance:
        definitions = code_location(_resources(place.variables))
        job = dg.Definitions(assets=definitions.assets, resources=definitions.resources)
        job.resolve_implicit_global_asset_job_def().execute_in_process(
            materialize.NO_CONSOLE_LOG,
            instance,
            asset_selection=[dg.AssetKey([*materialize.ASSETS[TABLE]])],
            tags=run.tags(),
        )


def _resources(variables: Mapping[str, str]) -> dict[str, object]:
    """Return the resources of the code location, which write the objects of partitions under another prefix."""
    environment = Environment.read(variables)
    fields = {**environment.io_manager_fields(), "prefix": f"{PREFIX}_{DATABASE}", **OPTIONS}
    return {**resources(environment), "hive_parquet": MeasuredHiveParquet(**fields)}

"""The whole flow once: materialize, discover, register, query, and check every answer against the stored objects."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import dagster as dg
import polars as pl

import dagfusion_query
from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from dagfusion_stack import answers, lake, materialize
from dagfusion_stack.answers import Answer, AssetReport, QueryReport, Report
from dagfusion_stack.documented_queries import QUERIES, DocumentedQuery
from dagfusion_stack.errors import DemoError
from dagfusion_stack.home import Home
from dagfusion_stack.settings import Settings
from dagfusion_stack.stores import run_environ, running_stores

Answered = tuple[pl.DataFrame, dagfusion_query.QueryStats]


class Progress(Protocol):
    """The progress of the demo."""

    def say(self, line: str) -> None:
        """Show a line."""

    def step(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show a step of `total` parts; what it gives is called with the number of parts done since."""


def run(settings: Settings, progress: Progress, extent: materialize.Extent, started: float) -> Report:
    """Run the demo over the stack of the state folder, which is started when it does not run, and then stopped.

    Args:
        settings: The settings of the stack.
        progress: Shows how far the demo is.
        extent: The partitions that the partitioned assets shall have at least.
        started: When the command came in (`time.monotonic`).

    Raises:
        StackError: The stack did not start, a run failed, or the catalog and the stored objects disagree.
    """
    with running_stores(settings, "demo", progress.say) as variables, run_environ():
        with (
            materialize.instance(Home(settings.home).dagster) as instance,
            connect_embedded(settings=variables) as connection,
        ):
            _materialize(connection, instance, variables, progress, extent)
            assets = _assets(connection)
            answered = _run_queries(connection, progress)
        stored = _read_objects(variables, assets, progress)
    rows = {table: content.rows for table, content in stored.items()}
    checked = [_checked(query, one, rows) for query, one in zip(QUERIES, answered, strict=True)]
    return Report(time.monotonic() - started, assets, checked)


def _materialize(
    connection: EmbeddedConnection,
    instance: dg.DagsterInstance,
    variables: Mapping[str, str],
    progress: Progress,
    extent: materialize.Extent,
) -> None:
    found = connection.refresh().tables
    have = {str(name): set(table.files["partition_key"].to_pylist()) for name, table in found.items()}
    runs = materialize.plan(have, extent)
    if not runs:
        progress.say("Everything is materialized already")
    for task in runs:
        with progress.step(f"Materializing {'/'.join(materialize.ASSETS[task.table])}", task.partitions) as advance:
            way = materialize.Way(partial=extent.is_partial(), advance=advance)
            materialize.materialize(task, instance, variables, way)
    connection.refresh()


def _assets(connection: EmbeddedConnection) -> list[AssetReport]:
    found = {info.name: info for info in connection.tables()}
    if missing := sorted(set(materialize.ASSETS) - set(found)):
        raise DemoError(f"the catalog lacks {', '.join(missing)} although Dagster materialized them")
    return [
        AssetReport("/".join(key), table, found[table].partitions, found[table].rows, found[table].bytes)
        for table, key in materialize.ASSETS.items()
    ]


def _run_queries(connection: EmbeddedConnection, progress: Progress) -> list[Answered]:
    answered = []
    with progress.step("Querying", len(QUERIES)) as advance:
        for query in QUERIES:
            result = connection.sql(query.sql)
            answered.append((result.to_polars(), result.stats))
            advance(1)
    return answered


def _read_objects(
    variables: Mapping[str, str], assets: Sequence[AssetReport], progress: Progress
) -> Mapping[str, lake.StoredTable]:
    keys = {asset.table: asset.key for asset in assets}
    with progress.step("Reading the stored objects", sum(asset.partitions for asset in assets)) as advance:
        stored = lake.read(variables, keys, advance)
    for asset in assets:
        content = stored[asset.table]
        counted = (len(content.objects), content.rows.height, sum(content.objects.values()))
        if counted != (asset.partitions, asset.rows, asset.bytes):
            raise DemoError(
                f"the catalog has {asset.partitions} partitions, {asset.rows} rows and {asset.bytes} bytes of "
                f"{asset.key}, and the bucket {counted[0]} objects, {counted[1]} rows and {counted[2]} bytes: run the "
                "demo with more days and states if one was interrupted, or start anew with another DAGFUSION_HOME"
            )
    return stored


def _checked(query: DocumentedQuery, answered: Answered, rows: Mapping[str, pl.DataFrame]) -> Answer:
    frame, stats = answered
    actual = frame.rows()
    difference = answers.difference(actual, query.answer(rows).rows())
    files = query.files(rows) if query.files else stats.files_read
    if difference is None and stats.files_read != files:
        difference = f"it read {stats.files_read} files and should have read {files}"
    report = QueryReport(
        query.name,
        query.sql,
        len(actual),
        stats.files_total,
        stats.files_read,
        stats.files_skipped,
        stats.bytes_read,
        round(stats.seconds, 6),
        ok=difference is None,
    )
    return Answer(query.title, frame.columns, actual, report, difference)

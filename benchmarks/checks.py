"""All kinds of checks of a table from the records in its events, and the same events read by Dagster's own function."""

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import dagster as dg

from benchmarks.dataset import TABLE, Dataset
from dagfusion_pipeline import partition_checks
from dagfusion_reference.defs.partitions import FIRST_DAY
from dagfusion_reference.defs.states import CODES
from dagfusion_stack import materialize

OURS, DAGSTERS = "DagFusion", "Dagster reads the events, and checks nothing"
_KEY = dg.AssetKey([*materialize.ASSETS[TABLE]])
_PAGE = 1_000  # the most that Dagster returns at once
_EVER = dt.timedelta(days=100 * 365)

Checks = Callable[[], list[dg.AssetCheckEvaluation]]


@contextmanager
def checks(data: Dataset) -> Iterator[Checks]:
    """Yield a function that checks all partitions in a run, and returns the results; at the end, delete its runs."""
    days = dg.DailyPartitionsDefinition(FIRST_DAY.isoformat(), (FIRST_DAY + dt.timedelta(days=data.days)).isoformat())
    by_state = dg.MultiPartitionsDefinition({"date": days, "state": dg.StaticPartitionsDefinition(CODES)})
    asset = dg.AssetSpec(_KEY, partitions_def=by_state)
    definition = partition_checks(
        asset,
        rows=(1, None),
        not_null=["npi"],
        bounds={"provider_count": (1, None)},
        complete=True,
        schema=True,
        fresh_within=_EVER,
    )
    job = dg.define_asset_job("check_all", selection=dg.AssetSelection.checks(definition))
    made = dg.Definitions(assets=[asset], asset_checks=[definition], jobs=[job]).resolve_job_def("check_all")
    runs = list[str]()

    def run() -> list[dg.AssetCheckEvaluation]:
        result = made.execute_in_process(materialize.NO_CONSOLE_LOG, data.instance)
        runs.append(result.run_id)
        return list(result.get_asset_check_evaluations())

    try:
        yield run
    finally:
        for run_id in runs:
            data.instance.delete_run(run_id)


def are_right(results: list[dg.AssetCheckEvaluation], partitions: int) -> bool:
    """Return True if there is a result of each kind of check, over all partitions, and all of them passed."""
    return len(results) == 6 and all(  # rows, nulls, bounds, completeness, columns, freshness
        result.passed and result.metadata["partitions"].value == partitions for result in results
    )


def read_by_dagster(data: Dataset) -> int:
    """Read the materializations of the table by pages, and return how many partitions they have."""
    seen, cursor, has_more = set[str | None](), None, True
    while has_more:
        page = data.instance.fetch_materializations(_KEY, limit=_PAGE, cursor=cursor)
        seen |= {record.partition_key for record in page.records}
        cursor, has_more = page.cursor, page.has_more
    return len(seen)

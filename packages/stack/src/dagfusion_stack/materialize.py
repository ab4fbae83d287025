"""The reference assets' partitions that the catalog lacks, materialized through Dagster: one run for each asset."""

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow as pa

from dagfusion_pipeline.environment import Environment
from dagfusion_reference.definitions import code_location
from dagfusion_reference.defs.partitions import FIRST_DAY
from dagfusion_reference.defs.resources import MeasuredHiveParquet, Metrics, resources
from dagfusion_reference.defs.states import CODES
from dagfusion_stack import documented_queries as tables
from dagfusion_stack.errors import DemoError

# Upstream first. The partitions of each: none, every day and state, or every day.
ASSETS: Mapping[str, Sequence[str]] = {
    tables.REGISTER: ("Silver", "TaxID", "raw_organizations"),
    tables.ORGANIZATIONS: ("Silver", "TaxID", "partitioned_organizations"),
    tables.ORG_AGGREGATES: ("Gold", "Analytics", "daily_org_aggregates"),
    tables.EXPORT: ("Bronze", "Commerce", "raw_orders"),
    tables.ORDERS: ("Silver", "Commerce", "partitioned_orders"),
    tables.SALES_AGGREGATES: ("Gold", "Analytics", "daily_sales_aggregates"),
}
BY_DAY_AND_STATE = (tables.ORGANIZATIONS, tables.ORDERS)
BY_DAY = {tables.ORG_AGGREGATES: tables.ORGANIZATIONS, tables.SALES_AGGREGATES: tables.ORDERS}
NO_CONSOLE_LOG = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

Keys = Collection[str | None]


@dataclass(frozen=True)
class Extent:
    """A number of days from the first, and of states from the first, by name."""

    days: int
    states: int

    def dates(self) -> list[str]:
        """Return the partition keys of the days."""
        return [(FIRST_DAY + dt.timedelta(days=day)).isoformat() for day in range(self.days)]

    def codes(self) -> Sequence[str]:
        """Return the partition keys of the states."""
        return CODES[: self.states]

    def is_partial(self) -> bool:
        """Return True if states are left out, so that they are missing in a day's aggregates."""
        return self.states < len(CODES)


@dataclass(frozen=True)
class Run:
    """One Dagster run to do: an asset's partitions from the first to the last, in every dimension."""

    table: str
    partitions: int
    first: str | None = None
    last: str | None = None

    def tags(self) -> dict[str, str]:
        """Return the run tags that select the partitions."""
        if self.first is None or self.last is None:
            return {}
        return {"dagster/asset_partition_range_start": self.first, "dagster/asset_partition_range_end": self.last}


def plan(have: Mapping[str, Keys], extent: Extent) -> list[Run]:
    """Plan the runs that make every asset complete; aggregates are made again when their partitions are.

    Args:
        have: The partition keys that the catalog has, by table; an unpartitioned table has None.
        extent: The days and states that are wanted.
    """
    dates, codes = extent.dates(), extent.codes()
    runs: dict[str, Run] = {}
    touched: dict[str, set[str]] = {}
    for table in ASSETS:
        present = have.get(table, ())
        if table in BY_DAY_AND_STATE:
            missing = [(date, state) for date in dates for state in codes if f"{date}|{state}" not in present]
            touched[table] = {date for date, _ in missing}
            if missing:
                runs[table] = _rectangle(table, missing, dates, codes)
        elif table in BY_DAY:
            stale = [date for date in dates if date not in present or date in touched[BY_DAY[table]]]
            if stale:
                covered = _covered(dates, stale)
                runs[table] = Run(table, len(covered), covered[0], covered[-1])
        elif None not in present:
            runs[table] = Run(table, 1)
    return list(runs.values())


def _rectangle(table: str, missing: Iterable[tuple[str, str]], dates: Sequence[str], codes: Sequence[str]) -> Run:
    pairs = list(missing)
    covered_dates = _covered(dates, [date for date, _ in pairs])
    covered_codes = _covered(codes, [code for _, code in pairs])
    first, last = f"{covered_dates[0]}|{covered_codes[0]}", f"{covered_dates[-1]}|{covered_codes[-1]}"
    return Run(table, len(covered_dates) * len(covered_codes), first, last)


def _covered(all_keys: Sequence[str], keys: Collection[str]) -> Sequence[str]:
    wanted = frozenset(keys)
    places = [place for place, key in enumerate(all_keys) if key in wanted]
    return all_keys[places[0] : places[-1] + 1]


@contextmanager
def instance(dagster_home: Path) -> Iterator[dg.DagsterInstance]:
    """Open Dagster's instance; its tables are there afterwards."""
    with dg.DagsterInstance.from_config(str(dagster_home)) as opened:
        yield opened


@dataclass(frozen=True)
class Way:
    """The way in which runs are executed.

    Attributes:
        partial: Aggregates of days with fewer than all states are fine.
        checks: Whether the assets' checks run too.
        seed: What the data starts from; None for the code location's own.
        advance: Called with 1 for each object of a partitioned asset, before it is uploaded.
    """

    partial: bool = False
    checks: bool = True
    seed: int | None = None
    advance: Callable[[int], None] | None = None


def materialize(run: Run, opened: dg.DagsterInstance, variables: Mapping[str, str], way: Way) -> None:
    """Do one run in this process.

    Args:
        run: What to materialize.
        opened: Dagster's instance.
        variables: Where the store is, as in `stack.env`.
        way: How.

    Raises:
        DemoError: The run failed; the message is the failure's.
    """
    seed = {"resources": {"seed": {"config": {"value": way.seed}}}} if way.seed is not None else {}
    result = (
        _definitions(Environment.read(variables), way)
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=opened,
            run_config={**NO_CONSOLE_LOG, **seed},
            asset_selection=[dg.AssetKey(ASSETS[run.table])],
            tags=run.tags(),
            raise_on_error=False,
        )
    )
    if not result.success:
        raise DemoError(f"Dagster's run {result.run_id} of {'/'.join(ASSETS[run.table])} failed: {_cause(result)}")


def _definitions(environment: Environment, way: Way) -> dg.Definitions:
    provided = resources(environment)
    if way.advance is not None:
        provided["hive_parquet"] = _counted(environment, way.advance)
    definitions = code_location(provided)
    if not way.checks:
        definitions = dg.Definitions(assets=definitions.assets, resources=definitions.resources)
    return definitions.map_asset_specs(func=_allow_missing) if way.partial else definitions


def _counted(environment: Environment, advance: Callable[[int], None]) -> MeasuredHiveParquet:
    class Counted(MeasuredHiveParquet):
        def metrics(self, context: dg.OutputContext, table: pa.Table) -> Metrics:
            advance(1)
            return super().metrics(context, table)

    return Counted(**environment.io_manager_fields())


def _allow_missing(spec: dg.AssetSpec) -> dg.AssetSpec:
    return spec.merge_attributes(metadata={"allow_missing_partitions": True})


def _cause(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error and error.cause:
                error = error.cause
            if error and error.cls_name == "DagsterExecutionInterruptedError":
                raise KeyboardInterrupt  # which Dagster caught, to log that the run was stopped
            if error:
                return error.message.strip().splitlines()[0]
    return "Dagster's UI shows why (`dagfusion up`)"

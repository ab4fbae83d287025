"""How the assets are partitioned: by day, and by day and state."""

import datetime as dt
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import dagster as dg

from dagfusion_pipeline.defs.states import CODES

FIRST_DAY = dt.date(2024, 1, 1)

daily = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat())
daily_by_state = dg.MultiPartitionsDefinition({"date": daily, "state": dg.StaticPartitionsDefinition(CODES)})


def partitioned_asset(**options: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dagster.asset` with a backfill of few runs for many partitions, in place of one run for each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster's word for backfill policies
        decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
            backfill_policy=dg.BackfillPolicy.single_run(), **options
        )
    return decorate


class StateDay(NamedTuple):
    """One partition: a state on a day."""

    date: dt.date
    state: str


def state_days(keys: Iterable[str]) -> list[StateDay]:
    """The partitions that multi-partition keys name, in their order."""
    return [_state_day(key) for key in keys]


def _state_day(key: str) -> StateDay:
    dimensions = daily_by_state.get_partition_key_from_str(key).keys_by_dimension
    return StateDay(dt.date.fromisoformat(dimensions["date"]), dimensions["state"])

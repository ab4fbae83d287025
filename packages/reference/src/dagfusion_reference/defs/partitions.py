"""How the assets are partitioned: by day, and by day and state."""

import datetime as dt
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import dagster as dg

from dagfusion_reference.defs.states import CODES

FIRST_DAY = dt.date(2024, 1, 1)
DAYS_A_RUN = 31  # of an asset that reads all states of its days, and holds them in memory

daily = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat())
daily_by_state = dg.MultiPartitionsDefinition({"date": daily, "state": dg.StaticPartitionsDefinition(CODES)})


def partitioned_asset(
    *, partitions_a_run: int | None = None, **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dagster.asset` whose backfill is few runs for many partitions, in place of one run for each.

    Args:
        partitions_a_run: The most that one run of a backfill may have; without it there is no limit.
        options: The options of `dagster.asset`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # Dagster's word for backfill policies
        decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
            backfill_policy=dg.BackfillPolicy(partitions_a_run), **options
        )
    return decorate


class StateDay(NamedTuple):
    """One partition: a state on a day."""

    date: dt.date
    state: str


def state_days(keys: Iterable[str]) -> list[StateDay]:
    """Return the partitions that multi-partition keys name, in their order."""
    return [_state_day(key) for key in keys]


def _state_day(key: str) -> StateDay:
    dimensions = daily_by_state.get_partition_key_from_str(key).keys_by_dimension
    return StateDay(dt.date.fromisoformat(dimensions["date"]), dimensions["state"])

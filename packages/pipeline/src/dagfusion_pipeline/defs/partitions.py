"""How the assets are partitioned: by day, and by day and state."""

import datetime as dt
from collections.abc import Iterable
from typing import NamedTuple

import dagster as dg

from dagfusion_pipeline.defs.states import CODES

FIRST_DAY = dt.date(2024, 1, 1)

daily = dg.DailyPartitionsDefinition(start_date=FIRST_DAY.isoformat())
daily_by_state = dg.MultiPartitionsDefinition({"date": daily, "state": dg.StaticPartitionsDefinition(CODES)})


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

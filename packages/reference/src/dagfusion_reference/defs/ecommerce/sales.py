"""What a state orders on a day: more before the holidays, at weekends and where more people live."""

import datetime as dt
from collections.abc import Sequence

import numpy as np
import polars as pl

from dagfusion_reference.defs.draws import Draws, Floats, Integers, rows_of, seeds_of
from dagfusion_reference.defs.ecommerce.export import SCHEMA as EXPORT_SCHEMA
from dagfusion_reference.defs.partitions import StateDay
from dagfusion_reference.defs.states import POSITION, by_size
from dagfusion_reference.defs.streaming import scan_partitions

FEWEST_ROWS, MOST_ROWS = 100, 1_000
SCHEMA = pl.Schema({**EXPORT_SCHEMA, "state": pl.String(), "date": pl.Date()})

_MOST_BY_STATE = by_size(FEWEST_ROWS, MOST_ROWS)
_WEEKDAYS = (0.84, 0.80, 0.80, 0.83, 0.90, 1.00, 0.97)  # Monday to Sunday
_MONTHS = (0.72, 0.70, 0.74, 0.75, 0.78, 0.76, 0.82, 0.80, 0.77, 0.82, 0.97, 1.00)


def state_orders(export: pl.DataFrame, partitions: Sequence[StateDay], seed: int) -> pl.LazyFrame:
    """Return 100 to 1,000 orders of each partition: baskets of the export, ordered again under an id of their own.

    Raises:
        ValueError: The export has no orders.
    """
    if export.is_empty():
        raise ValueError("raw_orders has no rows to draw orders from: materialize raw_orders again")
    baskets = export.select(pl.exclude("order_id"))

    def draw(chunk: Sequence[StateDay]) -> pl.DataFrame:
        seeds = seeds_of([(seed, "partitioned_orders", *partition) for partition in chunk])
        state = np.array([POSITION[partition.state] for partition in chunk])
        counts = _row_counts(Draws(seeds), state, [partition.date for partition in chunk])
        keys, place = rows_of(seeds, counts)
        of_row = np.repeat(np.arange(len(chunk)), counts)
        return (
            baskets[Draws(keys).integers("basket", 0, baskets.height)]
            .with_columns(
                order_id=pl.Series(_first_order_ids(chunk)[of_row] + place),
                state=pl.Series([partition.state for partition in chunk])[of_row],
                date=pl.Series([partition.date for partition in chunk])[of_row],
            )
            .select(SCHEMA.names())
        )

    return scan_partitions(partitions, draw, SCHEMA)


def activity(days: Sequence[dt.date]) -> Floats:
    """Return the activity of a day, as a share of that of the busiest day of a year."""
    return np.array([_WEEKDAYS[day.weekday()] * _MONTHS[day.month - 1] for day in days])


def _row_counts(draws: Draws, state: Integers, days: Sequence[dt.date]) -> Integers:
    share: Floats = activity(days) * (0.92 + 0.08 * draws.uniform("rows"))
    return FEWEST_ROWS + ((_MOST_BY_STATE[state] - FEWEST_ROWS + 1) * share).astype(np.int64)


def _first_order_ids(chunk: Sequence[StateDay]) -> Integers:
    """Return ids read as day, state and number: 20240115 05 0001 is California's first order of January 15, 2024."""
    return np.array(
        [(int(day.strftime("%Y%m%d")) * 100 + POSITION[state] + 1) * 10_000 + 1 for day, state in chunk],
        dtype=np.int64,
    )

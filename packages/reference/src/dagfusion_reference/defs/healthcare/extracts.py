"""What a state reports on a day: most of its organizations, with the providers that they have then."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from dagfusion_reference.defs.draws import Draws, Integers, rows_of, seeds_of
from dagfusion_reference.defs.healthcare.register import SCHEMA as REGISTER_SCHEMA
from dagfusion_reference.defs.partitions import StateDay
from dagfusion_reference.defs.states import CODES, POSITION, by_size, state_of_zip
from dagfusion_reference.defs.streaming import scan_partitions

FEWEST_ROWS, MOST_ROWS = 50, 500
SCHEMA = pl.Schema({**REGISTER_SCHEMA, "state": pl.String(), "date": pl.Date()})

_MOST_BY_STATE = by_size(FEWEST_ROWS, MOST_ROWS)


def state_extracts(register: pl.DataFrame, partitions: Sequence[StateDay], seed: int) -> pl.LazyFrame:
    """Return 50 to 500 different organizations of each partition's state, by the ZIP codes of the register.

    Raises:
        ValueError: The register has fewer organizations in a state than its largest extract.
    """
    located = register.with_columns(state_of_zip(pl.col("zip_code")).alias("state")).drop_nulls("state")
    located = located.sort(pl.col("state").cast(pl.Enum(CODES)), "npi")
    sizes = _sizes(located)
    _require_organizations(sizes, partitions)
    firsts = np.cumsum(sizes) - sizes

    def extract(chunk: Sequence[StateDay]) -> pl.DataFrame:
        seeds = seeds_of([(seed, "partitioned_organizations", *partition) for partition in chunk])
        state = np.array([POSITION[partition.state] for partition in chunk])
        counts = _row_counts(Draws(seeds), state)
        start = (Draws(seeds).uniform("start") * sizes[state]).astype(np.int64)
        keys, place = rows_of(seeds, counts)
        of_row = np.repeat(np.arange(len(chunk)), counts)
        picked: Integers = firsts[state][of_row] + (start[of_row] + place) % sizes[state][of_row]
        days = pl.Series("date", [partition.date for partition in chunk])
        return located[picked].with_columns(_staffed(Draws(keys)), days[of_row])

    return scan_partitions(partitions, extract, SCHEMA)


def _sizes(located: pl.DataFrame) -> Integers:
    found = dict(located.group_by("state").len().iter_rows())
    return np.array([found.get(code, 0) for code in CODES], dtype=np.int64)


def _require_organizations(sizes: Integers, partitions: Sequence[StateDay]) -> None:
    for code in sorted({partition.state for partition in partitions}):
        found, required = sizes[POSITION[code]], _MOST_BY_STATE[POSITION[code]]
        if found < required:
            raise ValueError(
                f"raw_organizations has {found} organizations with a ZIP code of {code}; an extract needs {required}:"
                " materialize raw_organizations again"
            )


def _row_counts(draws: Draws, state: Integers) -> Integers:
    share = 0.85 + 0.15 * draws.uniform("rows")
    return FEWEST_ROWS + ((_MOST_BY_STATE[state] - FEWEST_ROWS + 1) * share).astype(np.int64)


def _staffed(draws: Draws) -> pl.Expr:
    change = pl.lit(pl.Series(0.9 + 0.2 * draws.uniform("staffing")))
    return (pl.col("provider_count") * change).round().cast(pl.Int64).clip(1)

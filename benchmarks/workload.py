"""The documented queries of one partitioned table, in the words of each engine, with the answers computed apart."""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

STATE, DAY = "CA", dt.date(2024, 1, 5)
STATES, FIRST_DAY, LAST_DAY = ("CA", "NY", "TX"), dt.date(2024, 1, 2), dt.date(2024, 1, 8)
FIRST_ZIP, LAST_ZIP = "94000", "94199"  # San Francisco: in files of California only

Row = tuple[object, ...]


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes:
        name: What the report calls it.
        title: What it is, in a few words.
        sql: The statement; `{table}` is the table, and its answer has one order only.
        polars: The same over a LazyFrame.
        arrow: The same over a `pyarrow.dataset`.
        states: Those that it reads; None for all of them.
        days: The first and the last that it reads; None for all of them.
        needs_files: The catalog alone does not know the answer.
    """

    name: str
    title: str
    sql: str
    polars: Callable[[pl.LazyFrame], pl.LazyFrame]
    arrow: Callable[[ds.Dataset], pa.Table]
    states: Sequence[str] | None = None
    days: tuple[dt.date, dt.date] | None = None
    needs_files: bool = True

    def files(self, days: int, states: int) -> int:
        """Say how many partitions the filters on partition columns leave, of so many days and states."""
        first, last = self.days or (dt.date.min, dt.date.max)
        start = dt.date(2024, 1, 1)
        kept = [day for day in range(days) if first <= start + dt.timedelta(days=day) <= last]
        return len(kept) * (states if self.states is None else len(self.states))


def rows(table: pa.Table) -> list[Row]:
    """Return an answer's rows as Python values, which compare equal whatever integer type an engine counts with."""
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _by(frame: pl.LazyFrame, key: str) -> pl.LazyFrame:
    return frame.group_by(key).agg(organizations=pl.len(), providers=pl.col("provider_count").sum()).sort(key)


def _arrow_by(data: ds.Dataset, key: str, predicate: ds.Expression | None) -> pa.Table:
    read = data.to_table(columns=[key, "provider_count"], filter=predicate)
    sums = read.group_by(key).aggregate([([], "count_all"), ("provider_count", "sum")]).sort_by(key)
    return sums.select([key, "count_all", "provider_count_sum"])


_SUMS = "count(*) AS organizations, sum(provider_count) AS providers"
_POINT_COLUMNS = ["npi", "organization_name", "specialty", "provider_count"]
_state, _date = ds.field("state"), ds.field("date")


def point(state: str, day: dt.date) -> Query:
    """The query of one partition."""
    return Query(
        "point",
        "one state on one day",
        "SELECT npi, organization_name, specialty, provider_count FROM {table}"
        f" WHERE state = '{state}' AND date = DATE '{day}' ORDER BY npi",
        lambda t: t.filter(pl.col("state") == state, pl.col("date") == day).select(_POINT_COLUMNS).sort("npi"),
        lambda t: t.to_table(columns=_POINT_COLUMNS, filter=(_state == state) & (_date == day)).sort_by("npi"),
        (state,),
        (day, day),
    )


POINT = point(STATE, DAY)
STATE_QUERY = Query(
    "state",
    "one state on all days",
    f"SELECT date, {_SUMS} FROM {{table}} WHERE state = '{STATE}' GROUP BY date ORDER BY date",
    lambda t: _by(t.filter(pl.col("state") == STATE), "date"),
    lambda t: _arrow_by(t, "date", _state == STATE),
    (STATE,),
)
DATE_QUERY = Query(
    "date",
    "one day in all states",
    f"SELECT state, {_SUMS} FROM {{table}} WHERE date = DATE '{DAY}' GROUP BY state ORDER BY state",
    lambda t: _by(t.filter(pl.col("date") == DAY), "state"),
    lambda t: _arrow_by(t, "state", _date == DAY),
    None,
    (DAY, DAY),
)
IN_AND_RANGE = Query(
    "in_and_range",
    "three states in a week",
    f"SELECT state, {_SUMS} FROM {{table}} WHERE state IN ('CA', 'NY', 'TX')"
    f" AND date BETWEEN DATE '{FIRST_DAY}' AND DATE '{LAST_DAY}' GROUP BY state ORDER BY state",
    lambda t: _by(t.filter(pl.col("state").is_in(STATES), pl.col("date").is_between(FIRST_DAY, LAST_DAY)), "state"),
    lambda t: _arrow_by(t, "state", _state.isin(STATES) & (_date >= FIRST_DAY) & (_date <= LAST_DAY)),
    STATES,
    (FIRST_DAY, LAST_DAY),
)
COUNT = Query(
    "count",
    "how many rows there are",
    "SELECT count(*) AS organizations FROM {table}",
    lambda t: t.select(organizations=pl.len()),
    lambda t: pa.table({"organizations": [t.count_rows()]}),
    needs_files=False,
)
GROUP_BY_PARTITION = Query(
    "group_by_partition",
    "the rows of each state",
    "SELECT state, count(*) AS organizations FROM {table} GROUP BY state ORDER BY state",
    lambda t: t.group_by("state").agg(organizations=pl.len()).sort("state"),
    lambda t: t.to_table(columns=["state"]).group_by("state").aggregate([([], "count_all")]).sort_by("state"),
    needs_files=False,
)
ORDINARY_COLUMN = Query(
    "ordinary_column",
    "a range of ZIP codes",
    f"SELECT zip_code, {_SUMS} FROM {{table}} WHERE zip_code BETWEEN '{FIRST_ZIP}' AND '{LAST_ZIP}'"
    " GROUP BY zip_code ORDER BY zip_code",
    lambda t: _by(t.filter(pl.col("zip_code").is_between(pl.lit(FIRST_ZIP), pl.lit(LAST_ZIP))), "zip_code"),
    lambda t: _arrow_by(t, "zip_code", (ds.field("zip_code") >= FIRST_ZIP) & (ds.field("zip_code") <= LAST_ZIP)),
)
FULL_SCAN = Query(
    "full_scan",
    "all rows of all partitions",
    f"SELECT specialty, {_SUMS} FROM {{table}} GROUP BY specialty ORDER BY specialty",
    lambda t: _by(t, "specialty"),
    lambda t: _arrow_by(t, "specialty", None),
)

QUERIES = (POINT, STATE_QUERY, DATE_QUERY, IN_AND_RANGE, COUNT, GROUP_BY_PARTITION, ORDINARY_COLUMN, FULL_SCAN)

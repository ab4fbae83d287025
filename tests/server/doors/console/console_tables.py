"""The tables that the console's fake service has: two dimensions with holes, one dimension, none, and one of no use."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa

from dagfusion_client.errors import MalformedRecordError, QueryError, SchemaConflictError
from dagfusion_contract.naming import TableName
from dagfusion_query.catalog.model import Table, files_schema

ORGANIZATIONS = ("Silver", "TaxID", "partitioned_organizations")
START = date(2024, 1, 1)
STATES = [
    *("AK", "AL", "AR", "AZ", "CA", "CO", "CT", "DE", "FL", "GA", "HI", "IA", "ID", "IL", "IN", "KS", "KY"),
    *("LA", "MA", "MD", "ME", "MI", "MN", "MO", "MS", "MT", "NC", "ND", "NE", "NH", "NJ", "NM", "NV", "NY"),
    *("OH", "OK", "OR", "PA", "RI", "SC", "SD", "TN", "TX", "UT", "VA", "VT", "WA", "WI", "WV", "WY"),
]
DAYS = 365
HOLES = {("CA", "2024-01-16"), *(("TX", f"2024-02-{day:02}") for day in range(5, 12))}
NO_DAY = "2024-03-15"  # the table has no partition of this day


def tables(organizations: pa.Table) -> list[Table]:
    """Return the tables of `uat`."""
    names = [("npi", pa.int64()), ("name", pa.string())]
    aggregates = [("organizations", pa.int64()), ("share", pa.float64())]
    conflict = SchemaConflictError("column amount is int64 in 12 partitions and string in 2")
    empty = MalformedRecordError("partition 2024-05-01: its event names an object of 0 bytes")
    now = datetime.now(UTC) - timedelta(minutes=42)
    raw = files({}, [None], rows=[52_000], sizes=[1_900_000], times=[now], runs=[run_id(0)])
    none = files({}, [], rows=[], sizes=[], times=[], runs=[])
    return [
        table(ORGANIZATIONS, "uat_silver_tax_id", [*names, ("opened", pa.timestamp("us"))], organizations),
        table(("Silver", "TaxID", "raw_organizations"), "uat_silver_tax_id", names, raw),
        table(("Gold", "Analytics", "daily_org_aggregates"), "uat_gold_analytics", aggregates, daily(), empty),
        table(("Bronze", "Shop", "orders"), "uat_bronze_shop", [], none, problem=conflict),
    ]


def table(
    asset_key: tuple[str, ...],
    schema: str,
    columns: Sequence[tuple[str, pa.DataType]],
    rows: pa.Table,
    *warnings: QueryError,
    problem: QueryError | None = None,
) -> Table:
    """Return a table of the catalog."""
    name = TableName(schema, asset_key[-1])
    partition = pa.schema(list(rows.schema.field("partition").type))
    return Table(asset_key, name, pa.schema(columns), partition, "1", rows, problem, warnings, "uat")


def files(
    partition: Mapping[str, pa.Array],
    keys: Iterable[str | None],
    *,
    rows: Iterable[int],
    sizes: Iterable[int],
    times: Iterable[datetime],
    runs: Iterable[str | None],
) -> pa.Table:
    """Return the files of a table, as the catalog has them."""
    given = {
        "partition_key": pa.array(keys, pa.string()),
        "rows": pa.array(rows, pa.int64()),
        "size_bytes": pa.array(sizes, pa.int64()),
        "materialized_at": pa.array(times, pa.timestamp("us", "UTC")),
        "run_id": pa.array(runs, pa.string()),
    }
    count = len(given["rows"])
    schema = files_schema(pa.schema([(name, values.type) for name, values in partition.items()]), pa.struct([]))
    given |= {"event_id": pa.array(range(1, count + 1)), "uri": pa.repeat("s3://lake/data.parquet", count)}
    if partition:
        given["partition"] = pa.StructArray.from_arrays(list(partition.values()), list(partition))
    return pa.table([given.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)


def run_id(number: int) -> str:
    return f"5f2c81aa-8a41-4c6b-9f0e-{number:012}"


def days_of(columns: Mapping[str, pa.Array], keys: Sequence[str], days: Sequence[int]) -> pa.Table:
    """Return the files of partitions, each of a day."""
    rows = [seasonal(number // DAYS, day) for number, day in enumerate(days)]
    now = datetime.now(UTC)
    return files(
        columns,
        keys,
        rows=rows,
        sizes=[(row * 17 + 4000) * (1 + day % 5) for row, day in zip(rows, days, strict=True)],
        times=[now - timedelta(minutes=42, hours=(DAYS - day) % DAYS * 5) for day in days],
        runs=[run_id(day // 30) for day in days],
    )


def seasonal(place: int, day: int) -> int:
    """Rows that are fewer on weekends and more in summer, with some noise."""
    weekend = 0.3 if (START + timedelta(day)).weekday() > 4 else 1
    size = 120 + (place * 2_654_435_761 >> 7) % 700
    noise = 0.8 + ((place * 7919 + day * 104_729) % 1009) / 2500
    return int(size * weekend * noise * (1.2 - math.cos(day / 58)))


def partitions(days: int = DAYS) -> pa.Table:
    """Date x state, with holes."""
    cells = [
        (state, day)
        for state, day in itertools.product(STATES, range(days))
        if (state, str(START + timedelta(day))) not in HOLES and str(START + timedelta(day)) != NO_DAY
    ]
    states = pa.array([state for state, _ in cells])
    dates = pa.array([START + timedelta(day) for _, day in cells])
    keys = [f"{START + timedelta(day)}|{state}" for state, day in cells]
    return days_of({"state": states, "date": dates}, keys, [day for _, day in cells])


def million_partitions() -> pa.Table:
    """A thousand days of a thousand states."""
    number = np.arange(1_000_000)
    days = (np.datetime64(START) + number % 1000).astype("datetime64[D]")
    names = np.array([f"s{state:04}" for state in range(1000)])
    return files(
        {"state": pa.array(names[number // 1000]), "date": pa.array(days)},
        pa.nulls(len(number), pa.string()),
        rows=number % 977,
        sizes=number % 1009,
        times=np.full(len(number), np.datetime64("2024-06-01T00:00:00", "us")),
        runs=pa.nulls(len(number), pa.string()),
    )


def daily() -> pa.Table:
    days = [day for day in range(DAYS) if not 119 < day < 125]
    dates = [START + timedelta(day) for day in days]
    return days_of({"date": pa.array(dates)}, [str(day) for day in dates], days)

"""Hourly measurements of each station and day, and each day's maximum."""

import math

import dagster as dg
import polars as pl

STATIONS = {"Oslo": 4.0, "Rome": 14.0}
HOURS = 24

days = dg.DailyPartitionsDefinition("2024-01-01")
stations = dg.StaticPartitionsDefinition([*STATIONS])


@dg.asset(
    key=["Bronze", "Weather", "measurements"],
    partitions_def=dg.MultiPartitionsDefinition({"date": days, "station": stations}),
)
def measurements(context: dg.AssetExecutionContext) -> pl.DataFrame:
    """One row an hour. The date and the station are partition columns: the IO manager adds them."""
    _, station = context.partition_key.split("|")
    mean = STATIONS[station]
    celsius = [round(mean - 5 * math.cos(2 * math.pi * hour / HOURS), 2) for hour in range(HOURS)]
    return pl.DataFrame({"hour": range(HOURS), "celsius": celsius})


@dg.asset(
    key=["Gold", "Weather", "daily_maximum"],
    partitions_def=days,
    ins={
        "measured": dg.AssetIn(key=["Bronze", "Weather", "measurements"], metadata={"allow_missing_partitions": True})
    },
)
def daily_maximum(measured: pl.DataFrame) -> pl.DataFrame:
    """The warmest hour of the day at each station; the input has that day's partitions of all stations."""
    return measured.group_by("station").agg(pl.col("celsius").max()).sort("station")

"""Materialize one day of every asset in this process, without Dagster's webserver.

PYTHONPATH=src python materialize.py 2024-01-05
"""

import sys

import dagster as dg
from weather.definitions import defs
from weather.defs.measurements import STATIONS, daily_maximum, measurements


def main() -> None:
    """Materialize the day's measurements of each station, then the day's maxima."""
    day = sys.argv[1]
    job = defs().resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.get() as instance:
        for station in STATIONS:
            job.execute_in_process(
                instance=instance, asset_selection=[measurements.key], partition_key=f"{day}|{station}"
            )
        job.execute_in_process(instance=instance, asset_selection=[daily_maximum.key], partition_key=day)


if __name__ == "__main__":
    main()

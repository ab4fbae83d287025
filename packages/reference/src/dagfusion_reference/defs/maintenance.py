"""The vacuum over the six assets."""

from dagfusion_pipeline import build_vacuum_job
from dagfusion_reference.defs.resources import METRICS

vacuum = build_vacuum_job(METRICS, io_manager_key="hive_parquet")

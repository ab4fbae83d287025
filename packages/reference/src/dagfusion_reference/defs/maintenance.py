"""The vacuum over all assets, and the consolidation of those with two dimensions of partitions."""

from dagfusion_pipeline import build_consolidate_job, build_consolidate_schedule, build_vacuum_job
from dagfusion_reference.defs.ecommerce.assets import partitioned_orders
from dagfusion_reference.defs.healthcare.assets import partitioned_organizations
from dagfusion_reference.defs.resources import METRICS

vacuum = build_vacuum_job(METRICS, io_manager_key="hive_parquet")
consolidate = build_consolidate_job([partitioned_organizations, partitioned_orders], io_manager_key="hive_parquet")
consolidate_every_night = build_consolidate_schedule(consolidate)

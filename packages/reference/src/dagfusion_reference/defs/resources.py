"""The IO managers of the code location, with each domain's metrics on the events."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import dagster as dg
import pyarrow as pa

from dagfusion_pipeline.environment import SECRET_VARIABLES, Environment
from dagfusion_pipeline.io_managers import PartitionedS3ParquetIOManager, S3ParquetIOManager
from dagfusion_reference.defs.ecommerce import assets as ecommerce
from dagfusion_reference.defs.ecommerce.metrics import order_metrics, sales_metrics
from dagfusion_reference.defs.healthcare import assets as healthcare
from dagfusion_reference.defs.healthcare.metrics import aggregate_metrics, organization_metrics
from dagfusion_reference.defs.seed import Seed
from dagfusion_reference.defs.sql_twins import daily_org_aggregates_sql, daily_sales_aggregates_sql

Metrics = Mapping[str, int | float]

METRICS: Mapping[dg.AssetKey, Callable[[pa.Table], Metrics]] = {
    healthcare.raw_organizations.key: organization_metrics,
    healthcare.partitioned_organizations.key: organization_metrics,
    healthcare.daily_org_aggregates.key: aggregate_metrics,
    ecommerce.raw_orders.key: order_metrics,
    ecommerce.partitioned_orders.key: order_metrics,
    ecommerce.daily_sales_aggregates.key: sales_metrics,
    daily_org_aggregates_sql.key: aggregate_metrics,
    daily_sales_aggregates_sql.key: sales_metrics,
}


class MeasuredParquet(S3ParquetIOManager):
    """`S3ParquetIOManager` with the metrics of the asset's domain."""

    def metrics(self, context: dg.OutputContext, table: pa.Table) -> Metrics:
        """Return the domain's numbers about one written table."""
        return METRICS[context.asset_key](table)


class MeasuredHiveParquet(PartitionedS3ParquetIOManager):
    """`PartitionedS3ParquetIOManager` with the metrics of the asset's domain."""

    def metrics(self, context: dg.OutputContext, table: pa.Table) -> Metrics:
        """Return the domain's numbers about one written partition."""
        return METRICS[context.asset_key](table)


def resources(
    environment: Environment, *, secrets_by_name: bool = False, file_naming: Literal["stable", "per_run"] = "stable"
) -> dict[str, object]:
    """Return the resources of the code location's assets.

    Args:
        environment: The store to write to.
        secrets_by_name: Hand over the names of the process's variables in place of the secrets, because Dagster tells
            its UI how a resource is configured.
        file_naming: Whether a run writes over the files of earlier runs, or beside them.
    """
    fields: dict[str, Any] = {**environment.io_manager_fields(), "file_naming": file_naming}
    if secrets_by_name:
        fields |= {name: dg.EnvVar(variable) for name, variable in SECRET_VARIABLES.items() if name in fields}
    return {"parquet": MeasuredParquet(**fields), "hive_parquet": MeasuredHiveParquet(**fields), "seed": Seed()}

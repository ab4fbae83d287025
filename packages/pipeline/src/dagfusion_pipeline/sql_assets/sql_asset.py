"""`sql_asset`: an asset that is defined by SQL over other assets."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import dagster as dg

from dagfusion_pipeline.maintenance import UpstreamAsset, io_manager_of
from dagfusion_pipeline.sql_assets.sql_extra import check_sql_extra

KINDS = frozenset({"sql", "datafusion"})


def sql_asset(
    key: dg.AssetKey | str | list[str],
    sql: str,
    *,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
    io_manager_key: str = "io_manager",
    deps: Iterable[UpstreamAsset | dg.AssetDep] = (),
    assets: Iterable[UpstreamAsset] | None = None,
    metadata: Mapping[str, Any] | None = None,
    kinds: AbstractSet[str] = KINDS,
    code_version: str | None = None,
    **options: Any,
) -> dg.AssetsDefinition:
    """Define an asset by a query over other assets, which DataFusion runs and the IO manager stores.

    The tables of the query are assets. A table's name is the asset's key in double quotes (`"Silver/orders"`), or that
    of the asset's table with or without the environment (`silver.orders`, `uat_silver.orders`). They become
    dependencies. For a run, each table has the rows of the partitions that the dependency's partition mapping gives,
    and no other objects are read. A run of several partitions has one query, whose result has the partition columns.

    The query can use `$partition_key`, and `$window_start` and `$window_end` (timestamps in UTC), of the run's
    partitions.

    Args:
        key: The asset's key; slashes in a text separate its components.
        sql: One query, in the SQL of DataFusion.
        partitions_def: The asset's partitions.
        io_manager_key: The resource of an IO manager of DagFusion, which stores the rows. The query reads tables of its
            environment, with its endpoint and its keys.
        deps: Dependencies that have partition mappings of their own, or that the query does not name.
        assets: The assets that the query can name. With these, a name of any other table is an error. Without these, a
            table that is of none of `deps` is that of the asset whose key has the words of the name.
        metadata: The asset's metadata. With `allow_missing_partitions`, upstream partitions that are not materialized
            have no rows; otherwise they are errors.
        kinds: The asset's kinds.
        code_version: By default a hash of the query, which spaces and comments do not change.
        options: Other options of `dagster.asset`, such as `group_name`, `owners`, `tags`, `description`,
            `automation_condition`, `backfill_policy`, `retry_policy` and `freshness_policy`.

    Raises:
        SqlError: The SQL is not one query, a table is of no asset, or no partition mapping fits.
        MissingExtraError: The extra `sql` is not installed.

    Example:
        >>> import dagster as dg
        >>> days = dg.DailyPartitionsDefinition("2024-01-01")
        >>> orders = dg.AssetSpec(["silver", "orders"], partitions_def=days)
        >>> daily = sql_asset(
        ...     "gold/daily",
        ...     "SELECT date, sum(amount) AS amount FROM silver.orders GROUP BY date",
        ...     partitions_def=days,
        ...     assets=[orders],
        ... )
        >>> [key.to_user_string() for key in daily.dependency_keys]
        ['silver/orders']
    """
    check_sql_extra("sql_asset")
    from dagfusion_pipeline.sql_assets.definition import define  # noqa: PLC0415 - sqlglot is of an extra

    asset_key = dg.AssetKey.from_user_string(key) if isinstance(key, str) else dg.AssetKey.from_coercible(key)
    defined = define(asset_key, sql, partitions_def, deps, assets)

    decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
        key=asset_key,
        deps=defined.deps,
        partitions_def=partitions_def,
        io_manager_key=io_manager_key,
        required_resource_keys={io_manager_key, *options.pop("required_resource_keys", ())},
        metadata={**defined.metadata, **(metadata or {})},
        kinds=set(kinds),
        code_version=code_version or defined.statement.version,
        **options,
    )

    def run(context: dg.AssetExecutionContext) -> Any:
        manager = io_manager_of(context, io_manager_key)
        from dagfusion_pipeline.sql_assets.engine_run import run_query  # noqa: PLC0415 - DataFusion takes a while

        return run_query(context, defined, manager)

    return decorate(run)

"""`sql_view`: a virtual asset that is defined by SQL over other assets, and that the query side serves as a view."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import dagster as dg

from dagfusion_contract.view import VIEW_ENTRY, view_entry
from dagfusion_pipeline.errors import ConfigurationError
from dagfusion_pipeline.event_metadata import COLUMN_SCHEMA_KEY, table_schema
from dagfusion_pipeline.maintenance import UpstreamAsset, io_manager_of
from dagfusion_pipeline.sql_assets.sql_extra import check_sql_extra

KINDS = frozenset({"sql", "view"})


def sql_view(
    key: dg.AssetKey | str | list[str],
    sql: str,
    *,
    io_manager_key: str = "io_manager",
    deps: Iterable[UpstreamAsset | dg.AssetDep] = (),
    assets: Iterable[UpstreamAsset] | None = None,
    metadata: Mapping[str, Any] | None = None,
    kinds: AbstractSet[str] = KINDS,
    code_version: str | None = None,
    **options: Any,
) -> dg.AssetsDefinition:
    """Define a view: a virtual asset whose rows are the result of a query over other assets, whenever it is read.

    Materializing it publishes the query, and stores nothing else. From then on the query side has a view of the asset's
    name in every door. It shows what the tables hold when it is read, and may be read by those who may read all of its
    tables. Materialize it again when its SQL has changed; Dagster shows it as out of date until then.

    Args:
        key: The asset's key; slashes in a text separate its components.
        sql: One query, in the SQL of DataFusion. Tables are named as in `sql_asset`.
        io_manager_key: The resource of an IO manager of DagFusion, whose environment the tables are of.
        deps: Dependencies that the query does not name.
        assets: The assets that the query can name; see `sql_asset`.
        metadata: The asset's metadata.
        kinds: The asset's kinds.
        code_version: By default a hash of the query, which spaces and comments do not change.
        options: Other options of `dagster.asset`, such as `group_name`, `owners`, `tags` and `description`.

    Raises:
        SqlError: The SQL is not one query, has a parameter, or a table is of no asset.
        MissingExtraError: The extra `sql` is not installed.
        ConfigurationError: This version of Dagster has no virtual assets.

    Example:
        >>> orders = dg.AssetSpec(["silver", "orders"])
        >>> large = sql_view("gold/large_orders", "SELECT * FROM silver.orders WHERE amount > 1000", assets=[orders])
        >>> [key.to_user_string() for key in large.dependency_keys]
        ['silver/orders']
    """
    check_sql_extra("sql_view")
    from dagfusion_pipeline.sql_assets.definition import define  # noqa: PLC0415 - sqlglot is of an extra

    asset_key = dg.AssetKey.from_user_string(key) if isinstance(key, str) else dg.AssetKey.from_coercible(key)
    name = asset_key.to_user_string()
    defined = define(asset_key, sql, None, deps, assets)
    if "is_virtual" not in inspect.signature(dg.asset).parameters:
        raise ConfigurationError(f"view {name!r} is a virtual asset, which Dagster {dg.__version__} lacks: upgrade it")

    def publish(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        manager = io_manager_of(context, io_manager_key)
        from dagfusion_pipeline.sql_assets.engine_run import plan_view  # noqa: PLC0415 - DataFusion takes a while

        view = plan_view(context, defined, manager)
        published: dict[str, Any] = {
            VIEW_ENTRY: dg.MetadataValue.json(view_entry(view)),
            COLUMN_SCHEMA_KEY: table_schema(view.columns, {}),
        }
        return dg.MaterializeResult(metadata=published)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)  # who defines a view has chosen it
        decorate: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(
            key=asset_key,
            deps=defined.deps,
            required_resource_keys={io_manager_key, *options.pop("required_resource_keys", ())},
            metadata={**defined.metadata, **(metadata or {})},
            kinds=set(kinds),
            code_version=code_version or defined.statement.version,
            is_virtual=True,
            **options,
        )
        return decorate(publish)

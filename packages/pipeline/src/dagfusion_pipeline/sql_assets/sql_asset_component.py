"""`SqlAssetComponent`: declares an asset that is defined by SQL in a YAML file of a `dg` project."""

from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components.resolved.core_models import OpSpec
from pydantic import Field

from dagfusion_pipeline.errors import SqlError
from dagfusion_pipeline.sql_assets.sql_asset import KINDS, sql_asset

_KIND_TAG = "dagster/kind/"
# Attributes of a specification that are options of an asset of the same name
_OPTIONS = ("description", "group_name", "owners", "automation_condition", "freshness_policy")


class SqlAssetComponent(dg.Component, dg.Resolvable, dg.Model):
    """An asset that is a query over other assets, as `sql_asset` defines it.

    Example:
        ```yaml
        type: dagfusion_pipeline.SqlAssetComponent
        attributes:
          sql_file: daily_orders.sql
          io_manager_key: parquet
          asset:
            key: gold/daily_orders
            partitions_def: {type: daily, start_date: "2024-01-01"}
            deps: [Silver/Commerce/orders]
        ```
    """

    asset: Annotated[
        dg.ResolvedAssetSpec,
        Field(
            description="The asset: its key, partitions, group, owners and so on. The tables of the SQL are"
            " dependencies without being named here. Their names are looked for among deps first."
        ),
    ]
    sql: Annotated[str | None, Field(description="The query; or give sql_file.")] = None
    sql_file: Annotated[
        str | None, Field(description="A file with the query, relative to the folder of the YAML file.")
    ] = None
    io_manager_key: Annotated[
        str, Field(description="The resource of an IO manager of DagFusion, which stores the rows.")
    ] = "io_manager"
    op: Annotated[
        OpSpec | None, Field(description="Options of the run: backfill_policy, pool, and tags of the op.")
    ] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definition of the asset.

        Raises:
            SqlError: There is no query, or two, or it cannot be used.
        """
        spec = self.asset
        options = {name: getattr(spec, name, None) for name in _OPTIONS}
        asset = sql_asset(
            spec.key,
            self._read(context.path),
            partitions_def=spec.partitions_def,
            io_manager_key=self.io_manager_key,
            deps=spec.deps,
            metadata=spec.metadata,
            kinds=spec.kinds or KINDS,
            code_version=spec.code_version,
            tags={name: value for name, value in spec.tags.items() if not name.startswith(_KIND_TAG)},
            **{name: value for name, value in options.items() if value},
            **self._op_options(),
        )
        return dg.Definitions(assets=[asset])

    def _read(self, folder: Path) -> str:
        asset = self.asset.key.to_user_string()
        if (self.sql is None) == (self.sql_file is None):
            found = "neither" if self.sql is None else "both"
            raise SqlError(f"the component of asset {asset!r} must have sql or sql_file, got {found}")
        if self.sql_file is None:
            return self.sql or ""
        path = folder / self.sql_file
        try:
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SqlError(f"sql_file of asset {asset!r} cannot be read: {error}") from error

    def _op_options(self) -> dict[str, Any]:
        if self.op is None:
            return {}
        options = {"op_tags": self.op.tags, "pool": self.op.pool, "backfill_policy": self.op.backfill_policy}
        return {name: value for name, value in options.items() if value is not None}

"""What follows from the SQL of an asset when it is defined: its upstreams, dependencies and metadata."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dagfusion_pipeline.event_metadata import COLUMN_LINEAGE_KEY
from dagfusion_pipeline.maintenance import UpstreamAsset
from dagfusion_pipeline.sql_assets.column_lineage import column_lineage
from dagfusion_pipeline.sql_assets.statement import Statement, parse_statement
from dagfusion_pipeline.sql_assets.upstreams import (
    Dep,
    Upstream,
    check_parameters,
    find_upstreams,
    given_deps,
    known_columns,
    specs_by_key,
)

SQL_KEY = "sql"


@dataclass(frozen=True)
class Defined:
    """The SQL of an asset.

    Attributes:
        statement: The query.
        upstreams: The assets that it reads.
        deps: The asset's dependencies: these, and those that were given.
        metadata: The SQL, and the lineage of the columns as far as it is known.
    """

    statement: Statement
    upstreams: tuple[Upstream, ...]
    deps: tuple[dg.AssetDep, ...]
    metadata: Mapping[str, Any]


def define(
    asset_key: dg.AssetKey,
    sql: str,
    partitions_def: dg.PartitionsDefinition[str] | None,
    deps: Iterable[Dep],
    assets: Iterable[UpstreamAsset] | None,
) -> Defined:
    """Find what an asset's SQL depends on; see `sql_asset`.

    Raises:
        SqlError: The SQL is not one query, a table is of no asset, or no partition mapping fits.
    """
    statement = parse_statement(sql, asset_key.to_user_string())
    check_parameters(statement, asset_key, partitions_def)
    deps = list(deps)
    dependencies = given_deps(deps)
    specs = specs_by_key([*(dep for dep in deps if not isinstance(dep, dg.AssetDep)), *(assets or ())])
    upstreams = find_upstreams(
        statement, asset_key, partitions_def, dependencies, specs, is_complete=assets is not None
    )
    all_deps = {upstream.key: dg.AssetDep(upstream.key) for upstream in upstreams} | dependencies
    keys = {reference: upstream.key for upstream in upstreams for reference in upstream.references}
    lineage = column_lineage(statement, keys, known_columns(specs))
    metadata: dict[str, Any] = {SQL_KEY: dg.MetadataValue.md(f"```sql\n{sql.strip()}\n```")}
    if lineage is not None:
        metadata[COLUMN_LINEAGE_KEY] = lineage
    return Defined(statement, upstreams, tuple(all_deps.values()), metadata)

"""The assets that an asset's SQL reads: their keys, partition mappings and known columns."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import dagster as dg
from dagster import PartitionMapping, PartitionsDefinition, TimeWindowPartitionsDefinition

from dagfusion_contract.environments import ENVIRONMENTS, LOCAL
from dagfusion_pipeline.dimensions import metadata_value
from dagfusion_pipeline.errors import SqlError
from dagfusion_pipeline.event_metadata import COLUMN_SCHEMA_KEY
from dagfusion_pipeline.maintenance import UpstreamAsset
from dagfusion_pipeline.sql_assets.statement import Reference, Statement
from dagfusion_pipeline.sql_assets.table_keys import find_key

WINDOW = frozenset({"window_start", "window_end"})
Dep = UpstreamAsset | dg.AssetDep


@dataclass(frozen=True)
class Upstream:
    """An asset that the SQL names.

    Attributes:
        key: Its key.
        references: The names that the SQL has for its table.
        mapping: The partition mapping that was given; None for Dagster's own choice.
    """

    key: dg.AssetKey
    references: tuple[Reference, ...]
    mapping: PartitionMapping | None

    @property
    def is_whole(self) -> bool:
        """True if all partitions are requested, whichever exist."""
        return isinstance(self.mapping, dg.AllPartitionMapping)


def specs_by_key(assets: Iterable[UpstreamAsset]) -> dict[dg.AssetKey, dg.AssetSpec]:
    """Return a specification of each asset; of one that is only named, an empty one."""
    found = {}
    for asset in assets:
        match asset:
            case dg.AssetsDefinition():
                found.update({spec.key: spec for spec in asset.specs})
            case dg.AssetSpec():
                found[asset.key] = asset
            case dg.SourceAsset():
                found[asset.key] = dg.AssetSpec(asset.key, partitions_def=asset.partitions_def)
            case _:
                key = (
                    dg.AssetKey.from_user_string(asset) if isinstance(asset, str) else dg.AssetKey.from_coercible(asset)
                )
                found[key] = dg.AssetSpec(key)
    return found


def given_deps(deps: Iterable[Dep]) -> dict[dg.AssetKey, dg.AssetDep]:
    """Return the dependencies that a definition has by itself."""
    found = {}
    for dep in deps:
        if isinstance(dep, dg.AssetDep):
            found[dep.asset_key] = dep
        else:
            found.update({key: dg.AssetDep(key) for key in specs_by_key([dep])})
    return found


def find_upstreams(
    statement: Statement,
    asset_key: dg.AssetKey,
    partitions_def: PartitionsDefinition[str] | None,
    deps: Mapping[dg.AssetKey, dg.AssetDep],
    known: Mapping[dg.AssetKey, dg.AssetSpec],
    *,
    is_complete: bool,
) -> tuple[Upstream, ...]:
    """Return the assets that a statement names, in the order of the text.

    Args:
        statement: The SQL.
        asset_key: The key of the asset that it defines.
        partitions_def: That asset's partitions.
        deps: The given dependencies, which may have partition mappings.
        known: What is known of other assets.
        is_complete: Whether the SQL can name only these, and those of `deps`.

    Raises:
        SqlError: A table is of no asset or of several, the asset reads itself, or no partition mapping fits.
    """
    asset = asset_key.to_user_string()
    keys = list(dict.fromkeys([*deps, *known]))
    environments = tuple(dict.fromkeys([*ENVIRONMENTS, os.environ.get("ENVIRONMENT") or LOCAL]))
    found: dict[dg.AssetKey, Upstream] = {}
    for reference in statement.references:
        key = find_key(reference, keys, environments, asset, is_complete=is_complete)
        mapping = deps[key].partition_mapping if key in deps else None
        upstream = found.get(key) or Upstream(key, (), mapping)
        found[key] = replace(upstream, references=(*upstream.references, reference))
    for key, upstream in found.items():
        if upstream.mapping is None:
            theirs = known[key].partitions_def if key in known else None
            _check_partitions(asset_key, partitions_def, key, theirs)
    return tuple(found.values())


def time_dimension(
    definition: PartitionsDefinition[str] | None,
) -> tuple[str | None, TimeWindowPartitionsDefinition] | None:
    """Return the partitions by time, and the name of their dimension where there are several; None without any."""
    if isinstance(definition, TimeWindowPartitionsDefinition):
        return None, definition
    parts = definition.partitions_defs if isinstance(definition, dg.MultiPartitionsDefinition) else []
    for part in parts:
        if isinstance(part.partitions_def, TimeWindowPartitionsDefinition):
            return part.name, part.partitions_def
    return None


def check_parameters(
    statement: Statement, asset_key: dg.AssetKey, partitions_def: PartitionsDefinition[str] | None
) -> None:
    """Refuse parameters that no run of the asset has values for.

    Raises:
        SqlError: The asset has no partitions, or none by time.
    """
    windows = sorted(statement.parameters & WINDOW)
    if statement.parameters and partitions_def is None:
        name, missing = min(statement.parameters), "partitions"
    elif windows and time_dimension(partitions_def) is None:
        name, missing = windows[0], "partitions by time"
    else:
        return
    raise SqlError(
        f"the SQL of asset {asset_key.to_user_string()!r} has ${name}, and the asset has no {missing}: give it a"
        " partitions_def that has, or write a constant"
    )


def known_columns(known: Mapping[dg.AssetKey, dg.AssetSpec]) -> dict[dg.AssetKey, list[str]]:
    """Return the columns of the assets whose definitions have them."""
    declared = {key: metadata_value(spec.metadata.get(COLUMN_SCHEMA_KEY)) for key, spec in known.items()}
    return {
        key: [column.name for column in schema.columns]
        for key, schema in declared.items()
        if isinstance(schema, dg.TableSchema)
    }


def _check_partitions(
    asset_key: dg.AssetKey,
    ours: PartitionsDefinition[str] | None,
    upstream_key: dg.AssetKey,
    theirs: PartitionsDefinition[str] | None,
) -> None:
    asset, upstream = asset_key.to_user_string(), upstream_key.to_user_string()
    if asset_key == upstream_key:
        raise SqlError(
            f"the SQL of asset {asset!r} reads the asset itself: name the partitions that it reads, such as with"
            f" deps=[AssetDep({upstream_key.path}, partition_mapping=TimeWindowPartitionMapping(start_offset=-1,"
            " end_offset=-1))]"
        )
    if ours is None or theirs is None or _fit(ours, theirs):
        return
    raise SqlError(
        f"asset {asset!r} has {_described(ours)} and reads asset {upstream!r}, which has {_described(theirs)}: no"
        f" partition mapping follows from these; give one with deps=[AssetDep({upstream_key.path},"
        " partition_mapping=...)]"
    )


def _fit(ours: PartitionsDefinition[str], theirs: PartitionsDefinition[str]) -> bool:
    """Return True if Dagster finds the mapping by itself."""
    if ours == theirs:
        return True
    many = [each for each in (ours, theirs) if isinstance(each, dg.MultiPartitionsDefinition)]
    if not many:
        return _are_times(ours, theirs)
    if len(many) > 1:
        return False
    single = theirs if many[0] is ours else ours
    parts = [part.partitions_def for part in many[0].partitions_defs]
    equal = parts.count(single)
    times = [part for part in parts if _are_times(part, single)]
    return equal == 1 or (equal == 0 and len(times) == 1)


def _are_times(*definitions: PartitionsDefinition[str]) -> bool:
    return all(isinstance(definition, TimeWindowPartitionsDefinition) for definition in definitions)


def _described(definition: PartitionsDefinition[str]) -> str:
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return f"partitions by {' and '.join(sorted(part.name for part in definition.partitions_defs))}"
    return f"a {type(definition).__name__}"

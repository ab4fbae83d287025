"""Asset checks over the records of an asset's partitions; no object is read."""

import gc
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Literal

import dagster as dg

from dagfusion_pipeline.check_definitions import Options, PlannedCheck, planned_checks
from dagfusion_pipeline.check_results import Checked, LatestMaterialization, TargetedResult, check_result
from dagfusion_pipeline.check_rules import Bound
from dagfusion_pipeline.checked_partitions import asset_partitions, checked_partitions
from dagfusion_pipeline.errors import ConfigurationError


def partition_checks(
    asset: dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey,
    *,
    rows: tuple[int | None, int | None] | None = None,
    not_null: Sequence[str] = (),
    bounds: Mapping[str, tuple[Bound | None, Bound | None]] | None = None,
    complete: bool = False,
    schema: bool | Literal["names"] = False,
    fresh_within: timedelta | None = None,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
    unknown: Literal["warn", "fail"] = "warn",
    blocking: bool = False,
    partitioned: bool = False,
    name: str | None = None,
) -> dg.AssetChecksDefinition:
    """Build checks of an asset from the records of its materializations: rows, nulls, values, columns and times.

    No object is read. In a run with partitions the checks look at the run's partitions, in another run at the latest
    materialization of every partition that the definition has. A check passes only if the records prove it. If they do
    not tell (another IO manager wrote the partition, a text is long, a float column has NaN), `unknown` decides. If one
    check raises an error, the others have results, and then the step fails with the error: Dagster shows that check as
    one whose execution failed.

    Args:
        asset: An asset that DagFusion's IO managers write. Its definition or spec lets more mistakes be found early.
        rows: The fewest and the most rows of a partition, both included; None is no bound.
        not_null: Columns without nulls.
        bounds: For each column the least and the greatest value, both included; None is no bound. Nulls pass.
        complete: Every partition is materialized.
        schema: Every partition has the columns that the asset's metadata `dagster/column_schema` declares, or those of
            the newest other partition if it declares none; `"names"` compares the names only.
        fresh_within: Every partition is materialized within this time after its time window ended. Without time
            windows, the latest materialization of every partition is at most this old.
        severity: The severity of a result that fails. Only `ERROR` blocks.
        unknown: Whether a partition whose record does not tell is a warning, or a failure with `severity`.
        blocking: Whether assets downstream in the same run wait for the checks, and are skipped if one fails.
        partitioned: Whether Dagster keeps a result for each partition (a preview in Dagster 1.13).
        name: The name of the op; by default it is made from the asset's key and the checks.

    Raises:
        ConfigurationError: An option, or a column that the declared schema does not have.

    Example:
        >>> import dagster as dg
        >>> checks = partition_checks(dg.AssetKey("orgs"), rows=(1, None), not_null=["npi"], bounds={"age": (0, 130)})
        >>> sorted(key.name for key in checks.check_keys)
        ['age_in_bounds', 'npi_not_null', 'row_count']
    """
    if isinstance(not_null, str):
        raise ConfigurationError(f"not_null must be a list of columns, got {not_null!r}: write [{not_null!r}]")
    options = Options(rows, tuple(not_null), dict(bounds or {}), complete, schema, fresh_within, unknown)
    spec = _spec(asset)
    planned = {one.name: one for one in planned_checks(spec, options)}
    specs = [_check_spec(spec, one, blocking=blocking, partitioned=partitioned) for one in planned.values()]

    @dg.multi_asset_check(name=name or _op_name(spec.key, planned), specs=specs, can_subset=True)
    def check(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """Compare the records of the partitions with the rules."""
        definition = asset_partitions(context, spec)
        names = {key.name for key in context.selected_asset_check_keys}
        selected = [one for one in planned.values() if one.name in names]
        results, errors = list[dg.AssetCheckResult](), dict[str, Exception]()
        with _paused_collection():
            checked: Checked = checked_partitions(context, spec.key, definition)
            for one in selected:
                try:
                    results.append(check_result(one, checked, severity, unknown))
                except Exception as error:  # noqa: BLE001 - raised below, after the results of the other checks
                    errors[one.name] = error
            del checked  # else the search for cycles below looks at all records
        latest = LatestMaterialization(context.instance, spec.key)
        yield from (TargetedResult.of(result, latest) for result in results)
        if errors:
            raise _one_of(errors)

    return check


def _one_of(errors: Mapping[str, Exception]) -> Exception:
    """Return the errors of checks as one, which has their names."""
    if len(errors) > 1:
        texts = "; ".join(f"{name}: {error!r}" for name, error in errors.items())
        return ExceptionGroup(f"{len(errors)} checks raised errors: {texts}", [*errors.values()])
    [(name, error)] = errors.items()
    error.add_note(f"raised by the check {name!r}")
    return error


@contextmanager
def _paused_collection() -> Iterator[None]:
    """Pause Python's search for cycles: records have none, and looking at all of them again and again takes as long."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _spec(asset: dg.AssetsDefinition | dg.AssetSpec | dg.AssetKey) -> dg.AssetSpec:
    if isinstance(asset, dg.AssetSpec):
        return asset
    if isinstance(asset, dg.AssetKey):
        return dg.AssetSpec(asset)
    if not isinstance(asset, dg.AssetsDefinition):
        raise ConfigurationError(
            f"asset must be an AssetsDefinition, an AssetSpec or an AssetKey, got {asset!r}: pass dagster.AssetKey(...)"
        )
    keys = sorted(asset.keys)
    if len(keys) != 1:
        raise ConfigurationError(
            f"partition_checks checks one asset, and {[key.to_user_string() for key in keys]} are defined together:"
            " pass definition.get_asset_spec(key) of one of them"
        )
    return asset.get_asset_spec(keys[0])


def _check_spec(spec: dg.AssetSpec, one: PlannedCheck, *, blocking: bool, partitioned: bool) -> dg.AssetCheckSpec:
    # Dagster 1.11 looks its own names up among the caller's: no variable here may be called `check`.
    if not partitioned:
        return dg.AssetCheckSpec(one.name, asset=spec.key, description=one.description, blocking=blocking)
    if spec.partitions_def is None:
        raise ConfigurationError(
            f"partitioned checks of {spec.key.to_user_string()!r} need its partitions: pass the asset's definition or"
            " its spec, with a partitions_def"
        )
    try:
        return dg.AssetCheckSpec(
            one.name,
            asset=spec.key,
            description=one.description,
            blocking=blocking,
            partitions_def=spec.partitions_def,
        )
    except TypeError:
        raise ConfigurationError(
            f"Dagster {dg.__version__} has no partitioned asset checks: use dagster 1.13, or leave partitioned out"
        ) from None


def _op_name(key: dg.AssetKey, names: Mapping[str, PlannedCheck]) -> str:
    # Two definitions for one asset, such as warnings beside blocking checks, are two ops with names of their own.
    digest = hashlib.sha256("\0".join(sorted(names)).encode()).hexdigest()[:8]
    return f"{key.to_python_identifier()}_partition_checks_{digest}"

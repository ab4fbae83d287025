"""Results of checks that name the latest materialization of their asset, found without the keys of all partitions.

Dagster asks for data versions of all partitions there. For 18,250 of two dimensions it makes an object of each key,
which takes 0.5 s, and then leaves the versions out, because the partitions are too many.
"""

from functools import cached_property
from typing import Any, NamedTuple, Self

import dagster as dg


class _Materialization(NamedTuple):
    """The fields that Dagster reads of the version of an input."""

    storage_id: int
    run_id: str
    timestamp: float
    event_type: dg.DagsterEventType = dg.DagsterEventType.ASSET_MATERIALIZATION


class LatestMaterialization:
    """The latest materialization of an asset, read once for all checks of a step."""

    def __init__(self, instance: dg.DagsterInstance, asset_key: dg.AssetKey) -> None:
        self._instance, self._asset_key = instance, asset_key

    @cached_property
    def found(self) -> _Materialization | None:
        """The materialization; None if there is none."""
        for record in self._instance.get_asset_records([self._asset_key]):
            event = record.asset_entry.last_materialization_record
            if event is not None:
                return _Materialization(event.storage_id, event.run_id, event.timestamp)
        return None


class TargetedResult(dg.AssetCheckResult):
    """A result that knows the materialization that it is about."""

    latest: LatestMaterialization

    @classmethod
    def of(cls, result: dg.AssetCheckResult, latest: LatestMaterialization) -> Self:
        """Return a result with its materialization."""
        targeted = cls(**result._asdict())
        targeted.latest = latest
        return targeted

    def to_asset_check_evaluation(self, step_context: Any) -> dg.AssetCheckEvaluation:
        """Return the result as Dagster logs it."""
        own: Any = _StepContext(step_context, self.latest)
        return super().to_asset_check_evaluation(own)


class _StepContext:
    """The context of a step in which the version of the asset is its latest materialization."""

    def __init__(self, context: Any, latest: LatestMaterialization) -> None:
        self._context, self._latest = context, latest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def maybe_fetch_and_get_input_asset_version_info(self, _: dg.AssetKey) -> _Materialization | None:
        """Return the materialization; Dagster 1.11 to 1.13 ask so."""
        return self._latest.found

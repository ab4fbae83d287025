"""The results of checks: what the rules say of all partitions, as Dagster shows it.

A result names the latest materialization of its asset, which is found without the keys of all partitions. Dagster asks
for data versions of all partitions there. For 18,250 of two dimensions it makes an object of each key, which takes
0.5 s, and then leaves the versions out, because the partitions are too many.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple, Self

import dagster as dg

from dagfusion_pipeline.check_definitions import AlikeColumns, Complete, Fresh, PlannedCheck
from dagfusion_pipeline.check_rules import HOLDS, Partition, PartitionReader, Rule, SameColumns, Verdict, column_types
from dagfusion_pipeline.errors import shortened
from dagfusion_pipeline.latest_events import LatestEvent

LISTED = 20  # partitions that a result names
_NAMED = 3  # partitions that its description names
_AS_IT_COMPARES = itemgetter(0)
KeyedVerdict = tuple[str | None, Verdict]


@dataclass
class Checked:
    """The partitions that checks look at; None is the one of an unpartitioned asset.

    Attributes:
        keys: In the order of the definition.
        events: The latest materialization of each that has one, and of partitions that are not looked at.
        now: When the checks began.
        window_end: Gives the end of a partition's time window; None for partitions without time.
        selected: Whether the run names the partitions.
        other: The newest materialization of a partition that the run does not name.
    """

    keys: Sequence[str | None]
    events: Mapping[Any, LatestEvent]
    now: datetime
    window_end: Callable[[str], datetime] | None = None
    selected: bool = False
    other: LatestEvent | None = None

    @cached_property
    def partitions(self) -> list[tuple[str | None, Partition | Verdict]]:
        """The record of each partition, or why there is none."""
        reader = PartitionReader()
        return [(key, self._partition(reader, key)) for key in self.keys if self.selected or key in self.events]

    def _partition(self, reader: PartitionReader, key: str | None) -> Partition | Verdict:
        event = self.events.get(key)
        if event is None:
            return Verdict("unknown", "not materialized")
        if event.record is None:
            return Verdict("unknown", "its latest materialization has no record of DagFusion")
        return reader.read(event.record)


def check_result(
    check: PlannedCheck, checked: Checked, severity: dg.AssetCheckSeverity, unknown_as: str
) -> dg.AssetCheckResult:
    """Return the result of a check: it passes if its rule holds of every partition, and there is one."""
    verdicts = list(_verdicts(check.rule, checked)) or [(None, Verdict("unknown", "nothing is materialized"))]
    failing = [one for one in verdicts if one[1].state != "holds"]
    broken = [one for one in failing if one[1].state == "broken"]
    unknown = [one for one in failing if one[1].state == "unknown"]
    is_only_unknown = bool(unknown) and not broken and unknown_as == "warn"
    return dg.AssetCheckResult(
        passed=not broken and not unknown,
        check_name=check.name,
        severity=dg.AssetCheckSeverity.WARN if is_only_unknown else severity,
        description=_described(broken, unknown, len(verdicts)),
        metadata={
            "partitions": len(verdicts),
            "broken_partitions": len(broken),
            "unknown_partitions": len(unknown),
            **_extremes(verdicts),
            **_listed("broken", broken),
            **_listed("unknown", unknown),
            **_outside(checked),
        },
    )


def _verdicts(rule: Rule | Complete | Fresh | AlikeColumns, checked: Checked) -> Iterator[KeyedVerdict]:
    if isinstance(rule, Complete):
        missing = Verdict("broken", "not materialized")
        yield from ((key, HOLDS if key in checked.events else missing) for key in checked.keys)
    elif isinstance(rule, Fresh):
        yield from ((key, _freshness(rule, checked, key)) for key in checked.keys)
    else:
        resolved = _alike(rule, checked) if isinstance(rule, AlikeColumns) else rule
        for key, partition in checked.partitions:
            yield key, partition if isinstance(partition, Verdict) else resolved.evaluate(partition)


def _freshness(rule: Fresh, checked: Checked, key: str | None) -> Verdict:
    event, end = checked.events.get(key), None
    if checked.window_end is not None and key is not None:
        end = checked.window_end(key)
        late = checked.now - end > rule.within and (event is None or event.at < end)
    else:
        late = event is None or checked.now - event.at > rule.within
    if not late:
        return HOLDS
    at = "never materialized" if event is None else f"materialized {event.at.isoformat(timespec='seconds')}"
    return Verdict("broken", f"{at}, and its time window ended {end.isoformat()}" if end is not None else at)


def _alike(rule: AlikeColumns, checked: Checked) -> Rule:
    """Return the columns of the newest other partition, or of the newest that is looked at."""
    reader = PartitionReader()
    newest = sorted((checked.events[key] for key in checked.keys if key in checked.events), key=lambda e: -e.event_id)
    for event in [*([checked.other] if checked.other else []), *newest]:
        partition = reader.read(event.record) if event.record is not None else None
        if isinstance(partition, Partition):
            types = column_types(partition.file.layout)
            return SameColumns(dict.fromkeys(types) if rule.names_only else types)
    return SameColumns({})


def _described(broken: Sequence[KeyedVerdict], unknown: Sequence[KeyedVerdict], count: int) -> str:
    if not broken and not unknown:
        return "" if count == 1 else f"All {count} partitions pass."
    parts = []
    for word, some in (("fail", broken), ("are unknown", unknown)):
        if some:
            found = [f"{key}: {verdict.found}" if key else verdict.found for key, verdict in some]
            parts.append(f"{len(some)} of {count} partitions {word} ({', '.join(shortened(found, _NAMED))}).")
    return " ".join(parts)


def _listed(word: str, some: Sequence[KeyedVerdict]) -> dict[str, dg.TableMetadataValue]:
    if not some:
        return {}
    records = [dg.TableRecord({"partition": key or "", "found": verdict.found}) for key, verdict in some[:LISTED]]
    return {f"first_{word}": dg.MetadataValue.table(records)}


def _extremes(verdicts: Iterable[KeyedVerdict]) -> dict[str, Any]:
    """Return the bounds of all partitions whose records have them."""
    seen = [(v.lowest, v.highest) for _, v in verdicts if v.lowest is not None and v.highest is not None]
    if not seen:
        return {}
    lowest = min((least for least, _ in seen), key=_AS_IT_COMPARES)
    highest = max((most for _, most in seen), key=_AS_IT_COMPARES)
    return {"lowest": lowest[1], "highest": highest[1]}


def _outside(checked: Checked) -> dict[str, int]:
    """Return the number of materialized partitions that the definition does not have (any more)."""
    keys = {*checked.keys}
    outside = 0 if checked.selected else sum(1 for key in checked.events if key not in keys)
    return {"partitions_outside_definition": outside} if outside else {}


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

"""Applies the lifecycle rules of a bucket to objects of any age. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

SMALLEST_MOVED_BYTES = 128 << 10  # by default, a rule does not move smaller objects
STANDARD, GONE = "STANDARD", ""


@dataclass(frozen=True)
class LifecycleRule:
    """One enabled rule for current versions.

    Attributes:
        prefix: Of the keys that it is for.
        moves: Days and storage classes, in order.
        expires_days: None if it deletes nothing.
        above_bytes: Objects must be larger.
        below_bytes: Objects must be smaller; None for any.
    """

    prefix: str = ""
    moves: Sequence[tuple[int, str]] = field(default=())
    expires_days: int | None = None
    above_bytes: int = -1
    below_bytes: int | None = None


def read_rules(configuration: Iterable[Mapping[str, Any]]) -> list[LifecycleRule]:
    """Return the rules that the catalog can apply: those by age, prefix and size. Rules by tags and dates are left out.

    Args:
        configuration: As S3 returns it.
    """
    rules = []
    for rule in configuration:
        outer = rule.get("Filter", {})
        conditions = {**{key: value for key, value in outer.items() if key != "And"}, **outer.get("And", {})}
        if rule.get("Status") != "Enabled" or conditions.keys() & {"Tag", "Tags"}:
            continue
        moves = [(one["Days"], one["StorageClass"]) for one in rule.get("Transitions", ()) if "Days" in one]
        rules.append(
            LifecycleRule(
                conditions.get("Prefix", rule.get("Prefix", "")),
                sorted(moves),
                rule.get("Expiration", {}).get("Days"),
                conditions.get("ObjectSizeGreaterThan", -1),
                conditions.get("ObjectSizeLessThan"),
            )
        )
    return rules


def storage_classes(
    keys: Sequence[str],
    sizes: npt.NDArray[np.int64],
    ages_days: npt.NDArray[np.float64],
    rules: Sequence[LifecycleRule],
) -> npt.NDArray[np.str_]:
    """Return the storage class of each object at its age; `GONE` if a rule has deleted it.

    Args:
        keys: Of the objects.
        sizes: In bytes.
        ages_days: The age of each.
        rules: Of the bucket. Where two of them apply, the later move counts, and any deletion.
    """
    found = np.full(len(sizes), STANDARD, dtype="U16")
    moved_at = np.full(len(sizes), -1.0)
    gone = np.zeros(len(sizes), dtype=bool)
    for rule in rules:
        applies = np.fromiter((key.startswith(rule.prefix) for key in keys), bool, len(keys))
        applies &= sizes > rule.above_bytes
        if rule.below_bytes is not None:
            applies &= sizes < rule.below_bytes
        movable = applies & (sizes >= (SMALLEST_MOVED_BYTES if rule.above_bytes < 0 else 0))
        for days, name in rule.moves:
            now = movable & (ages_days >= days) & (moved_at <= days)
            found[now], moved_at[now] = name, days
        if rule.expires_days is not None:
            gone |= applies & (ages_days >= rule.expires_days)
    found[gone] = GONE
    return found

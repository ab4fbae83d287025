"""The regression gate: counters exactly, times as ratios within one run; compared with a committed baseline. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).with_name("baseline.json")


@dataclass(frozen=True)
class Measured:
    """What one run gave.

    Attributes:
        days: The data set's.
        counters: Of each query: files, requests by kind, objects and bytes; the same in every run.
        ratios: Times divided by the time of a yardstick in the same run.
    """

    days: int
    counters: Mapping[str, Any]
    ratios: Mapping[str, float]


@dataclass(frozen=True)
class Baseline:
    """What a run is compared with, and by how much a ratio may exceed it."""

    measured: Measured
    tolerance: float


def compare(measured: Measured, baseline: Baseline) -> list[str]:
    """Say what is worse than the baseline, or differs from it where nothing may; empty when all is well."""
    wanted = baseline.measured
    if measured.days != wanted.days:
        return [f"the baseline is of {wanted.days} days, the run of {measured.days}"]
    found = dict(_flat(measured.counters))
    expected = dict(_flat(wanted.counters))
    wrong = [
        f"{name} must be {expected.get(name, 0)}, got {found.get(name, 0)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name, 0) != expected.get(name, 0)
    ]
    for name in sorted(measured.ratios.keys() | wanted.ratios.keys()):
        if name not in measured.ratios or name not in wanted.ratios:
            wrong.append(f"{name} is not in both the run and the baseline")
        elif measured.ratios[name] > wanted.ratios[name] * baseline.tolerance:
            wrong.append(
                f"{name} takes {measured.ratios[name]:.2f} times the yardstick's time,"
                f" more than {baseline.tolerance} x {wanted.ratios[name]:.2f}"
            )
    return wrong


def load(file: Path = BASELINE) -> Baseline:
    """Read the committed baseline."""
    document = json.loads(file.read_text())
    return Baseline(Measured(document["days"], document["counters"], document["ratios"]), document["tolerance"])


def save(baseline: Baseline, file: Path = BASELINE) -> None:
    """Write a baseline to be committed."""
    document = {
        "days": baseline.measured.days,
        "tolerance": baseline.tolerance,
        "ratios": {name: round(ratio, 2) for name, ratio in baseline.measured.ratios.items()},
        "counters": baseline.measured.counters,
    }
    file.write_text(json.dumps(document, indent=2) + "\n")


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Give the leaves of nested mappings, each with the path to it."""
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{name} {key}".strip())]

"""The regression gate: a run compared with a committed baseline. Pure.

Counters must be the same. Work, in Python calls, may grow a little; times count only as ratios within one run, and may
grow more.
"""

import json
from collections.abc import Iterator, Mapping
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
        work: Python calls of a plan: the same in every run of one Python.
        ratios: Times of plans, divided by the time of a yardstick in the same run.
    """

    days: int
    counters: Mapping[str, Any]
    work: Mapping[str, float]
    ratios: Mapping[str, float]


@dataclass(frozen=True)
class Baseline:
    """What a run is compared with, and how many times as much work and time it may take.

    Time has the wider tolerance: on a machine that does other things, a ratio of times is off by a half now and then.
    """

    measured: Measured
    work_tolerance: float
    time_tolerance: float


def compare(measured: Measured, baseline: Baseline) -> list[str]:
    """Say what is worse than the baseline, or differs from it where nothing may; empty when all is well."""
    wanted = baseline.measured
    if measured.days != wanted.days:
        return [f"the baseline is of {wanted.days} days, the run of {measured.days}"]
    found, expected = dict(_flat(measured.counters)), dict(_flat(wanted.counters))
    differing = [
        f"{name} must be {expected.get(name, 0)}, got {found.get(name, 0)}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name, 0) != expected.get(name, 0)
    ]
    work = _exceeding("Python calls", measured.work, wanted.work, baseline.work_tolerance)
    time = _exceeding("times the yardstick's time", measured.ratios, wanted.ratios, baseline.time_tolerance)
    return [*differing, *work, *time]


def _exceeding(unit: str, found: Mapping[str, float], expected: Mapping[str, float], tolerance: float) -> Iterator[str]:
    for name in sorted(found.keys() | expected.keys()):
        if name not in found or name not in expected:
            yield f"{name} is not in both the run and the baseline"
        elif found[name] > expected[name] * tolerance:
            yield f"{name} takes {found[name]:.4g} {unit}, more than {tolerance} x {expected[name]:.4g}"


def load(file: Path = BASELINE) -> Baseline:
    """Read the committed baseline."""
    document = json.loads(file.read_text())
    tolerance = document.pop("tolerance")
    return Baseline(Measured(**document), tolerance["work"], tolerance["time"])


def save(baseline: Baseline, file: Path = BASELINE) -> None:
    """Write a baseline to be committed."""
    measured = baseline.measured
    document = {
        "days": measured.days,
        "tolerance": {"work": baseline.work_tolerance, "time": baseline.time_tolerance},
        "work": measured.work,
        "ratios": {name: round(ratio, 2) for name, ratio in measured.ratios.items()},
        "counters": measured.counters,
    }
    file.write_text(json.dumps(document, indent=2) + "\n")


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Give the leaves of nested mappings, each with the path to it."""
    if not isinstance(value, Mapping):
        return [(name, value)]
    return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{name} {key}".strip())]

"""Processes over one hot table that may be killed at any moment: one that maintains it, and ones that query it."""

import itertools
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random
from typing import Any, Self

import dagster as dg
import pyarrow as pa

from dagfusion_query.connection import EmbeddedConnection, connect_embedded
from tests.e2e.consolidation import DAYS, ROWS, STATES, TABLE, TARGET_BYTES, Readings
from tests.e2e.vacuuming import vacuumed

SUM = sum(range(ROWS))
MAINTENANCE = "maintenance"
RETENTION_S = 60  # longer than any query takes
GROUPED = "SELECT state, date, sum(x + 0) AS total, min(version + 0) AS least, max(version + 0) AS most FROM"
Versions = Mapping[str, int]


@dataclass(frozen=True)
class Written:
    """The versions that a partition may have: at least the one that was logged, at most the one being written."""

    path: Path

    def write(self, least: Mapping[tuple[str, str], int], most: Mapping[tuple[str, str], int]) -> None:
        temporary = self.path.with_suffix(".new")
        sides = [{f"{state} {day}": version for (state, day), version in side.items()} for side in (least, most)]
        temporary.write_text(json.dumps(sides))
        temporary.rename(self.path)

    def least(self) -> Versions:
        least: Versions = json.loads(self.path.read_text())[0]
        return least

    def most(self) -> Versions:
        most: Versions = json.loads(self.path.read_text())[1]
        return most


@dataclass(frozen=True)
class Report:
    """What one process has done, as lines of a file, which are there after it was killed."""

    path: Path

    def add(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []


class Processes:
    """One process that maintains the table, and some that query it.

    Args:
        folder: For what they report.
        home: The Dagster home.
        fields: The IO manager's.
        settings: Of those that query.
        queries: How many query.
    """

    def __init__(  # noqa: PLR0917  # all are needed
        self, folder: Path, home: Path, fields: dict[str, Any], settings: dict[str, str], written: Written, queries: int
    ) -> None:
        self.reports = {name: Report(folder / f"{name}.txt") for name in (MAINTENANCE, *map(str, range(queries)))}
        self.kills: Counter[str] = Counter()
        self._targets: dict[str, tuple[Any, ...]] = {
            name: (_query, str(home), settings, written, report) for name, report in self.reports.items()
        }
        self._targets[MAINTENANCE] = (_maintain, str(home), fields, self.reports[MAINTENANCE])
        self._running: dict[str, BaseProcess] = {}
        self._reported: Counter[str] = Counter()

    def __enter__(self) -> Self:
        for name in self.reports:
            self._start(name)
        return self

    def __exit__(self, *error: object) -> None:
        for name in self._running:
            self._kill(name)

    def kill_one(self, rng: Random) -> None:
        """Kill a process at a random moment and start it again, but leave it alone until it has done something."""
        name = rng.choice([name for name in self.reports if name not in self.kills] or list(self.reports))
        if len(self.reports[name].lines()) > self._reported[name] + rng.randrange(4):
            time.sleep(rng.random())
            self._kill(name)
            self.kills[name] += 1
            self._start(name)

    def failures(self) -> list[str]:
        return [line for report in self.reports.values() for line in report.lines() if line.startswith("failed")]

    def _start(self, name: str) -> None:
        target, *args = self._targets[name]
        self._reported[name] = len(self.reports[name].lines())
        self._running[name] = multiprocessing.get_context("spawn").Process(target=target, args=(os.getpid(), *args))
        self._running[name].start()

    def _kill(self, name: str) -> None:
        self._running[name].kill()
        self._running[name].join()


def _maintain(parent: int, home: str, fields: dict[str, Any], report: Report) -> None:
    """Consolidate and vacuum again and again."""
    with dg.DagsterInstance.from_config(home) as instance:
        readings = Readings(instance, fields)
        while os.getppid() == parent:
            try:
                report.add(f"consolidated {readings.consolidate(target_bytes=TARGET_BYTES).partitions}")
                vacuumed(readings, kept_s=RETENTION_S)
                report.add("vacuumed")
            except Exception as error:  # noqa: BLE001  # the test reads it
                report.add(f"failed: {type(error).__name__}: {error}")


def _query(parent: int, home: str, settings: dict[str, str], written: Written, report: Report) -> None:
    """Query again and again; half of the statements come again, so that results are kept."""
    rng = Random()  # noqa: S311
    wheres = ("true", f"state = '{STATES[0]}'", f"date >= '{DAYS[6]}'", "x % 2 >= 0")
    with connect_embedded(home, settings=settings) as connection:
        for number in itertools.count():
            if os.getppid() != parent:
                return
            try:
                _ask(connection, f"{rng.choice(wheres)} AND x >= {-number if rng.random() < 0.5 else 0}", written)
                report.add("answered")
            except Exception as error:  # noqa: BLE001  # the test reads it
                report.add(f"failed: {type(error).__name__}: {error}")


def _ask(connection: EmbeddedConnection, where: str, written: Written) -> None:
    """Ask for all versions, and compare them with those that were there before and after."""
    least = written.least()
    connection.refresh()
    rows = connection.sql(f"{GROUPED} {TABLE} WHERE {where} GROUP BY state, date").to_arrow()
    most = written.most()
    asked = {key for key in least if _is_asked(where, *key.split())}
    found = {f"{row['state']} {row['date']}": row for row in _rows(rows)}
    if found.keys() != asked:
        raise AssertionError(f"{where}: partitions {sorted(found.keys() ^ asked)}")
    for key, row in found.items():
        if row["total"] != SUM or row["least"] != row["most"] or not least[key] <= row["least"] <= most[key]:
            raise AssertionError(f"{where}: {row}, and version {least[key]} to {most[key]} were written")


def _is_asked(where: str, state: str, day: str) -> bool:
    return ("state" not in where or state == STATES[0]) and ("date" not in where or day >= DAYS[6])


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows

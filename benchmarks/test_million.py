"""1,000,000 partitions: the first sync of a catalog, its memory, its reload, and a point query's plan."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks import dataset, million
from benchmarks.conftest import Findings
from benchmarks.dataset import Dataset

PARTITIONS = 1_000_000
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def event_log(home: Path, data: Dataset, pytestconfig: pytest.Config, findings: Findings) -> Iterator[str]:
    if not pytestconfig.getoption("--million"):
        pytest.skip("asked for by --million")
    with dataset.servers(home / "million", print) as (variables, _):
        url = variables["DAGFUSION_EVENT_LOG"]
        if million.count(url) != PARTITIONS:
            started = time.perf_counter()
            million.fill(url, PARTITIONS, million.template(million.any_event(data.place.event_log)))
            findings["million_fill_s"] = time.perf_counter() - started
        yield url


def test_a_million_partitions(event_log: str, tmp_path: Path, findings: Findings) -> None:
    first, again = (_probe(event_log, tmp_path / "state") for _ in range(2))
    assert first["partitions"] == again["partitions"] == PARTITIONS
    findings["million"] = {"sync": first, "reload": again, "event_log_bytes": _size(event_log)}


def _probe(event_log: str, state_dir: Path) -> million.Probed:
    """Measure in a process of its own, whose memory is only the catalog's."""
    command = [sys.executable, "-m", million.__name__, event_log, str(state_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    probed: million.Probed = json.loads(done.stdout)
    return probed


def _size(event_log: str) -> int:
    with psycopg.connect(event_log) as connection:
        row = connection.execute("select pg_total_relation_size('event_logs')").fetchone()
    assert row is not None
    return int(row[0])

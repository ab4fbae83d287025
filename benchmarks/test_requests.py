"""The design's claims as numbers: files read and skipped, requests by kind as they cross the wire, bytes."""

import contextlib
from collections.abc import Iterator

import pytest

from benchmarks.conftest import Findings
from benchmarks.counters import count
from benchmarks.dataset import Dataset
from benchmarks.engines import dagfusion
from benchmarks.engines.protocol import Engine
from benchmarks.wire import GET, Meter, Traffic, metered
from benchmarks.workload import DATE_QUERY, ORDINARY_COLUMN, POINT, QUERIES, STATE_QUERY, Query


@pytest.fixture(scope="module")
def meter(data: Dataset) -> Iterator[Meter]:
    with metered(data.place.endpoint) as relay:
        yield relay


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_dagfusion_reads_what_it_needs(query: Query, data: Dataset, meter: Meter, findings: Findings) -> None:
    counted = count(data, meter, query)
    findings.setdefault("claims", {})[query.name] = counted
    needed = data.days if query is ORDINARY_COLUMN else data.files(query) * query.needs_files
    assert (counted["files_total"], counted["files_read"]) == (data.partitions, needed)
    assert counted["cold"]["requests"] == ({GET: needed} if needed else {})
    assert counted["cold"]["objects"] == needed
    assert counted["warm"]["requests"] == {}, "local copies"


@pytest.mark.parametrize("query", [POINT, STATE_QUERY, DATE_QUERY], ids=lambda query: query.name)
def test_what_each_engine_asks_for(
    engine: Engine, query: Query, data: Dataset, meter: Meter, findings: Findings
) -> None:
    if engine is dagfusion.PLANNED_ANEW:
        pytest.skip("the same requests as DagFusion's")
    with contextlib.closing(engine.open(data.place.behind(meter.endpoint))) as session:
        for kind in ("cold", "warm"):
            session.run(query)
            findings["requests"].append({"engine": engine.name, "query": query.name, "kind": kind} | _row(meter.take()))


def _row(traffic: Traffic) -> dict[str, object]:
    return {
        "requests": dict(traffic.requests),
        "bytes": sum(traffic.bytes.values()),
        "objects": len(traffic.objects),
    }

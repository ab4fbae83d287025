"""What one DagFusion query reads: files by the catalog, requests and bytes by the wire. Deterministic."""

import contextlib
from typing import TypedDict

from benchmarks.dataset import Dataset
from benchmarks.engines.dagfusion import DagFusion
from benchmarks.wire import Meter, Traffic
from benchmarks.workload import Query

# A query without a batch for so long asks the store whether it is there, by a HEAD; behind a relay it may take long.
_PATIENT = {"DAGFUSION_STORE_STALL_S": "3600"}


class Wire(TypedDict):
    """Requests by kind, distinct objects, and bytes of objects."""

    requests: dict[str, int]
    objects: int
    bytes: int


class Counted(TypedDict):
    """One query, in a new session (cold) and again in the same (warm)."""

    files_total: int
    files_read: int
    files_skipped: int
    cold: Wire
    warm: Wire


def count(data: Dataset, meter: Meter, query: Query) -> Counted:
    """Run a query twice in a new session, and count."""
    with contextlib.closing(DagFusion(data.place.behind(meter.endpoint), _PATIENT)) as session:
        meter.take()
        session.run(query)
        cold = meter.take()
        result = session.ask(query)
        result.to_arrow()
        warm, stats = meter.take(), result.stats
    return Counted(
        files_total=stats.files_total,
        files_read=stats.files_read,
        files_skipped=stats.files_skipped,
        cold=_wire(cold),
        warm=_wire(warm),
    )


def _wire(traffic: Traffic) -> Wire:
    return Wire(
        requests=dict(sorted(traffic.requests.items())), objects=len(traffic.objects), bytes=traffic.object_bytes
    )

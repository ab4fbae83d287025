"""DagFusion as a user connects to it."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

import dagfusion_query
from benchmarks.dataset import TABLE, Place
from benchmarks.engines.protocol import Engine
from benchmarks.workload import Query


class DagFusion:
    """A connection.

    Args:
        place: Where the event log and the objects are.
        variables: More settings.
    """

    def __init__(self, place: Place, variables: Mapping[str, str] | None = None) -> None:
        self.connection = dagfusion_query.connect(settings={**place.variables, **(variables or {})})

    def run(self, query: Query) -> pa.Table:
        return self.ask(query).to_arrow()

    def ask(self, query: Query) -> dagfusion_query.Result:
        """Start a query and return its result, which knows what it reads."""
        return self.connection.sql(query.sql.format(table=TABLE))

    def close(self) -> None:
        self.connection.close()


def with_snapshots(state_dir: Path) -> Engine:
    """An engine that keeps its catalog in a folder between processes, as a service does."""
    return Engine(
        "DagFusion, snapshot kept",
        "DAGFUSION_STATE_DIR set, so that a new process maps the last catalog instead of reading the event log",
        lambda place: DagFusion(place, {"DAGFUSION_STATE_DIR": str(state_dir)}),
    )


ENGINE = Engine("DagFusion", "defaults", DagFusion)
PLANNED_ANEW = Engine(
    "DagFusion, no plan cache",
    "every statement is planned anew, as if it had never been seen",
    lambda place: DagFusion(place, {"DAGFUSION_PLAN_CACHE_BYTES": "1"}),
)

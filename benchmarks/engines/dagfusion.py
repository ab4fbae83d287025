"""DagFusion as a user connects to it."""

import tempfile
from collections.abc import Mapping
from functools import cache

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
        self._copies = tempfile.TemporaryDirectory(prefix="dagfusion-bench-objects-", ignore_cleanup_errors=True)
        # A new session has no copies of objects, and a repeated query is to be run again.
        own = {"DAGFUSION_OBJECT_CACHE_DIR": self._copies.name, "DAGFUSION_RESULT_CACHE_DIR": "none"}
        self.connection = dagfusion_query.connect(settings={**place.variables, **own, **(variables or {})})

    def run(self, query: Query) -> pa.Table:
        return self.ask(query).to_arrow()

    def ask(self, query: Query) -> dagfusion_query.Result:
        """Start a query and return its result, which knows what it reads."""
        return self.connection.sql(query.sql.format(table=TABLE))

    def close(self) -> None:
        self.connection.close()
        self._copies.cleanup()


@cache
def _cache() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dagfusion-bench-cache-")


def _by_default(place: Place, **variables: str) -> DagFusion:
    """Connect as a user who says nothing but where the event log is: with a cache folder of their own."""
    return DagFusion(place, {"XDG_CACHE_HOME": _cache().name, **variables})


ENGINE = Engine("DagFusion", "defaults: a new session maps the catalog that the one before left", _by_default)
PLANNED_ANEW = Engine(
    "DagFusion, no plan cache",
    "every statement is planned anew, as if it had never been seen",
    lambda place: _by_default(place, DAGFUSION_PLAN_CACHE_BYTES="1"),
)
NO_COPIES = Engine(
    "DagFusion, no local copies",
    "DAGFUSION_OBJECT_CACHE_DIR=none: every query reads its objects from the S3 server",
    lambda place: _by_default(place, DAGFUSION_OBJECT_CACHE_DIR="none"),
)
CONSOLIDATED_ENGINE = Engine(
    "DagFusion, consolidated", "the same, after `dagfusion consolidate` of the table", _by_default
)
NOTHING_KEPT = Engine(
    "DagFusion, no snapshot kept",
    "DAGFUSION_STATE_DIR=none: a new session reads the whole event log, as the first one on a machine does",
    lambda place: _by_default(place, DAGFUSION_STATE_DIR="none"),
)

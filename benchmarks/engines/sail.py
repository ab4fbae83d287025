"""Sail as a local cluster: a Spark Connect server with two workers that are threads of its process."""

import tempfile
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from benchmarks.dataset import TABLE, Place
from benchmarks.engines.protocol import Engine
from benchmarks.workload import Query
from dagfusion_stack.sail import TASK_SLOTS, WORKERS
from tests.interop.spark.sail import answer, local_cluster

_COLUMNS = (
    "npi BIGINT, organization_name STRING, tax_id STRING, taxonomy_code STRING, specialty STRING, zip_code STRING,"
    " provider_count BIGINT, enumeration_date DATE, state STRING, date DATE"
)


class _Sail:
    """A cluster, and one session of it."""

    def __init__(self, place: Place, catalog: Mapping[str, str] | None) -> None:
        store = {name: value for name, value in place.variables.items() if name.startswith("AWS_")}
        store |= {"AWS_ENDPOINT": place.endpoint, "AWS_ALLOW_HTTP": "true"}
        self._session = str(uuid.uuid4())
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dagfusion-bench-sail-"))
            self._remote = stack.enter_context(local_cluster(Path(folder), store, catalog, TASK_SLOTS))
            self._stack = stack.pop_all()

    def ask(self, statement: str) -> pa.Table:
        """Run a statement of Spark SQL."""
        return answer(self._remote, statement, self._session)

    def close(self) -> None:
        self._stack.close()


class Sail(_Sail):
    """The catalog of the service, as `lake`."""

    def __init__(self, place: Place, url: str) -> None:
        super().__init__(place, {"name": "lake", "uri": url})

    def run(self, query: Query) -> pa.Table:
        return self.ask(query.sql.format(table=f"lake.{TABLE}"))


class Files(_Sail):
    """A table over the folder. Sail lists the folder for each query."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, None)
        self.ask(
            f"CREATE TABLE organizations ({_COLUMNS}) USING parquet PARTITIONED BY (state, date) LOCATION '{place.url}'"
        )

    def run(self, query: Query) -> pa.Table:
        return self.ask(query.sql.format(table="organizations"))


SETUP = f"SAIL_MODE=local-cluster with {WORKERS} workers of {TASK_SLOTS} task slots, as `dagfusion up --distributed`"
FILES = Engine("Sail CREATE TABLE", "CREATE TABLE ... USING parquet PARTITIONED BY ... LOCATION, once", Files)

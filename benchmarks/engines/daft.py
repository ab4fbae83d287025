"""Daft, in a process and an environment of its own, because it needs an older pyarrow than the benchmarks."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa

from benchmarks.dataset import TABLE, Place
from benchmarks.engines.protocol import Engine
from benchmarks.workload import Query
from tests.server.doors.iceberg.other_clients import running_daft

_NAME = f"lake_{TABLE.rpartition('.')[2]}"  # of the table in a statement
_NO_CATALOG = "http://localhost:1"  # Daft's process opens a catalog when a table is loaded


class _Daft:
    """A process of Daft."""

    def __init__(self, place: Place, url: str) -> None:
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dagfusion-bench-daft-"))
            self._daft = stack.enter_context(running_daft(url, place.variables, Path(folder)))
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()


class Daft(_Daft):
    """A DataFrame of PyIceberg's table; each query loads the table anew, as scripts do."""

    def __init__(self, place: Place, url: str) -> None:
        super().__init__(place, url)
        self._daft.load(TABLE)  # the process is ready after this

    def run(self, query: Query) -> pa.Table:
        self._daft.load(TABLE)
        return self._daft.sql(query.sql.format(table=_NAME))


class Files(_Daft):
    """A DataFrame over the folder; each query makes its own."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, _NO_CATALOG)
        self._glob = f"{place.url}**/*.parquet"

    def run(self, query: Query) -> pa.Table:
        return self._daft.sql_of_files(query.sql.format(table="files"), self._glob)


FILES = Engine("Daft read_parquet", "read_parquet(glob, hive_partitioning) for each query", Files)

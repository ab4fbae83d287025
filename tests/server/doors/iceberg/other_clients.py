"""Clients of the Iceberg catalog that run in processes of their own: Daft, and Sail as a cluster in one process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from dagfusion_contract.iceberg_names import version_of_metadata
from tests.doctest.documents import blocks
from tests.interop.spark.sail import answer
from tests.server.doors.iceberg.lake import Lake

LIBRARIES = ("daft==0.7.26", "pyarrow<26", "pyiceberg==0.12.0")  # it needs an older pyarrow than the tests
Read = Callable[[], pa.Table]


class Client(Protocol):
    """A client.

    Attributes:
        options: What the IO managers that write for it need.
    """

    options: Mapping[str, Any]

    def loaded(self, table: str, columns: Sequence[str]) -> Read:
        """Return what reads columns of a table as it is now."""

    def read(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Return columns of a table."""


class ClientError(Exception):
    """What a client said."""


class Daft:
    """Daft, in an environment of its own."""

    options: Mapping[str, Any] = {"field_ids": True, "partition_columns_in_files": True}

    def __init__(self, process: "subprocess.Popen[str]", file: Path) -> None:
        self._process, self._file = process, file

    def load(self, table: str) -> None:
        """Load a table as it is now, for later statements."""
        self._run(load=table)

    def loaded(self, table: str, columns: Sequence[str]) -> Read:
        """Return what reads columns of a table as it is now."""
        self.load(table)
        return lambda: self._rows(table=table, columns=[*columns])

    def read(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Return columns of a table."""
        return self.loaded(table, columns)()

    def sql(self, statement: str) -> pa.Table:
        """Return the rows of a statement over the tables that were loaded."""
        return self._rows(sql=statement)

    def sql_of_files(self, statement: str, glob: str) -> pa.Table:
        """Return the rows of a statement over `files`, the Parquet objects of HIVE folders."""
        return self._rows(sql=statement, files=glob)

    def _rows(self, **command: Any) -> pa.Table:
        self._run(file=str(self._file), **command)
        with pa.ipc.open_file(self._file) as reader:
            return reader.read_all()

    def _run(self, **command: Any) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(command)}\n")
        self._process.stdin.flush()
        error = json.loads(self._process.stdout.readline() or '"Daft ended"')
        if error is not None:
            raise ClientError(error)


@contextmanager
def running_daft(url: str, variables: Mapping[str, str], folder: Path) -> Iterator[Daft]:
    """Run Daft.

    Args:
        url: Of the catalog.
        variables: The AWS_* variables of the object store, and others.
        folder: Gets its log and its rows.
    """
    code = (block.code for block in blocks(Path("docs/how-to/iceberg.md")) if block.language == "python")
    function = next(one for one in code if "rows_by_daft" in one)
    store = {name: value for name, value in variables.items() if name.startswith("AWS_")}
    environment = store | {"DAFT_PROGRESS_BAR": "0"}
    with isolated(LIBRARIES, "daft_process.py", function, url, log=folder / "daft.log", **environment) as process:
        yield Daft(process, folder / "rows.arrow")


@contextmanager
def isolated(
    libraries: Sequence[str], script: str, *arguments: str, log: Path, **variables: str
) -> Iterator["subprocess.Popen[str]"]:
    """Run a script of this folder, with pipes, in an environment of its own that has these libraries."""
    options = ["--quiet", "--no-project", "--isolated", "--python", sys.executable]
    installed = [part for name in libraries for part in ("--with", name)]
    command = ["uv", "run", *options, *installed, "python", str(Path(__file__).with_name(script)), *arguments]
    environment, pipe = os.environ | variables, subprocess.PIPE
    with log.open("w") as errors:
        process = subprocess.Popen(command, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=errors)  # noqa: S603
    with process:  # the end of its input ends it
        yield process


class Sail:
    """Sail, over the catalog `lake`."""

    options: Mapping[str, Any] = {}

    def __init__(self, remote: str, lake: Lake) -> None:
        self.remote, self._lake = remote, lake

    def loaded(self, table: str, columns: Sequence[str]) -> Read:
        """Return what reads columns of a table as it is now, as a service names it in what it sends."""
        namespace, _, name = table.partition(".")
        version = version_of_metadata(self._lake.pyiceberg().load_table(table).metadata_location)
        wanted = ", ".join(f"`{column}`" for column in columns)
        return lambda: answer(self.remote, f"SELECT {wanted} FROM lake.`{namespace}@{version}`.`{name}`")

    def read(self, table: str, columns: Sequence[str]) -> pa.Table:
        """Return columns of a table."""
        return answer(self.remote, f"SELECT {', '.join(f'`{column}`' for column in columns)} FROM lake.{table}")

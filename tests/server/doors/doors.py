"""The ways to ask: the embedded connection, a client over HTTP or Flight SQL, ADBC's driver, and the command line."""

import contextlib
import io
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import orjson
import pyarrow as pa
import pytest

from dagfusion_cli.main import main
from dagfusion_client.as_of import Given
from dagfusion_client.documents import codec
from dagfusion_client.documents.query_documents import Failure
from dagfusion_client.errors import QueryError
from dagfusion_query import Connection

AS_OF_HEADER = "adbc.flight.sql.rpc.call_header.dagfusion-as-of"


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: bytes
    err: str


class Door(ABC):
    """One way to ask."""

    @abstractmethod
    def table(self, sql: str, params: Sequence[Any] = (), *, as_of: Given | None = None) -> pa.Table:
        """Return the rows of a statement."""

    @abstractmethod
    def error(self, sql: str, params: Sequence[Any] = (), *, as_of: Given | None = None) -> QueryError:
        """Return the error of a statement that fails."""


class ConnectionDoor(Door):
    """A connection of this package: embedded, or of a client."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def table(self, sql: str, params: Sequence[Any] = (), *, as_of: Given | None = None) -> pa.Table:
        """Return the rows of a statement."""
        return self.connection.sql(sql, params, as_of=as_of).to_arrow()

    def error(self, sql: str, params: Sequence[Any] = (), *, as_of: Given | None = None) -> QueryError:
        """Return the error of a statement that fails."""
        with pytest.raises(QueryError) as raised:
            self.connection.sql(sql, params, as_of=as_of).to_arrow()
        return raised.value


class AdbcDoor(Door):
    """ADBC's driver for Flight SQL."""

    def __init__(self, connection: flight_sql.Connection) -> None:
        self._connection = connection

    def table(self, sql: str, params: Sequence[Any] = (), *, as_of: Given | None = None) -> pa.Table:
        """Return the rows of a statement."""
        with self._connection.cursor() as cursor:
            if as_of is not None:
                cursor.adbc_statement.set_options(**{AS_OF_HEADER: str(as_of)})
            cursor.execute(sql, bound(params))
            return cursor.fetch_arrow_table()

    def error(self, sql: str, params: Sequence[Any] = (), *, as_of: Given | None = None) -> QueryError:
        """Return the error of a statement that fails: the driver hands on what the service says."""
        with pytest.raises(adbc_driver_manager.Error) as raised:
            self.table(sql, params, as_of=as_of)
        trailers: Any = raised.value.details  # their keys are bytes, unlike what the driver's types say
        error = codec.read(Failure, orjson.loads(dict(trailers)[b"dagfusion-error-bin"])).error()
        assert str(error) in str(raised.value)
        return error


def bound(params: Sequence[Any]) -> pa.RecordBatch | None:
    """Return parameters as the row that ADBC binds."""
    arrays = [pa.array([value], value.type) if isinstance(value, pa.Scalar) else pa.array([value]) for value in params]
    return pa.RecordBatch.from_arrays(arrays, names=[str(n) for n in range(len(arrays))]) if arrays else None


class CommandLine(Door):
    """The command `dagfusion` in this process.

    Args:
        folder: An empty folder for its output files.
        variables: Which event log or service it asks.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder, self._variables = folder, variables

    def run(self, *arguments: str) -> Outcome:
        """Run a command to its end."""
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with (
            mock.patch.dict(os.environ, self._variables),
            mock.patch.object(sys, "argv", ["dagfusion", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main()
        out.flush()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, out.buffer.getvalue(), err.getvalue())

    def table(self, sql: str, params: Sequence[Any] = (), *, as_of: Given | None = None) -> pa.Table:
        """Return the rows of a statement."""
        outcome = self._sql(sql, params, as_of)
        assert (outcome.code, outcome.err) == (0, "")
        return pa.ipc.open_stream(outcome.out).read_all()

    def error(self, sql: str, params: Sequence[Any] = (), *, as_of: Given | None = None) -> QueryError:
        """Return the error of a statement that fails; the command line says its text and not its class."""
        outcome = self._sql(sql, params, as_of)
        assert outcome.code == 1  # rows that came before it may be there
        [text] = re.findall(r"\Aerror: (.*)\n\Z", outcome.err, re.DOTALL)
        return QueryError(text)

    def _sql(self, sql: str, params: Sequence[Any], as_of: Given | None) -> Outcome:
        values = [f"--param={written(value)}" for value in params]
        past = [] if as_of is None else [f"--as-of={as_of}"]
        return self.run("sql", sql, "--format=arrow", *values, *past)


def written(value: object) -> str:
    """Return a parameter as the command line takes it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str():
            return "'" + value.replace("'", "''") + "'"
        case int() | float():
            return repr(value)
    return str(value)

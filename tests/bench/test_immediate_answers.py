"""The server that answers at once gives the ADBC driver all that it asks for."""

import subprocess
from pathlib import Path

import adbc_driver_flightsql.dbapi as flight_sql
import pyarrow as pa
import pytest

from benchmarks import service
from benchmarks.immediate_answers import ImmediateAnswers

ROWS = pa.table({"npi": [1, 2], "name": ["a", None]})


def read(url: str) -> pa.Table:
    with flight_sql.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT whatever")
        return cursor.fetch_arrow_table()


def test_each_statement_has_the_rows() -> None:
    with ImmediateAnswers(ROWS) as server:
        assert read(f"grpc://127.0.0.1:{server.port}") == ROWS


@pytest.mark.usefixtures("processes")
def test_it_is_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[str]] = []
    begin = subprocess.Popen

    def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
        started.append(begin(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    with service.immediate_answers(ROWS, tmp_path) as url:
        assert read(url) == ROWS
    assert [process.poll() is not None for process in started] == [True]

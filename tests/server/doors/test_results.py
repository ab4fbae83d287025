"""A result behaves alike wherever it comes from: the embedded engine, HTTP and Flight SQL."""

import threading
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import dagfusion_query
from dagfusion_client.errors import ExecutionError
from dagfusion_client.preview import ROWS
from dagfusion_query import Connection, LeftOutWarning, Result
from tests.server.doors.conftest import ARCHIVED_AFTER_DAYS, Doors
from tests.server.doors.doors import CommandLine
from tests.server.processes.process import Server

TABLE = "local_silver_tax_id.orgs"
ALL = f"SELECT id, state FROM {TABLE}"
LARGE = f"SELECT a.id FROM {TABLE} a, {TABLE} b, {TABLE} c"
# Its first batches come, and then it fails.
FAILS = "SELECT 1 / (300000 - value) AS x FROM generate_series(1, 500000)"


def test_what_speaks_arrow_reads_a_result(connection: Connection) -> None:
    expected = connection.sql(ALL).to_arrow().sort_by("id")
    result = connection.sql(ALL)  # noqa: F841  # DuckDB finds it by its name
    replaced = duckdb.sql("SELECT count(*), sum(id), min(state) FROM result")

    assert replaced.fetchall() == [(3000, sum(range(3000)), "CA")]
    assert pa.table(connection.sql(ALL)).sort_by("id") == expected
    assert pa.RecordBatchReader.from_stream(connection.sql(ALL)).read_all().sort_by("id") == expected
    assert pl.DataFrame(connection.sql(ALL)).sort("id").equals(pl.DataFrame(expected))
    frame = pd.DataFrame.from_arrow(connection.sql(ALL))  # type: ignore[attr-defined]  # its stubs are older
    pd.testing.assert_frame_equal(frame.sort_values("id", ignore_index=True), expected.to_pandas())


def test_columns_can_be_asked_for_as_other_types(connection: Connection) -> None:
    wanted = pa.schema({"id": pa.int32(), "state": pa.large_string()})

    table = pa.RecordBatchReader.from_stream(connection.sql(ALL), schema=wanted).read_all()

    assert table.schema == wanted
    assert sorted(table["id"].to_pylist()) == list(range(3000))


def test_the_schema_is_known_before_the_rows(connection: Connection) -> None:
    result = connection.sql(ALL)

    assert pa.schema(result) == result.schema
    assert result.schema.names == ["id", "state"]
    assert result.to_arrow().num_rows == 3000


def test_frames(connection: Connection) -> None:
    expected = connection.sql(f"{ALL} ORDER BY id").to_arrow()

    assert connection.sql(f"{ALL} ORDER BY id").to_polars().equals(pl.DataFrame(expected))
    pd.testing.assert_frame_equal(connection.sql(f"{ALL} ORDER BY id").to_pandas(), expected.to_pandas())
    assert pa.Table.from_batches(list(connection.sql(f"{ALL} ORDER BY id"))) == expected


def test_a_stream_takes_the_rows_and_a_second_one_says_so(connection: Connection) -> None:
    result = connection.sql(ALL)
    pa.table(result)

    for take in (pa.table, pl.DataFrame, pa.RecordBatchReader.from_stream, list, Result.to_arrow):
        with pytest.raises(ExecutionError, match="taken already"):
            take(result)


def test_an_error_on_the_way_is_the_streams_error(connection: Connection) -> None:
    with pytest.raises((pa.ArrowException, ExecutionError), match=r"(?i)divide by zero"):
        pa.table(connection.sql(FAILS))


def test_a_large_result_is_streamed_and_can_be_left(connection: Connection) -> None:
    with pa.RecordBatchReader.from_stream(connection.sql(LARGE)) as reader:  # 27,000,000,000 rows
        assert reader.read_next_batch().num_rows > 0


def test_a_result_that_is_cancelled_has_no_more_rows(connection: Connection) -> None:
    result = connection.sql(LARGE)
    batches = iter(result)
    next(batches)
    result.cancel()
    result.cancel()

    assert list(batches) == []
    assert connection.sql("SELECT 1 AS n").to_arrow().num_rows == 1


def test_showing_a_result_takes_nothing(connection: Connection) -> None:
    result = connection.sql(f"{ALL} ORDER BY id")

    shown, as_html = repr(result), result._repr_html_()

    assert [line.split() for line in shown.splitlines()[1:6]] == [
        ["id", "state"],
        ["int64", "string"],
        ["-----", "------"],
        ["0", "CA"],
        ["1", "CA"],
    ]
    assert len(shown.splitlines()) == 4 + ROWS
    assert as_html.count("<tr>") == 1 + ROWS
    assert repr(result) == shown
    assert result.stats.rows == 0
    assert pa.table(result)["id"].to_pylist() == list(range(3000))
    assert repr(result).splitlines()[0] == "Result: 2 columns; its rows have been taken already"


def test_an_empty_result_is_shown_as_one(connection: Connection) -> None:
    result = connection.sql(f"SELECT id FROM {TABLE} WHERE id < 0")

    assert repr(result).splitlines()[0] == "Result: 1 column; 0 rows"
    assert result.to_arrow().num_rows == 0


def test_a_result_that_is_shown_can_be_given_up_meanwhile(connection: Connection) -> None:
    result = connection.sql(LARGE)
    shown: list[str] = []
    thread = threading.Thread(target=lambda: shown.append(repr(result)))
    thread.start()
    result.cancel()
    thread.join(30)

    assert len(shown) == 1
    assert shown[0].startswith("Result: 1 column")


def test_dir_shows_what_there_is(connection: Connection) -> None:
    names = dir(connection.sql("SELECT 1"))

    assert {"schema", "stats", "cancel", "to_arrow", "to_pandas", "to_polars"} <= {*names}
    assert not [name for name in names if name.startswith("_")]
    assert {"connect", "Result"} <= {*dir(dagfusion_query)}


def test_html_is_escaped(connection: Connection) -> None:
    shown = connection.sql("SELECT '<script>' AS \"<b>\", ['<i>'] AS \"a&b\"")._repr_html_()

    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "<i>" not in shown
    assert "&lt;script&gt;" in shown


ARCHIVED = "prod_silver_tax_id.orgs"
LEFT_OUT = f"the result leaves out 1 partition of {ARCHIVED}, whose objects were written by "


@pytest.mark.parametrize("name", ["embedded", "http", "flight"])
def test_a_result_without_archived_objects_has_a_warning(dagster_home: Path, server: Server, name: str) -> None:
    at = {"embedded": str(dagster_home), "http": server.url, "flight": server.flight_url}[name]
    is_here = name == "embedded"
    settings = {"DAGFUSION_ARCHIVED_AFTER_DAYS": str(ARCHIVED_AFTER_DAYS)} if is_here else {}
    with dagfusion_query.connect(at, environment="prod" if is_here else None, settings=settings) as connection:

        def taken(sql: str) -> tuple[Result, int]:
            result = connection.sql(sql)
            return result, result.to_arrow().num_rows

        for sql, rows in ((f"SELECT id FROM {ARCHIVED}", 2000), (f"SELECT count(*) AS n FROM {ARCHIVED}", 1)):
            with pytest.warns(LeftOutWarning, match=LEFT_OUT) as raised:
                result, count = taken(sql)
            assert count == rows
            assert [str(one.message) for one in raised] == list(result.warnings)
            assert name == "flight" or raised[0].filename == __file__  # there it comes after the last row
            assert (result.stats.files_total, result.stats.files_left_out) == (2, 1)
        explanation = connection.explain(f"SELECT id FROM {ARCHIVED}")
        assert [scan.files_left_out for scan in explanation.scans] == [1]
        result, count = taken(f"SELECT id FROM {ARCHIVED} WHERE state <> 'TX'")
        assert (count, result.warnings, result.stats.files_left_out) == (2000, (), 0)


def test_the_command_line_shows_warnings_on_stderr(doors: Doors) -> None:
    command = doors.open("cli-http")
    assert isinstance(command, CommandLine)
    for form in ("csv", "table"):
        done = command.run("sql", f"SELECT count(*) AS n FROM {ARCHIVED}", f"--format={form}")
        assert done.code == 0
        assert done.err.count(f"warning: {LEFT_OUT}") == 1
        assert b"2000" in done.out
    shown = command.run("explain", f"SELECT id FROM {ARCHIVED}")
    assert b"1 archived files left out" in shown.out

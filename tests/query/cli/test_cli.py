"""The command line, over a plain DAGSTER_HOME and files on local disk."""

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_query.cli.main import main

TABLE = "local_silver_tax_id.orgs"


class Outcome(NamedTuple):
    code: int
    out: bytes
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture(scope="module")
def dagster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three partitions of one asset, logged to SQLite by Dagster itself."""
    home = tmp_path_factory.mktemp("dagster_home")
    lake = tmp_path_factory.mktemp("lake")
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for number, state in enumerate(["CA", "NY", "TX"]):
            path = lake / f"{state}.parquet"
            rows = pa.table({"id": [10 * number, 10 * number + 1], "tags": [["a"], None]})
            pq.write_table(rows, path)
            instance.report_runless_asset_event(_materialization(path, state, number))
    return home


@pytest.fixture
def cli(
    dagster_home: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Cli:
    for name in [name for name in os.environ if name.startswith(("DAGFUSION_", "AWS_", "DAGSTER_HOME", "ENVIRONMENT"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home))

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["dagfusion", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfdbinary.readouterr()
        code = stopped.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err.decode())

    return run


def test_tables_lists_what_is_materialized(cli: Cli) -> None:
    (table,) = json.loads(cli("tables", "--format", "json").out)

    assert table["name"] == TABLE
    assert table["asset_key"] == ["Silver", "TaxID", "orgs"]
    assert table["partition_columns"] == ["state"]
    assert dict(table["columns"]) == {"id": "int64", "tags": "list<item: string>", "state": "string"}
    assert (table["partitions"], table["rows"]) == (3, 6)


def test_sql_shows_a_table_and_what_it_cost(cli: Cli) -> None:
    outcome = cli("sql", f"SELECT id, state FROM {TABLE} WHERE state = 'NY' ORDER BY id")

    assert outcome.code == 0
    assert [line.split("│")[1:3] for line in outcome.out.decode().splitlines() if "│" in line] == [
        [" 10 ", " NY    "],
        [" 11 ", " NY    "],
    ]
    assert "2 rows; 1 of 3 files read" in outcome.err


def test_a_table_shows_as_many_rows_as_asked(cli: Cli) -> None:
    outcome = cli("sql", f"SELECT id FROM {TABLE}", "--max-rows", "2")

    assert outcome.out.decode().count("│") == 2 * 2
    assert "4 more rows" in outcome.err
    assert "6 rows; 3 of 3 files read" in outcome.err


def test_nothing_is_cut_where_there_is_no_terminal(cli: Cli) -> None:
    long = "x" * 500

    assert long in cli("sql", f"SELECT '{long}' AS a, '{long}' AS b").out.decode()
    assert TABLE in cli("tables").out.decode()


def test_json_csv_and_arrow_hold_all_rows_and_nothing_else(cli: Cli) -> None:
    query = f"SELECT id, tags, state FROM {TABLE} ORDER BY id"

    as_json = cli("sql", query, "--format", "json")
    as_csv = cli("sql", query, "--format", "csv")
    as_arrow = cli("sql", query, "--format", "arrow")

    assert json.loads(as_json.out)[:2] == [
        {"id": 0, "tags": ["a"], "state": "CA"},
        {"id": 1, "tags": None, "state": "CA"},
    ]
    assert list(csv.reader(io.StringIO(as_csv.out.decode())))[:3] == [
        ["id", "tags", "state"],
        ["0", '["a"]', "CA"],
        ["1", "", "CA"],
    ]
    assert pa.ipc.open_stream(as_arrow.out).read_all()["id"].to_pylist() == [0, 1, 10, 11, 20, 21]
    assert {as_json.err, as_csv.err, as_arrow.err} == {""}


def test_an_empty_result_is_valid_in_every_format(cli: Cli) -> None:
    query = f"SELECT id FROM {TABLE} WHERE id < 0"

    assert json.loads(cli("sql", query, "--format", "json").out) == []
    assert cli("sql", query, "--format", "csv").out == b'"id"\n'
    assert pa.ipc.open_stream(cli("sql", query, "--format", "arrow").out).read_all().num_rows == 0


def test_values_that_json_has_no_type_for(cli: Cli) -> None:
    query = """SELECT DATE '2024-01-05' AS d, CAST(1.50 AS DECIMAL(5, 2)) AS m, X'00ff' AS b,
                      TIMESTAMP '2024-01-05T01:02:03.000000004' AS t"""

    assert json.loads(cli("sql", query, "--format", "json").out) == [
        {"d": "2024-01-05", "m": "1.50", "b": "AP8=", "t": "2024-01-05T01:02:03.000000004"}
    ]


def test_columns_of_one_name_are_shown_each(cli: Cli) -> None:
    query = f"SELECT a.state, b.state, a.id FROM {TABLE} a JOIN {TABLE} b ON a.id + 10 = b.id WHERE a.id = 0"

    assert "│ CA    │ NY    │  0 │" in cli("sql", query).out.decode()
    assert json.loads(cli("sql", query, "--format", "json").out) == [{"state": "CA", "state_2": "NY", "id": 0}]
    assert cli("sql", query, "--format", "csv").out.decode().splitlines()[1] == '"CA","NY",0'


def test_intervals_are_iso_8601(cli: Cli) -> None:
    query = "SELECT INTERVAL '1 month 2 days 3.5 seconds' AS i"

    assert json.loads(cli("sql", query, "--format", "json").out) == [{"i": "P1M2DT3.5S"}]
    assert cli("sql", query, "--format", "csv").out.decode().splitlines() == ['"i"', '"P1M2DT3.5S"']


def test_the_statement_comes_from_a_file_or_from_stdin(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "query.sql"
    file.write_text("SELECT 7 AS n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 8 AS n"))

    assert json.loads(cli("sql", "-f", str(file), "--format", "json").out) == [{"n": 7}]
    assert json.loads(cli("sql", "--format", "json").out) == [{"n": 8}]


def test_explain_says_what_is_read_and_why(cli: Cli) -> None:
    outcome = cli("explain", f"SELECT * FROM {TABLE} WHERE state = 'CA' AND id >= 0")
    text = outcome.out.decode()

    assert outcome.code == 0
    assert "reads 1 of 3 files" in text
    assert "skips 2 files by its partition values" in text
    assert "skips 0 files by its statistics" in text
    assert "CA.parquet" in text
    assert "DataSourceExec" in text


def test_explain_as_json(cli: Cli) -> None:
    (explanation,) = json.loads(cli("explain", f"SELECT * FROM {TABLE} WHERE state = 'CA'", "--format", "json").out)

    assert explanation["scans"][0]["partitions"] == ["CA"]
    assert explanation["path"] == "splice"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sql", "SELECT * FROM orgs"], 1, f"error: there is no table orgs: did you mean {TABLE}?"),
        (["sql", "SELEC 1"], 1, "error: syntax error at line 1, column 1"),
        (["sql", "SELECT 1", "--file", "x.sql"], 2, "not both"),
        (["sql", "--file", "missing.sql"], 2, "missing.sql cannot be read"),
        (["sql", "SELECT 1", "--format", "xml"], 2, "xml"),
        (["tables", "--environment", "A-B"], 1, "an environment's name must be a lower-case identifier such as uat"),
        (["tables", "--event-log", "/nonexistent"], 1, "/nonexistent"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_errors_are_clear_and_on_stderr(cli: Cli, arguments: list[str], code: int, message: str) -> None:
    outcome = cli(*arguments)

    assert (outcome.code, outcome.out) == (code, b"")
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_without_an_event_log_it_says_how_to_get_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_HOME")

    outcome = cli("tables")

    assert outcome.code == 1
    assert "dagfusion up" in outcome.err
    assert "DAGFUSION_EVENT_LOG" in outcome.err


def _materialization(path: Path, state: str, number: int) -> dg.AssetMaterialization:
    ids = [10 * number, 10 * number + 1]
    record = {
        "version": 1,
        "uri": f"file://{path}",
        "size_bytes": path.stat().st_size,
        "etag": None,
        "modified": "2024-01-15T12:00:00Z",
        "rows": 2,
        "partition": [{"name": "state", "type": "string", "value": state}],
        "schema": {
            "fingerprint": "0",
            "fields": [
                {"name": "id", "type": "int64", "nullable": True},
                {
                    "name": "tags",
                    "type": {"list": {"name": "item", "type": "string", "nullable": True}},
                    "nullable": True,
                },
            ],
        },
        "columns": {"id": {"min": ids[0], "max": ids[1], "nulls": 0}, "tags": {"nulls": 1}},
    }
    key = dg.AssetKey(["Silver", "TaxID", "orgs"])
    return dg.AssetMaterialization(key, partition=state, metadata={"dagfusion/file": record})

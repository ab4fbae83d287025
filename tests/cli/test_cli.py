"""The command line, over a plain DAGSTER_HOME and files on local disk."""

import csv
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest

from tests.cli.conftest import TABLE, Cli


@pytest.mark.usefixtures("heavy")
def test_tables_lists_what_is_materialized(cli: Cli) -> None:
    (table,) = json.loads(cli("tables", "--format", "json").out)

    assert table["name"] == TABLE
    assert table["asset_key"] == ["Silver", "TaxID", "orgs"]
    assert table["partition_columns"] == ["state"]
    assert dict(table["columns"]) == {"id": "int64", "tags": "list<item: string>", "state": "string"}
    assert (table["partitions"], table["rows"]) == (3, 6)


@pytest.mark.usefixtures("heavy")
def test_sql_shows_a_table_and_what_it_cost(cli: Cli) -> None:
    outcome = cli("sql", f"SELECT id, state FROM {TABLE} WHERE state = 'NY' ORDER BY id")

    assert outcome.code == 0
    assert [line.split("│")[1:3] for line in outcome.out.decode().splitlines() if "│" in line] == [
        [" 10 ", " NY    "],
        [" 11 ", " NY    "],
    ]
    assert "2 rows; 1 of 3 files read" in outcome.err


@pytest.mark.usefixtures("heavy")
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
    assert cli("sql", query, "--format", "csv").out == b"id\r\n"
    assert pa.ipc.open_stream(cli("sql", query, "--format", "arrow").out).read_all().num_rows == 0


def test_values_that_json_has_no_type_for(cli: Cli) -> None:
    query = """SELECT DATE '2024-01-05' AS d, CAST(1.50 AS DECIMAL(5, 2)) AS m, X'00ff' AS b,
                      TIMESTAMP '2024-01-05T01:02:03.000000004' AS t"""

    assert json.loads(cli("sql", query, "--format", "json").out) == [
        {"d": "2024-01-05", "m": "1.50", "b": "AP8=", "t": "2024-01-05T01:02:03.000000004"}
    ]


@pytest.mark.usefixtures("heavy")
def test_columns_of_one_name_are_shown_each(cli: Cli) -> None:
    query = f"SELECT a.state, b.state, a.id FROM {TABLE} a JOIN {TABLE} b ON a.id + 10 = b.id WHERE a.id = 0"

    assert "│ CA    │ NY    │  0 │" in cli("sql", query).out.decode()
    assert json.loads(cli("sql", query, "--format", "json").out) == [{"state": "CA", "state:1": "NY", "id": 0}]
    assert cli("sql", query, "--format", "csv").out.decode().splitlines()[1] == '"CA","NY",0'


def test_intervals_are_iso_8601(cli: Cli) -> None:
    query = "SELECT INTERVAL '1 month 2 days 3.5 seconds' AS i"

    assert json.loads(cli("sql", query, "--format", "json").out) == [{"i": "P1M2DT3.5S"}]
    assert cli("sql", query, "--format", "csv").out.decode().splitlines() == ["i", '"P1M2DT3.5S"']


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
    assert "\n  from 1 object in place\n" in text
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
        (["export", "orgs"], 1, f"error: there is no table orgs: did you mean {TABLE}? (if all of it was wiped"),
        (["export", TABLE], 1, "give --location, a folder for its Delta log"),
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


@pytest.mark.parametrize(
    "arguments", [["-h"], ["sql", "-h"], ["token", "-h"], ["token", "create", "-h"], ["serve", "-h"]]
)
def test_h_is_help_everywhere(cli: Cli, arguments: list[str]) -> None:
    outcome = cli(*arguments)

    assert outcome.code == 0
    assert outcome.out.startswith(b"Usage: dagfusion ")
    assert outcome.out == cli(*arguments[:-1], "--help").out


def test_the_version_is_that_of_the_package(cli: Cli) -> None:
    assert re.fullmatch(rb"dagfusion \d+\.\d+\.\d+\S*\n", cli("--version").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.usefixtures("processes")
def test_the_shell_completes_commands(tmp_path: Path, shell: str) -> None:
    program = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'dagfusion'; from dagfusion_cli.main import main; main()",
    ]
    variables = {**os.environ, "HOME": str(tmp_path), "_DAGFUSION_COMPLETE": f"complete_{shell}"}
    words = {"COMP_WORDS": "dagfusion desc", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "dagfusion desc"}
    asked = {**variables, **words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}

    ran = subprocess.run(program, env=asked, capture_output=True, text=True, check=True, timeout=120)  # noqa: S603

    assert "describe" in ran.stdout


@pytest.mark.usefixtures("heavy")
def test_parameters_are_bound(cli: Cli) -> None:
    named = cli(
        "sql",
        f"SELECT id FROM {TABLE} WHERE state = $state AND id > $least",
        "-p",
        "state=NY",
        "-p",
        "least=10",
        "-F",
        "jsonl",
    )
    numbered = cli("sql", "SELECT $1 AS a, $2 AS b", "-p", "'7'", "-p", "2024-01-05", "-F", "jsonl")
    explained = cli("explain", f"SELECT id FROM {TABLE} WHERE state = $1", "-p", "NY")

    assert named.out == b'{"id":11}\n'
    assert numbered.out == b'{"a":"7","b":"2024-01-05"}\n'
    assert "reads 1 of 3 files" in explained.out.decode()
    assert cli("sql", "SELECT $1", "-p", "a=1", "-p", "2").code == 1


def test_describe_says_all_that_is_known(cli: Cli, dagster_home: Path) -> None:
    text = cli("describe", TABLE).out.decode()
    (document,) = json.loads(cli("describe", TABLE.upper(), "-F", "json").out)

    assert [line.split(maxsplit=1) for line in text.splitlines()[1:6]] == [
        ["asset", "Silver/TaxID/orgs"],
        ["location", document["location"]],
        ["rows", "6"],
        ["partitions", "3"],
        ["files", next(line for line in text.splitlines() if "3 files" in line).split(maxsplit=1)[1]],
    ]
    assert "│ state  │ string             │ yes      │ yes       │" in text
    assert document["location"].startswith("file:///")
    assert document["location"].endswith("/")
    assert (document["files"], document["partition_columns"], document["problem_code"]) == (3, ["state"], None)
    unknown = cli("describe", "orgs")
    assert (unknown.code, TABLE in unknown.err) == (1, True)
    del dagster_home


def test_export_writes_one_commit_for_what_has_changed(cli: Cli, tmp_path: Path) -> None:
    location = f"file://{tmp_path}/delta"

    first, again = (cli("export", TABLE, "--format", "delta", "--location", location) for _ in range(2))

    assert (first.code, first.out.decode()) == (0, f"{location}/: version 0, 3 files added, 0 removed\n")
    assert "polars.scan_delta takes partition values from paths" in first.err
    assert again.out.decode() == f"{location}/: version 0, nothing has changed\n"
    assert [path.name for path in (tmp_path / "delta" / "_delta_log").iterdir()] == ["00000000000000000000.json"]


def test_export_prints_the_warnings_of_the_table(
    cli: Cli, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(dagster_home, home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        refused = {"dagfusion/file": dg.MetadataValue.json({"version": 1, "uri": 7})}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(["Silver", "TaxID", "orgs"], partition="WA", metadata=refused)
        )
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    done = cli("export", TABLE, "--location", f"file://{tmp_path}/delta")
    described = cli("describe", TABLE)

    warnings = [line for line in described.err.splitlines() if line.startswith("warning: ")]
    assert (done.code, len(warnings)) == (0, 1)
    assert done.err.splitlines()[0] == warnings[0]


@pytest.mark.usefixtures("heavy")
def test_export_with_another_event_log_leaves_a_log_as_it_is(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = f"file://{tmp_path}/delta"
    assert cli("export", TABLE, "--location", location).code == 0
    (tmp_path / "fresh").mkdir()
    dg.DagsterInstance.local_temp(str(tmp_path / "fresh")).dispose()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "fresh"))

    refused = cli("export", TABLE, "--location", location)

    assert (refused.code, refused.out) == (1, b"")
    assert "has 3 files of it, and was not changed: check --event-log, --environment and DAGSTER_HOME" in refused.err
    assert len([*(tmp_path / "delta" / "_delta_log").iterdir()]) == 1


@pytest.mark.usefixtures("heavy")
def test_assets_that_are_pickled_are_one_line(
    cli: Cli, dagster_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    shutil.copytree(dagster_home, home)
    (tmp_path / "model").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "torn").write_bytes(b"PAR1 and no end PAR1")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        for name, file in (("model", "model"), ("features", "model"), ("torn", "torn")):
            event = dg.AssetMaterialization(name, metadata={"path": dg.MetadataValue.path(str(tmp_path / file))})
            instance.report_runless_asset_event(event)
    monkeypatch.setenv("DAGSTER_HOME", str(home))

    brief, every, known = cli("tables"), cli("tables", "--all"), cli("describe", "local_default.model")

    listed = brief.out.decode()
    assert TABLE in listed
    assert "local_default.torn" in listed
    assert "model" not in listed.replace(str(tmp_path), "")
    assert (
        brief.err
        == "2 assets are not Parquet, and no tables: `dagfusion tables --all` lists them, each with the reason\n"
    )
    assert {"local_default.model", "local_default.features"} <= {*re.findall(r"local_default\.\w+", every.out.decode())}
    assert "not Parquet" in every.out.decode()
    assert every.err == ""
    assert "not Parquet" in known.out.decode()
    codes = {table["name"]: table["problem_code"] for table in json.loads(cli("tables", "-F", "json").out)}
    assert codes == {
        TABLE: None,
        "local_default.features": "not_parquet",
        "local_default.model": "not_parquet",
        "local_default.torn": "undiscoverable",
    }

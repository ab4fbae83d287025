"""`sql -o FILE`: a file is there when it is whole, and says its format by its name."""

import json
import os
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from dagfusion_cli.options import OutputFormat, opened
from dagfusion_cli.output import encoder_of
from tests.cli.conftest import TABLE, Cli

QUERY = f"SELECT id, tags, state FROM {TABLE} ORDER BY id"
IDS = [0, 1, 10, 11, 20, 21]


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("x.parquet", lambda path: pq.read_table(path)["id"].to_pylist()),
        ("x.csv", lambda path: pl.read_csv(path)["id"].to_list()),
        ("x.json", lambda path: [row["id"] for row in json.loads(path.read_text())]),
        ("x.jsonl", lambda path: [json.loads(line)["id"] for line in path.read_text().splitlines()]),
        ("x.NDJSON", lambda path: pl.read_ndjson(path)["id"].to_list()),
        ("x.arrow", lambda path: pl.read_ipc(path)["id"].to_list()),
        ("x.feather", lambda path: pa.ipc.open_file(path).read_all()["id"].to_pylist()),
        ("x.arrows", lambda path: pa.ipc.open_stream(path.read_bytes()).read_all()["id"].to_pylist()),
        ("x.txt", lambda path: [int(line.split("│")[1]) for line in path.read_text().splitlines() if "│" in line]),
    ],
)
def test_the_name_says_the_format(cli: Cli, tmp_path: Path, name: str, read: Callable[[Path], list[int]]) -> None:
    outcome = cli("sql", QUERY, "-o", name, "--max-rows", "1")

    assert (outcome.code, outcome.out) == (0, b"")
    assert "6 rows; 3 of 3 files read" in outcome.err
    assert read(tmp_path / name) == IDS
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.usefixtures("heavy")
def test_the_format_that_is_asked_for_wins(cli: Cli, tmp_path: Path) -> None:
    assert cli("sql", QUERY, "-o", "x.csv", "-F", "jsonl").code == 0
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 6
    refused = cli("sql", QUERY, "-o", "x.xml")
    assert refused.code == 2
    assert ".parquet" in refused.err
    assert cli("sql", "SELECT 7 AS n", "-o", "-", "-F", "jsonl").out == b'{"n":7}\n'


@pytest.mark.usefixtures("heavy")
@pytest.mark.parametrize("query", ["SELEC 1", f"SELECT 1 / (id - id) FROM {TABLE}"])
def test_a_failed_query_leaves_what_was_there(cli: Cli, tmp_path: Path, query: str) -> None:
    (tmp_path / "x.csv").write_text("before")

    assert cli("sql", query, "-o", "x.csv").code == 1

    assert (tmp_path / "x.csv").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_an_interrupt_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("before")

    def interrupted() -> None:
        with opened(file) as out:
            out.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.csv", "before")]


def test_access_links_and_devices_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("before")
    real.chmod(0o640)
    link.symlink_to(real)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with opened(link) as out:
        out.write(b"after")
        assert real.read_text() == "before"
    with opened(Path(os.devnull)) as out:
        out.write(b"x")

    assert (real.read_text(), stat.S_IMODE(real.stat().st_mode), link.is_symlink()) == ("after", 0o640, True)
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("path", ["/nonexistent/x.csv", "/"])
def test_a_file_that_cannot_be_written_is_wrong_usage(path: str) -> None:
    with pytest.raises(typer.BadParameter, match="cannot be written"), opened(Path(path)):
        pytest.fail("it was opened")


@pytest.mark.parametrize("form", [form for form in OutputFormat if form != OutputFormat.table])
def test_no_rows_and_columns_of_one_name(form: OutputFormat) -> None:
    schema = pa.schema([("a", pa.int64()), ("a", pa.float64()), ("a:1", pa.string())])
    rows = pa.record_batch([[1], [float("nan")], ["x"]], schema=schema)

    text = encoded(form, schema, [rows])
    if form in (OutputFormat.json, OutputFormat.jsonl):
        row = json.loads(text)[0] if form == OutputFormat.json else json.loads(text)
        assert row == {"a": 1, "a:2": "NaN", "a:1": "x"}
    if form == OutputFormat.parquet:
        assert pq.read_table(BytesIO(text)).schema.names == ["a", "a:2", "a:1"]
    assert (encoded(form, schema, []) == b"") is (form == OutputFormat.jsonl)


@given(st.lists(st.lists(st.text(max_size=3), max_size=3), max_size=4))
def test_json_is_an_array_of_the_lines_of_jsonl(batches: list[list[str]]) -> None:
    schema = pa.schema([("a", pa.string())])
    rows = [pa.record_batch([batch], schema=schema) for batch in batches]

    lines = encoded(OutputFormat.jsonl, schema, rows).splitlines()

    assert json.loads(encoded(OutputFormat.json, schema, rows)) == [json.loads(line) for line in lines]


def encoded(form: OutputFormat, schema: pa.Schema, batches: list[pa.RecordBatch]) -> bytes:
    encoder = encoder_of(form)(schema)
    return b"".join(bytes(piece) for batch in batches for piece in encoder.write(batch)) + b"".join(
        map(bytes, encoder.finish())
    )

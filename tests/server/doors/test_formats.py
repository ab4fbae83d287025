"""Every result format by each of its media types, over a running service: what is negotiated is sent and documented."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_cli import options
from dagfusion_client.formats import Format
from tests.server.processes.process import Server

SQL = "SELECT id, state FROM local_silver_tax_id.orgs WHERE id < 3 ORDER BY id"
ROWS = [{"id": number, "state": "CA"} for number in range(3)]
READ: Mapping[Format, Callable[[bytes], list[dict[str, Any]]]] = {
    Format.arrow: lambda body: pa.ipc.open_stream(body).read_all().to_pylist(),
    Format.json: lambda body: [dict(zip(("id", "state"), row, strict=True)) for row in json.loads(body)["rows"]],
    Format.jsonl: lambda body: pl.read_ndjson(body).to_dicts(),
    Format.csv: lambda body: [
        {**row, "id": int(row["id"])} for row in csv.DictReader(io.StringIO(body.decode(), newline=""))
    ],
    Format.parquet: lambda body: pq.read_table(pa.BufferReader(body)).to_pylist(),
}
NAMES = [(form, name) for form in Format for name in form.row.media_types]


@pytest.mark.parametrize(("form", "name"), NAMES, ids=[name for _, name in NAMES])
def test_what_was_negotiated_is_sent(server: Server, form: Format, name: str) -> None:
    with server.client() as client:
        answer = client.post("/v1/sql", json={"sql": SQL}, headers={"Accept": f"text/html, {name};q=0.9"})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == name + form.row.parameters
    assert READ[form](answer.content) == ROWS


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/*"])
def test_a_format_of_the_body_is_sent_by_its_first_name(server: Server, form: Format, accept: str) -> None:
    with server.client() as client:
        answer = client.post("/v1/sql", json={"sql": SQL, "format": form}, headers={"Accept": accept})

    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == form.media_type + form.row.parameters
    assert READ[form](answer.content) == ROWS


def test_every_name_is_in_the_description(server: Server) -> None:
    with server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]

    assert [*paths["/v1/sql"]["post"]["responses"]["200"]["content"]] == [
        Format.json.media_type,
        *(name for form, name in NAMES if form is not Format.json),
    ]


def test_the_command_line_has_all_formats_and_the_table() -> None:
    assert {*options.OutputFormat} == {*Format, "table"}

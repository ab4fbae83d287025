"""Daft, unmodified and in an environment of its own, gives DagFusion's answers: it needs an older pyarrow."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import obstore
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dagfusion_pipeline import PartitionedS3ParquetIOManager
from tests.doctest.documents import blocks
from tests.pipeline.written import HOSTILE, Places, key_range
from tests.query.doors.iceberg.lake import Lake, rows_of
from tests.query.doors.iceberg.test_clients import partition, raw

LIBRARIES = ("daft==0.7.26", "pyarrow<26", "pyiceberg==0.12.0")
PLACE = "place"
Read = Callable[[str, Sequence[str]], list[tuple[Any, ...]]]


@pytest.fixture
def daft(lake: Lake, tmp_path: Path, processes: None, long: None) -> Read:  # noqa: ARG001  # it starts some
    """Read columns of a table with Daft, by the function in the guide."""
    code = (block.code for block in blocks(Path("docs/how-to/iceberg.md")) if block.language == "python")
    function = next(one for one in code if "rows_by_daft" in one)
    options = ["--quiet", "--no-project", "--isolated", "--python", sys.executable]
    program = ["uv", "run", *options, *(part for name in LIBRARIES for part in ("--with", name)), "python"]

    def read(table: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        found = tmp_path / "rows.arrow"
        script = str(Path(__file__).with_name("daft_rows.py"))
        command = [*program, script, function, str(found), lake.url, table, *columns]
        variables = {name: value for name, value in lake.variables.items() if name.startswith("AWS_")}
        done = subprocess.run(command, env=os.environ | variables, text=True, capture_output=True, check=False)  # noqa: S603
        assert done.returncode == 0, done.stderr
        with pa.ipc.open_file(found) as reader:
            return rows_of(reader.read_all())

    return read


def test_daft_reads_objects_with_ids(lake: Lake, s3_fields: dict[str, Any], name: str, daft: Read) -> None:
    """Hostile values, a NULL partition, a rewrite, and columns that are added, widened and dropped."""
    options: dict[str, Any] = {"field_ids": True, "partition_columns_in_files": True}
    manager = PartitionedS3ParquetIOManager(**s3_fields, prefix="iceberg", **options)
    places = Places(name, column=PLACE)
    first = places.of(HOSTILE, gone=pl.lit(1, pl.Int64), n=pl.int_range(len(HOSTILE)).cast(pl.Int32))
    lake.materialize(first, manager, tags=key_range(HOSTILE[0], HOSTILE[-1]))
    lake.materialize(places.of(["a/b"], n=pl.lit(2**40), more=pl.lit("é")), manager, partition_key="a/b")

    table, columns = f"uat_default.{name}", [PLACE, "n", "more", "gone"]
    written = obstore.get(lake.store, obstore.list(lake.store, f"iceberg/{name}").collect()[0]["path"])
    schema = pq.read_schema(pa.BufferReader(written.bytes()))
    nowhere = pa.Table.from_pylist([{PLACE: None, "n": 7}], schema)
    lake.report(name, "none", {**raw(lake, name, nowhere), "partition": [partition(PLACE, None)]})

    expected = rows_of(lake.own(f"SELECT {', '.join(columns)} FROM {table}"))
    assert {row[0] for row in expected} == {*HOSTILE, None}
    assert ("a/b", 2**40, "é", None) in expected
    assert daft(table, columns) == expected

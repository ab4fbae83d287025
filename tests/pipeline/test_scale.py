"""18,250 partitions and 5 million rows from one sorted stream, in bounded memory."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import datetime as dt, json, sys, time
from pathlib import Path
import polars as pl, pyarrow as pa
from obstore.store import MemoryStore
from polars.io.plugins import register_io_source
from dagfusion_pipeline.frames import read_frame
from dagfusion_pipeline.split import PartitionIndex
from dagfusion_pipeline.store import ObjectStore
from dagfusion_pipeline.writer import Target, WriteJob, write

DAYS, STATES, ROWS = 365, 50, 275
dates = [dt.date(2024, 1, 1) + dt.timedelta(day) for day in range(DAYS)]
states = [f"S{state:02}" for state in range(STATES)]

def rows_of(state, dates):
    rows = len(dates) * ROWS
    number = pl.int_range(rows, eager=True)
    text = number.cast(pl.String)
    return pl.DataFrame({
        "state": pl.repeat(state, rows, eager=True), "date": pl.Series([date for date in dates for _ in range(ROWS)]),
        **{f"number_{n}": number + n for n in range(4)}, **{f"text_{n}": "some text " + text for n in range(4)},
    })

def chunks(*_pushed_down):
    for state in states:
        for start in range(0, DAYS, 100):
            yield rows_of(state, dates[start : start + 100])

frame = read_frame(register_io_source(chunks, schema=rows_of("", dates[:1]).schema), "orgs")
keys = [(state, date) for state in states for date in dates]
values = {"state": pa.array([state for state, _ in keys]), "date": pa.array([date for _, date in keys])}
names = [f"{date}|{state}" for state, date in keys]
index = PartitionIndex("orgs", list(values), names, list(values.values()))
targets = [
    Target(name, f"orgs/{name}.parquet", {column: array[place] for column, array in values.items()})
    for place, name in enumerate(names)
]
schema = pa.schema([field for field in frame.schema if field.name not in values])
job = WriteJob("orgs", targets, schema, True, "zstd", 32, 64 << 20, None)
started = time.perf_counter()
pieces = (piece for table in frame.tables for piece in index.split(table))
written = write(job, pieces, ObjectStore(MemoryStore(), "memory:"))
seconds = time.perf_counter() - started
assert len({one.uri for one in written}) == DAYS * STATES
assert {one.rows for one in written} == {ROWS}
# Unlike ru_maxrss, it does not begin at what the process that started this one had.
(peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "mb": int(peak.split()[1]) / 1e3}))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("processes", "long")
def test_a_year_of_states_in_one_stream() -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)  # noqa: S603 - our own program
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["mb"] < 1000, measured
